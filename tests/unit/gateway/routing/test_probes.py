"""Engines are asked for their health, by real HTTP."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from freehold.gateway.routing import probes, router
from freehold.gateway.routing.router import Router
from tests.factories.ports import free_port
from tests.unit.gateway.routing.conftest import route_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from freehold.wire.records import RouteRecord


class Health:
    """A server for GET /health.

    Attributes:
        answer: what it says; None: nothing at all.
        asked: request lines.
    """

    def __init__(self) -> None:
        self.answer: bytes | None = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        self.asked: list[bytes] = []
        self.port = free_port()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])
        if self.answer is not None:
            writer.write(self.answer)
            await writer.drain()
        await reader.read()
        writer.close()

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self.serve, "127.0.0.1", self.port):
            yield


@pytest.fixture
async def health() -> AsyncIterator[Health]:
    found = Health()
    async with found.up():
        yield found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "EVERY_SECONDS", 0.02)
    monkeypatch.setattr(probes, "TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(router, "_TICK_SECONDS", 0.01)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is another task's
            await asyncio.sleep(0.01)


@asynccontextmanager
async def probing(found: Router) -> AsyncIterator[None]:
    task = asyncio.create_task(found.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def used(route: RouteRecord) -> Router:
    """A router through which the replicas `a` and `b` have had requests."""
    found = Router()
    for replica in route.replicas:
        found.choose(route, None)
        found.begin(replica.id)
        found.finish(replica.id, failed=False)
    return found


async def test_an_engine_that_answers_200_is_healthy(health: Health) -> None:
    assert await probes.healthy("127.0.0.1", health.port)
    assert health.asked == [b"GET /health HTTP/1.1"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 2000 Odd\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"x" * 5_000,
        None,
    ],
)
@pytest.mark.usefixtures("quick")
async def test_any_other_engine_is_not(health: Health, answer: bytes | None) -> None:
    health.answer = answer
    assert not await probes.healthy("127.0.0.1", health.port)


async def test_where_nobody_listens_nobody_is_healthy() -> None:
    assert not await probes.healthy("127.0.0.1", free_port())


@pytest.mark.usefixtures("quick")
async def test_failing_probes_eject_a_replica_and_a_passing_one_brings_it_back(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freehold.gateway.routing.health.SHORTEST_SECONDS", 0.1)
    found = used(route_of("a", "b", port=health.port))
    async with probing(found):
        await eventually(lambda: len(health.asked) > 4)
        assert found.ejected == 0
        health.answer = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
        await eventually(lambda: found.ejected == 1)
        health.answer = b"HTTP/1.1 200 OK\r\n\r\n"
        await eventually(lambda: found.ejected == 0)


@pytest.mark.usefixtures("quick")
async def test_an_engine_that_hangs_is_ejected(health: Health) -> None:
    health.answer = None
    found = used(route_of("a", "b", port=health.port))
    async with probing(found):
        await eventually(lambda: found.ejected == 1)


@pytest.mark.usefixtures("quick")
async def test_the_only_replica_of_a_route_is_not_probed(health: Health) -> None:
    found = used(route_of("a", "b", port=health.port))
    found.begin("alone")
    async with probing(found):
        await eventually(lambda: len(health.asked) > 6)
    assert found.ejected == 0


@pytest.mark.usefixtures("quick")
async def test_a_replica_without_traffic_is_left_alone(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "_PROBED_SECONDS", 0.1)
    found = used(route_of("a", "b", port=health.port))
    async with probing(found):
        await eventually(lambda: len(health.asked) > 2)
        found.sweep(asyncio.get_running_loop().time() - 1.0)  # the last requests were a second ago
        await asyncio.sleep(0)
        before = len(health.asked)
        idle = asyncio.get_running_loop().time() + 0.2
        await eventually(lambda: asyncio.get_running_loop().time() > idle)
        assert len(health.asked) <= before + 2  # those under way


@pytest.mark.usefixtures("quick")
async def test_a_passing_probe_does_not_hide_that_requests_fail(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freehold.gateway.routing.health.SHORTEST_SECONDS", 0.05)
    route = route_of("a", "b", port=health.port)
    found = used(route)
    for _ in range(5):
        found.begin("a")
        found.finish("a", failed=True)
    assert found.ejected == 1
    async with probing(found):
        await eventually(lambda: found.ejected == 0)
        found.begin("a")
        found.finish("a", failed=True)
        assert found.ejected == 1  # back on probation: one failure was enough
