"""One region in small, with nothing replaced but the engine: gateway, Redis and metering drain as processes of their
own, PostgreSQL beside them. Each can be killed, stopped and started while requests run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import redis

from freehold.common import ids
from freehold.wire.names import Section
from freehold.wire.publish import Publisher
from freehold.wire.records import (
    AccountRecord,
    KeyRecord,
    Limits,
    PriceRecord,
    PriceStep,
    ReplicaRecord,
    RouteRecord,
    TenantRecord,
)
from tests.faults.recorder import SECRET, Recording, question
from tests.integration.gateway.conftest import ROOT, Process, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from freehold.onebox.redis import EmbeddedRedis
    from tests.fakes.engine import Engine

DEADLINE = 30.0
KEY = "key_acme"
MILLION = 1_000_000
_ENDPOINT = ids.encode("ep", uuid.UUID("019a0000-0000-7000-8000-00000000e0e0"))

# As Celery's beat and worker do it: again and again, and an error is for the next time.
_DRAINING = """
import time, django
django.setup(set_prefix=False)
import redis
from django.db import DatabaseError, close_old_connections
from workers.jobs import billing, metering
while True:
    try:
        close_old_connections()
        metering.drain()
        billing.ensure_money_epoch()
        time.sleep(0.02)
    except (redis.RedisError, DatabaseError):
        time.sleep(0.1)
"""


class Drain:
    """The metering drain as a process."""

    def __init__(self, redis_url: str, log: Path) -> None:
        paths = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
        self._environment = {**os.environ, "PYTHONPATH": paths, "REDIS_URL": redis_url}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        """Starts it, without waiting: it needs a moment to import Django."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _DRAINING], env=self._environment, cwd=ROOT, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """kill -9. It must have been running."""
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()[-4000:]
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Leaves nothing behind."""
        if self._process is not None and self._process.poll() is None:
            self.kill()


@dataclass(frozen=True)
class Charge:
    """A row of the ledger of usage."""

    event: str
    prompt: int
    completion: int
    outcome: str
    estimated: bool


