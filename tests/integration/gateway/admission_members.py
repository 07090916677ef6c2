"""Several gateways' Admission on one real Redis, each behind a wire that can be cut or delayed, and billing's part."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis

from freehold.gateway.admission.admission import Admission
from freehold.gateway.admission.ask import Ask
from freehold.gateway.admission.session import Lease
from freehold.gateway.admission.ticket import Ticket
from freehold.gateway.auth import Caller
from freehold.gateway.errors import ApiError
from freehold.gateway.journal import Journal
from freehold.gateway.settings import Settings
from freehold.wire import names
from freehold.wire.follow import Snapshot
from freehold.wire.records import (
    AccountRecord,
    KeyRecord,
    Limits,
    PriceRecord,
    PriceStep,
    RouteRecord,
    TenantRecord,
)
from freehold.wire.usage import UsageRecord

TENANT, KEY, ENDPOINT, MODEL = "tnt_1", "key_1", "ep_1", "acme/chat"
TOKEN = 1_000  # nanos a token costs
QUICK = Lease(seconds=1.0, renew_seconds=0.1, patience_seconds=2.0)
DEADLINE = 10.0


async def until(condition: Callable[[], object]) -> None:
    """Polls with a deadline."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


class Wire:
    """A TCP connection to Redis that a test can hold up or cut.

    Attributes:
        url: where the gateway finds Redis.
        asks, replies: of the connections there are; what goes there waits while it is clear.
        open: whether new connections are taken.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self.asks, self.replies = _open_gate(), _open_gate()
        self._gates = [self.asks, self.replies]
        self.open = True

    async def listen(self) -> asyncio.Server:
        """Begins."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.url = f"redis://:{self._target.password}@127.0.0.1:{port}/0"
        return server

    def cut(self) -> None:
        """Ends every connection; new ones are refused until `mend`."""
        self.open = False
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        """Ends every connection and what serves it."""
        self.cut()
        for gate in self._gates:
            gate.set()
        while self._writers:  # noqa: ASYNC110 - tasks of asyncio's own
            await asyncio.sleep(0.001)

    def stall(self, *, asks: bool = False, replies: bool = False) -> asyncio.Event:
        """Holds up one direction of the connections there are; later ones are not. Returns what sets it free."""
        gate = self.asks if asks else self.replies
        gate.clear()
        if asks:
            self.asks = _open_gate()
            self._gates.append(self.asks)
        if replies:
            self.replies = _open_gate()
            self._gates.append(self.replies)
        return gate

    def mend(self) -> None:
        """New connections are taken again."""
        self.open = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers |= {writer, back}
        asks, replies = self.asks, self.replies
        try:
            await asyncio.gather(self._pump(reader, back, asks), self._pump(there, writer, replies))
        finally:
            self._writers -= {writer, back}

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await gate.wait()
                writer.write(data)
        await gate.wait()
        writer.close()


def _open_gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


class Member:
    """One gateway.

    Attributes:
        tickets: admitted and not settled.
    """

    def __init__(self, name: str, wire: Wire, snapshot: Snapshot, state: Path, lease: Lease) -> None:
        state.mkdir(exist_ok=True)
        self.name, self.wire, self.snapshot, self.state, self.lease = name, wire, snapshot, state, lease
        self.tickets: list[Ticket] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """As the process does, also after a former life."""
        settings = Settings(redis_url=self.wire.url, state=self.state, gateway_id=self.name)
        self.journal = Journal(self.state / "journal", segment_bytes=1 << 20, reserve_bytes=0)
        self.admission = Admission(snapshot=self.snapshot, settings=settings, journal=self.journal, lease=self.lease)
        self._task = asyncio.create_task(self.admission.run())

    async def begin(self) -> None:
        """Starts and waits until Redis decides."""
        self.start()
        await until(lambda: self.admission.online)

    async def die(self) -> None:
        """As by kill -9: nothing is given back."""
        self.wire.cut()
        await self._stop()
        await self.admission.leave()
        self.tickets.clear()

    async def end(self) -> None:
        """In order."""
        await self._stop()
        await self.admission.leave()

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
            self.journal.shut()

    def ask(self, want: Ask) -> asyncio.Future[Ticket | ApiError]:
        """Reserves."""
        future: asyncio.Future[Ticket | ApiError] = asyncio.get_running_loop().create_future()

        def decided(answer: Ticket | ApiError) -> None:
            assert not future.done()
            future.set_result(answer)
            if isinstance(answer, Ticket):
                self.tickets.append(answer)

        self.admission.reserve(want, decided)
        return future

    def settle(self, ticket: Ticket, prompt: int, completion: int, tenant: str = TENANT) -> int:
        """Journal and admission, as the relay does. Returns nanos."""
        record = UsageRecord(
            event_id=uuid.uuid4().hex, occurred_at_ns=time.time_ns(), tenant=tenant, key=KEY, endpoint=ENDPOINT,
            generation=1, model=MODEL, route="/v1/chat/completions", region="local", weight_digest="w",
            engine_digest="e", outcome="ok", prompt_tokens=prompt, completion_tokens=completion,
        )  # fmt: skip
        self.journal.open(0, record)
        self.journal.close(record.event_id, record)
        if ticket in self.tickets:
            self.tickets.remove(ticket)
        self.admission.settle(ticket, record, self.journal.sequence)
        return (prompt + completion) * TOKEN


