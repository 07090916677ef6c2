"""What a relay leaves behind: paused connections, attempts under way, engines that a request broke."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from freehold.gateway.errors import ApiError
from freehold.gateway.meter import Outcome
from freehold.gateway.relay import Core, Relay
from freehold.gateway.routing.router import Router
from freehold.gateway.settings import Settings
from freehold.gateway.surface import bodies
from freehold.gateway.waiting import WaitingRoom
from freehold.wire.follow import Snapshot
from freehold.wire.records import ReplicaRecord
from tests.unit.gateway.conftest import CALLER, ROUTE, Books

if TYPE_CHECKING:
    from collections.abc import Callable

    from freehold.gateway.admission.admission import Admission
    from freehold.gateway.admission.ask import Ask
    from freehold.gateway.admission.ticket import Ticket
    from freehold.gateway.http1 import Connection
    from freehold.gateway.upstream import Pool, Upstream

REPLICA = ReplicaRecord(id="rpl_1", host="127.0.0.1", port=1)
FRAME = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


class Client:
    """A client connection; `blocked`: it takes what is written and asks for no more."""

    def __init__(self) -> None:
        self.job: Relay | None = None
        self.blocked = False
        self.was_cut = False
        self.statuses: list[int] = []

    def begin(self, headers: bytes) -> None:
        """A stream begins."""

    def write(self, data: bytes) -> None:
        """A part of it."""
        if self.blocked and self.job is not None:
            self.job.client_blocked()

    def end(self) -> None:
        """It ends."""

    def cut(self) -> None:
        """It is dropped."""
        self.was_cut = True

    def respond(self, status: int, *_: object) -> None:
        """An answer in one piece."""
        self.statuses.append(status)

    def respond_error(self, error: Any, *_: object) -> None:
        """An error in one piece."""
        self.statuses.append(error.status)


class Engine:
    """An upstream connection."""

    authority = b"127.0.0.1:1"

    def __init__(self) -> None:
        self.paused = self.aborted = False
        self.sent = 0

    def send(self, listener: object, data: bytes) -> None:
        """Takes a request."""
        self.sent += 1

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def abort(self) -> None:
        self.aborted = True


class Engines:
    """A pool with kept connections, then fresh ones; `reachable` lets those come."""

    def __init__(self, kept: int = 0) -> None:
        self.kept = [Engine() for _ in range(kept)]
        self.all = list(self.kept)
        self.given_back: list[Engine] = []
        self.reachable = asyncio.Event()
        self.reachable.set()

    def take(self, replica: ReplicaRecord) -> Engine | None:
        return self.kept.pop() if self.kept else None

    async def connect(self, replica: ReplicaRecord, served_model_name: str) -> Engine:
        await self.reachable.wait()
        self.all.append(Engine())
        return self.all[-1]

    def give_back(self, engine: Engine) -> None:
        self.given_back.append(engine)


class Grants:
    """An admission that lets everything pass at once, or, once `later` is a list, when that is called."""

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] | None = None
        self.refusal: ApiError | None = None
        self.abandoned: list[Ticket] = []

    def reserve(self, ask: Ask, decided: Callable[[Any], None]) -> None:
        ticket = cast("Ticket", SimpleNamespace(max_tokens=0, headers=b""))
        if self.refusal is not None:
            decided(self.refusal)
        elif self.later is None:
            decided(ticket)
        else:
            self.later.append(lambda: decided(ticket))

    def settle(self, ticket: Ticket, record: object, sequence: int) -> None:
        """Nothing was taken."""

    def abandon(self, ticket: Ticket) -> None:
        self.abandoned.append(ticket)


def relay(books: Books, client: Client, engines: Engines, admission: Grants | None = None, replicas: int = 3) -> Relay:
    """A streamed chat."""
    body = {"model": "acme/chat", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    settings = Settings(redis_url="", state=Path("/nowhere"), gateway_id="gw", hold_requests=1)
    snapshot = Snapshot()
    snapshot.keys[CALLER.digest] = CALLER.key
    snapshot.tenants[CALLER.key.tenant] = CALLER.tenant

    def admit(job: Relay) -> None:
        job.open()
        books.meter.flush()
        job.go()

    core = Core(
        loop=asyncio.get_running_loop(),
        settings=settings,
        snapshot=snapshot,
        pool=cast("Pool", engines),
        router=Router(),
        meter=books.meter,
        admission=cast("Admission", admission or Grants()),
        waiting=WaitingRoom(snapshot, settings.hold_requests),
        admit=admit,
        report=lambda *_: None,
    )
    route = replace(ROUTE, replicas=tuple(replace(REPLICA, id=f"rpl_{n}") for n in range(1, replicas + 1)))
    call = bodies.parse(bodies.CHAT, msgspec.json.encode(body))
    return Relay(core, cast("Connection", client), CALLER, bodies.CHAT, call, route)


@pytest.fixture
def life(books: Callable[..., Books]) -> Books:
    """A journal and slots."""
    return books()


async def settle() -> None:
    """Lets tasks run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_engine_paused_by_the_last_frame_can_send_its_end(life: Books) -> None:
    client, engines = Client(), Engines()
    job = relay(life, client, engines)
    job.start()
    await settle()
    job.upstream_head(200)
    client.blocked = True
    job.upstream_data(FRAME)
    assert engines.all[0].paused
    job.upstream_data(b"data: [DONE]\n\n")
    assert job.outcome is Outcome.OK
    assert not engines.all[0].paused


