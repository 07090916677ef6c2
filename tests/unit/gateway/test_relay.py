"""What a relay leaves behind: paused connections, attempts under way, engines that a request broke."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from freehold.gateway.meter import Outcome
from freehold.gateway.relay import Relay
from freehold.gateway.settings import Settings
from freehold.gateway.surface import bodies
from freehold.wire.records import ReplicaRecord
from tests.unit.gateway.conftest import ROUTE, Books

if TYPE_CHECKING:
    from collections.abc import Callable

    from freehold.gateway.http1 import Connection
    from freehold.gateway.upstream import Pool, Upstream

REPLICA = ReplicaRecord(id="rpl_1", host="127.0.0.1", port=1)
FRAME = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


class Client:
    """A client connection; `blocked`: it takes what is written and asks for no more."""

    def __init__(self) -> None:
        self.job: Relay | None = None
        self.blocked = False
        self.statuses: list[int] = []

    def begin(self, headers: bytes) -> None:
        """A stream begins."""

    def write(self, data: bytes) -> None:
        """A part of it."""
        if self.blocked and self.job is not None:
            self.job.client_blocked()

    def end(self) -> None:
        """It ends."""

    def respond_error(self, error: Any, *_: object) -> None:
        """An error in one piece."""
        self.statuses.append(error.status)


class Engine:
    """An upstream connection."""

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

    def choose(self, *_: object) -> ReplicaRecord:
        return REPLICA

    def begin(self, replica: str) -> None:
        """Counts."""

    def finish(self, replica: str, *, failed: bool) -> None:
        """Counts."""

    def take(self, address: object) -> Engine | None:
        return self.kept.pop() if self.kept else None

    async def connect(self, address: object) -> Engine:
        await self.reachable.wait()
        self.all.append(Engine())
        return self.all[-1]

    def give_back(self, engine: Engine, address: object) -> None:
        self.given_back.append(engine)


def relay(books: Books, client: Client, engines: Engines) -> Relay:
    """A streamed chat."""
    body = {"model": "acme/chat", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    return Relay(
        connection=cast("Connection", client),
        pool=cast("Pool", engines),
        settings=Settings(redis_url="", state=Path("/nowhere"), gateway_id="gw"),
        surface=bodies.CHAT,
        call=bodies.parse(bodies.CHAT, msgspec.json.encode(body)),
        route=replace(ROUTE, replicas=(REPLICA, replace(REPLICA, id="rpl_2"), replace(REPLICA, id="rpl_3"))),
        bill=books.open(),
        body=b"{}",
        report=lambda *_: None,
    )


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
    job.upstream_head(200, event_stream=True)
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
    job.cut()
    late = Engine()
    job._forward(cast("Upstream", late), REPLICA, fresh=True)
    assert (late.sent, engines.given_back) == (0, [late])


async def test_a_request_that_breaks_engines_is_made_again_once_only(life: Books) -> None:
    client, engines = Client(), Engines()
    job = relay(life, client, engines)
    job.start()
    for _ in range(2):
        await settle()
        job.upstream_lost("reset")
    await settle()
    assert (len(engines.all), client.statuses) == (2, [503])


async def test_kept_connections_that_were_closed_meanwhile_do_not_count(life: Books) -> None:
    client, engines = Client(), Engines(kept=2)
    job = relay(life, client, engines)
    job.start()
    for _ in range(2):
        await settle()
        job.upstream_lost("reset")
    await settle()
    assert (len(engines.all), client.statuses) == (3, [])
    job.cut()