class Cell:
    """What a test of faults works with.

    Args:
        tenant: public id of a tenant that exists in PostgreSQL.
        database_url: of a role that sees every tenant's rows.

    Attributes:
        gateway, drain, redis: the processes.
        others: more gateways on the same Redis, where a test has started them.
        recordings: of every request made through `ask`.
    """

    def __init__(
        self, *, gateway: Process, drain: Drain, redis_server: EmbeddedRedis, tenant: str, database_url: str
    ) -> None:
        self.gateway, self.drain, self.redis = gateway, drain, redis_server
        self.tenant = tenant
        self._database_url = database_url
        self._version = 0
        self.recordings: list[Recording] = []
        self.others: list[Process] = []

    # What the control plane does

    def publish(
        self,
        *ports: int,
        served: str = "internal-name",
        max_model_len: int = 0,
        limits: Limits | None = None,
        account: AccountRecord | None = None,
        price: int = 0,
    ) -> None:
        """Key, tenant and a route to engines on these ports, by a newer version each time.

        `limits` are the key's; `price` is in nanos for a completion token, and a prompt costs nothing.
        """
        self._version += 1
        replicas = tuple(ReplicaRecord(id=f"rpl_{port}", host="127.0.0.1", port=port) for port in ports)
        route = RouteRecord(
            endpoint=_ENDPOINT, tenant=self.tenant, generation=1, task="generate",
            served_model_name=served, billing_mode="tokens", region="local", phase="Ready", weight_digest="sha256:w",
            engine_digest="sha256:e", serverless=False, max_model_len=max_model_len, replicas=replicas,
            created_at=self._version,
        )  # fmt: skip
        prices = PriceRecord(steps=(PriceStep(valid_from=0, completion=price * MILLION),))
        with redis.Redis.from_url(self.redis.url) as client:
            publisher = Publisher(client)

            def replace(section: Section, records: dict[str, Any]) -> None:
                publisher.replace(section, records, version=self._version)

            replace(Section.KEYS, {sha256(SECRET): KeyRecord(id=KEY, tenant=self.tenant, limits=limits)})
            replace(Section.TENANTS, {self.tenant: TenantRecord(slug="acme", cache_salt="salt-acme")})
            replace(Section.PRICES, {"": prices} if price else {})
            replace(Section.ACCOUNTS, {self.tenant: account} if account else {})
            replace(Section.ROUTES, {"acme/chat": route})  # last: see is_followed

    async def is_followed(self) -> bool:
        """Whether every gateway goes by what was published last."""
        answers = [await gateway.http.get("/v1/models/acme/chat") for gateway in (self.gateway, *self.others)]
        return all(answer.is_success and answer.json()["created"] == self._version for answer in answers)

    def flush(self) -> None:
        """Redis forgets everything."""
        with redis.Redis.from_url(self.redis.url) as client:
            client.flushall()

    # Requests

    async def ask(
        self, *, n: int = 1, stop_after: int | None = None, gateway: Process | None = None, **fields: Any
    ) -> Recording:
        """Starts one streamed request; its recording is kept."""
        recording = Recording(question(n=n, **fields), choices=n, stop_after=stop_after)
        self.recordings.append(recording)
        return await recording.start((gateway or self.gateway).port)

    async def send(self, request: bytes) -> Recording:
        """A request that is not recorded, and its whole answer."""
        return await (await Recording(request).start(self.gateway.port)).end()

    async def load(self, until: asyncio.Event, *, at_once: int = 4, **fields: Any) -> None:
        """So many requests at a time, one after the other, until told to end. Each must be answered in full."""

        async def one_after_another() -> None:
            while not until.is_set():
                recording = await (await self.ask(**fields)).end()
                assert (recording.status, recording.done, recording.failed) == (200, True, False), recording

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(one_after_another())

    # The ledger

    def rows(self) -> list[Charge]:
        """The ledger as PostgreSQL has it now. Raises psycopg.OperationalError while it is away."""
        columns = "event_id, prompt_tokens, completion_tokens, outcome, estimated"
        with psycopg.connect(self._database_url, connect_timeout=5) as connection:
            rows = connection.execute(f"SELECT {columns} FROM metering_usageevent").fetchall()  # noqa: S608 - our names
        return [Charge(event.hex, *rest) for event, *rest in rows]

    async def ledger(self) -> dict[str, Charge]:
        """The ledger once it holds everything that the gateway has settled; fails on duplicates and rejects."""
        await until(self.is_drained, "the last record in the ledger")
        rows = self.rows()
        twice = [event for event, times in Counter(row.event for row in rows).items() if times > 1]
        assert twice == [], "an event is there more than once"
        with psycopg.connect(self._database_url) as connection:
            assert connection.execute("SELECT reason FROM metering_usagereject").fetchall() == []
        return {row.event: row for row in rows}

    async def is_drained(self) -> bool:
        """Whether nothing is in flight and metering has confirmed all that was settled."""
        return all([await _is_drained(gateway) for gateway in (self.gateway, *self.others)])

    async def reconcile(self, *, in_flight: int = 0, engine: Engine | None = None) -> dict[str, Charge]:
        """Compares the ledger with the recordings: nothing lost, nothing twice, nothing made up.

        Args:
            in_flight: frames that each choice of a request that did not end may be billed beyond what was recorded.
            engine: tells which requests exist whose head never came; without it there must be none of those.
        """
        ledger = await self.ledger()
        known: set[str] = set()
        for recording in self.recordings:
            event = recording.event or _event_of(recording, engine)
            charge = ledger.get(event)
            known.add(event)
            slack = 0 if recording.done else in_flight * recording.choices
            relayed = sum(recording.usage.values()) if recording.usage else recording.tokens
            if charge is None:
                assert recording.status != 200 and relayed == 0, f"lost: {recording}"  # noqa: PT018
                continue
            assert relayed <= charge.completion <= relayed + slack, f"{charge} for {relayed} relayed: {recording}"
            assert not charge.estimated, charge
            if recording.status == 200:
                assert recording.headers["x-accel-buffering"] == "no"
        assert ledger.keys() <= known, "what nobody was sent is billed"
        return ledger


async def _is_drained(gateway: Process) -> bool:
    settled, confirmed = await gateway.gauge("journal_sequence"), await gateway.gauge("watermark")
    return await gateway.gauge("requests_in_flight") == 0 and settled == confirmed


def _event_of(recording: Recording, engine: Engine | None) -> str:
    """The id under which the engine got a request whose head never came back."""
    asked = engine.received if engine is not None else []
    marker = recording.marker
    return next((r.headers["x-request-id"] for r in asked if marker in str(r.body)), "")


async def until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> None:
    """Polls until the condition holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < deadline, f"{what} did not come about within {seconds} s"
        await asyncio.sleep(0.02)


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    with open(f"/proc/{pid}/statm") as file:  # noqa: PTH123 - not a file of ours
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def freeze(pid: int) -> None:
    """SIGSTOP."""
    os.kill(pid, signal.SIGSTOP)


def thaw(pid: int) -> None:
    """SIGCONT."""
    os.kill(pid, signal.SIGCONT)