@pytest.mark.parametrize("end", ["cut", "client_lost"])
async def test_an_attempt_under_way_ends_with_its_request(life: Books, end: str) -> None:
    engines = Engines()
    engines.reachable.clear()
    job = relay(life, Client(), engines)
    job.start()
    await settle()
    getattr(job, end)()
    engines.reachable.set()
    await settle()
    assert engines.all == []


async def test_a_connection_that_comes_too_late_is_kept_for_others(life: Books) -> None:
    engines = Engines()
    job = relay(life, Client(), engines)
    job.start()
    job.cut()
    late = Engine()
    job._forward(cast("Upstream", late), fresh=True)
    assert (late.sent, engines.given_back) == (0, [late])


async def test_a_mistake_of_ours_at_the_decision_is_an_answer_and_gives_everything_back(life: Books) -> None:
    client, admission = Client(), Grants()
    job = relay(life, client, Engines(), admission)

    def admit(_: Relay) -> None:
        raise LookupError

    job._core.admit = admit
    job.start()
    assert client.statuses == [500]
    assert len(admission.abandoned) == 1


async def test_a_mistake_of_ours_when_all_is_over_leaves_no_client_waiting(life: Books) -> None:
    client, admission = Client(), Grants()
    admission.refusal = ApiError(402, "No.")
    job = relay(life, client, Engines(), admission)

    def report(*_: object) -> None:
        raise LookupError

    job._core.report = report
    job.start()
    assert (client.statuses, client.was_cut) == ([], True)