class Members:
    """Gateways and the control plane around them.

    Attributes:
        snapshot: what all gateways know.
        client: the test's own connection.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.snapshot = Snapshot()
        self.snapshot.taken_at, self.snapshot.priced = time.time(), True
        step = PriceStep(valid_from=0, prompt=TOKEN * 1_000_000, completion=TOKEN * 1_000_000)
        self.snapshot.prices[""] = PriceRecord(steps=(step,))
        self.all: list[Member] = []
        self.key, self.tenant, self.endpoint = Limits(), Limits(), Limits()
        self.epochs = 0

    def limit(self, *, key: Limits | None = None, tenant: Limits | None = None, endpoint: Limits | None = None) -> None:
        """Publishes limits."""
        self.key, self.tenant, self.endpoint = key or Limits(), tenant or Limits(), endpoint or Limits()
        self.snapshot.changes += 1

    def prepay(self, balance: int, *, credit: int = 0) -> None:
        """The tenant pays from a balance (nanos), which is published, with an epoch."""
        self.snapshot.accounts[TENANT] = AccountRecord(prepaid=True, outage_credit_nanos=credit)
        self.snapshot.changes += 1
        self.publish(balance)
        self.begin_epoch()

    def publish(self, balance: int) -> None:
        """Billing: the balance as the ledger has it."""
        self.client.hset(names.money(TENANT), mapping={"b": balance, "v": time.time_ns()})

    def begin_epoch(self, expected: tuple[str, ...] = ()) -> None:
        """Billing: every balance is published."""
        self.epochs += 1
        mapping: dict[Any, Any] = {"id": f"epoch-{self.epochs}", "at": self.now(), "expected": json.dumps(expected)}
        self.client.hset(names.MONEY_EPOCH, mapping=mapping)

    def now(self) -> int:
        """Redis's own clock, in ms."""
        seconds, micros = self.client.time()
        return int(seconds) * 1_000 + int(micros) // 1_000

    def want(self, *, prompt: int = 0, max_tokens: int = 0, outputs: int = 1, model_len: int = 4_096) -> Ask:
        """A request of the key to the endpoint."""
        route = RouteRecord(
            endpoint=ENDPOINT, tenant=TENANT, generation=1, task="generate", served_model_name="x",
            billing_mode="tokens", region="local", phase="Ready", weight_digest="w", engine_digest="e",
            max_model_len=model_len, limits=self.endpoint,
        )  # fmt: skip
        key = KeyRecord(id=KEY, tenant=TENANT, limits=self.key)
        caller = Caller(key, TenantRecord(slug="acme", cache_salt="s", limits=self.tenant))
        return Ask(caller, route, MODEL, prompt, outputs, max_tokens, 0)

    def held(self) -> int:
        """Nanos held by all gateways, as Redis adds them up."""
        return int(self.client.hget(names.money(TENANT), "h") or 0)

    def held_by(self, member: Member) -> int:
        """Nanos held by one, as Redis has it."""
        return int(self.client.hget(names.held(member.name), f"m:{TENANT}") or 0)

    def in_flight(self, scope: str = f"k:{KEY}") -> int:
        """Requests in flight at all gateways, as Redis adds them up."""
        return int(self.client.hget(names.quota(scope), "c") or 0)

    def is_open(self) -> bool:
        """Whether balances decide."""
        return self.client.get(names.MONEY_OPEN) == self.client.hget(names.MONEY_EPOCH, "id") is not None


@asynccontextmanager
async def membership(
    url: str, client: redis.Redis, folder: Path, count: int = 4, lease: Lease = QUICK
) -> AsyncIterator[Members]:
    """`count` gateways, not started yet. Ends those that were."""
    members = Members(client)
    async with AsyncExitStack() as stack:
        for number in range(count):
            wire = Wire(url)
            server = await wire.listen()
            stack.callback(server.close)
            members.all.append(Member(f"g{number}", wire, members.snapshot, folder / f"g{number}", lease))
        try:
            yield members
        finally:
            for member in members.all:
                if hasattr(member, "admission"):
                    await member.end()
            for member in members.all:
                await member.wire.close()