async def test_a_mistake_of_ours_at_a_new_connection_is_an_answer(life: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    client, engines = Client(), Engines()

    def send(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr(Engine, "send", send)
    relay(life, client, engines).start()
    await settle()
    assert client.statuses == [500]
    assert engines.all[0].aborted


async def test_a_request_that_breaks_engines_is_made_again_once_only(life: Books) -> None:
    client, engines = Client(), Engines()
    job = relay(life, client, engines)
    job.start()
    for _ in range(2):
        await settle()
        job.upstream_lost("reset")
    await settle()
    assert (len(engines.all), client.statuses) == (2, [503])


async def test_a_kept_connection_that_was_closed_meanwhile_counts_for_nothing(life: Books) -> None:
    client, engines = Client(), Engines(kept=3)
    job = relay(life, client, engines)
    job.start()
    await settle()
    job.upstream_lost("reset")  # the next attempt gets a connection of its own
    await settle()
    assert (len(engines.kept), len(engines.all), client.statuses) == (2, 4, [])
    job.cut()


async def test_a_request_that_breaks_kept_connections_cannot_take_one_replica_after_the_other(life: Books) -> None:
    client, engines = Client(), Engines(kept=3)
    job = relay(life, client, engines)
    job.start()
    for _ in range(3):
        await settle()
        job.upstream_lost("reset")
    await settle()
    assert (len(engines.all), client.statuses) == (5, [503])


async def test_an_error_of_the_engines_own_counts_against_its_replica(life: Books) -> None:
    judged: list[bool | None] = []

    class Watched(Router):
        def finish(self, replica: str, *, failed: bool | None, work: int = 0) -> None:
            judged.append(failed)

    for status in (500, 400):
        job = relay(life, Client(), Engines())
        job._core.router = Watched()
        job.start()
        await settle()
        job.upstream_head(status)
        job.upstream_complete()
    assert judged == [True, False]


async def test_a_client_that_hangs_up_before_the_decision_gives_its_reservation_back(life: Books) -> None:
    engines, admission = Engines(), Grants()
    admission.later = []
    job = relay(life, Client(), engines, admission)
    job.start()
    job.client_lost()
    for decide in admission.later:
        decide()
    await settle()
    assert (len(admission.abandoned), engines.all, job.outcome) == (1, [], Outcome.CLIENT_CLOSED)


async def test_a_request_waits_until_a_replica_is_ready(life: Books) -> None:
    client, engines = Client(), Engines()
    job = relay(life, client, engines, replicas=0)
    job.start()
    await settle()
    assert (engines.all, client.statuses) == ([], [])
    job._core.snapshot.routes["acme/chat"] = replace(ROUTE, replicas=(REPLICA,), generation=9)
    job._core.snapshot.changes += 1
    job.wake()
    await settle()
    assert len(engines.all) == 1
    assert job.bill is not None
    assert job.bill.record.generation == 9
    job.cut()


async def test_nobody_waits_where_the_room_is_full_or_the_endpoint_is_stopped(life: Books) -> None:
    first, second, third = Client(), Client(), Client()
    held = relay(life, first, Engines(), replicas=0)
    held.start()
    late = relay(life, second, Engines(), replicas=0)
    late._core.waiting = held._core.waiting
    late.start()
    stopped = relay(life, third, Engines(), replicas=0)
    stopped.route = replace(stopped.route, phase="Stopped")
    stopped.start()
    assert (first.statuses, second.statuses, third.statuses) == ([], [503], [503])
    held.cut()
    assert first.statuses == [503]
    assert len(held._core.waiting) == 0


async def test_a_request_that_no_engine_ever_had_gives_everything_back(life: Books) -> None:
    client, admission = Client(), Grants()
    job = relay(life, client, Engines(), admission, replicas=0)
    job.start()
    job.cut()
    assert (client.statuses, len(admission.abandoned)) == ([503], 1)


async def test_a_key_that_is_revoked_while_its_request_waits_gets_no_answer(life: Books) -> None:
    client, engines = Client(), Engines()
    job = relay(life, client, engines, replicas=0)
    job.start()
    snapshot = job._core.snapshot
    snapshot.routes["acme/chat"] = replace(ROUTE, replicas=(REPLICA,))
    del snapshot.keys[CALLER.digest]
    job.wake()
    await settle()
    assert (client.statuses, engines.all) == ([401], [])


async def test_a_replica_that_became_ready_while_the_reservation_was_made_is_used(life: Books) -> None:
    engines, admission = Engines(), Grants()
    admission.later = []
    job = relay(life, Client(), engines, admission, replicas=0)
    job.start()
    job._core.snapshot.routes["acme/chat"] = replace(ROUTE, replicas=(REPLICA,))
    admission.later[0]()
    await settle()
    assert len(engines.all) == 1
    job.cut()
