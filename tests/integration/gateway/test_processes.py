"""The parent and its processes: what clients and metering see while processes come and go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from freehold.wire import names
from tests.integration.gateway.conftest import Process, lives, publish, until
from tests.integration.gateway.test_relay import hang_up, open_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import redis

    from tests.fakes.engine import Engine
    from tests.integration.gateway.conftest import Usage

CHAT: dict[str, Any] = {"model": "acme/chat", "messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/chat/completions"


@pytest.fixture
async def own(
    tmp_path: Path, redis_url: str, redis_client: redis.Redis, engine: Engine, request: pytest.FixtureRequest
) -> AsyncIterator[Process]:
    """A gateway with `request.param` in its environment, on the Redis that is emptied."""
    publish(redis_client, engine.port)
    async with Process(tmp_path / "state", redis_url, **getattr(request, "param", {})) as process:
        yield process


two = pytest.mark.parametrize("own", [{"GATEWAY_PROCESSES": "2"}], indirect=True)
one_and_two = pytest.mark.parametrize("own", [{}, {"GATEWAY_PROCESSES": "2"}], indirect=True, ids=["one", "two"])


class Metering:
    """Confirms whatever was shipped, as the drain does, while the block runs."""

    def __init__(self, client: redis.Redis, usage: Usage) -> None:
        self._client = client
        self._usage = usage

    def confirm(self) -> None:
        """What is there now."""
        marks: dict[Any, Any] = defaultdict(int)
        for batch in self._usage.batches():
            name = f"{batch.gateway}/{batch.epoch}"
            marks[name] = max(marks[name], batch.first_sequence + len(batch.records) - 1)
        if marks:
            self._client.hset(names.WATERMARKS, mapping=dict(marks))

    async def _run(self) -> None:
        while True:
            self.confirm()
            await asyncio.sleep(0.05)

    async def __aenter__(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


class Load:
    """Clients that ask without a pause while the block runs, half of them by a new connection each time.

    Attributes:
        answered: requests answered with 200.
        failed: what else came about.
    """

    def __init__(self, gateway: Process, clients: int = 8) -> None:
        self._gateway = gateway
        self._clients = clients
        self._enough = False
        self.answered = 0
        self.failed: list[str] = []

    async def __aenter__(self) -> Load:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._ask(keep=bool(number % 2))) for number in range(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._enough = True
        await asyncio.gather(*self._tasks)

    async def some(self, more: int = 50) -> None:
        """Until so many more were answered."""
        wanted = self.answered + more
        await until(lambda: self.answered >= wanted or self.failed, "answers")

    async def _ask(self, *, keep: bool) -> None:
        while not self._enough:
            async with self._client(keep=keep) as client:
                while not self._enough:
                    try:
                        answer = await client.post(PATH, json=CHAT)
                    except httpx.HTTPError as error:
                        self.failed.append(repr(error))
                        return
                    if answer.status_code == 200:
                        self.answered += 1
                    else:
                        self.failed.append(answer.text)
                    if not keep:
                        break

    def _client(self, *, keep: bool) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=1 if keep else 0))
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self._gateway.port}",
            headers={"authorization": "Bearer fh_acme"},
            transport=transport,
            timeout=15,
        )


def says(gateway: Process, event: str, times: int = 1) -> Callable[[], bool]:
    """Whether its log has the event so often."""
    return lambda: gateway.log().count(f'"{event}"') >= times


async def reload(gateway: Process, times: int = 1) -> None:
    """SIGHUP; returns when the new processes have taken over."""
    gateway.parent.send_signal(signal.SIGHUP)
    await until(says(gateway, "gateway_reloaded", times), "a reload")


def events(usage: Usage) -> set[str]:
    """Requests that were counted; what is shipped twice is one request to metering."""
    return {record.event_id for record in usage.records()}


@one_and_two
async def test_reloads_under_load_lose_no_request_and_no_usage(
    own: Process, redis_client: redis.Redis, own_usage: Usage
) -> None:
    before = own.pids
    async with Metering(redis_client, own_usage):
        async with Load(own) as load:
            await load.some()
            for times in range(1, 4):
                await reload(own, times)
                await load.some()
        assert load.failed == []
        assert load.answered > 200
        await until(lambda: not any(lives(pid) for pid in before), "the end of the old processes")
        await until(lambda: len(events(own_usage)) >= load.answered, "all usage")
    assert len(events(own_usage)) == load.answered
    assert {record.outcome for record in own_usage.records()} == {"ok"}
    assert len(own.pids) == len(before)


async def test_a_stream_outlives_the_reload_and_the_private_port_is_the_successors(
    own: Process, engine: Engine, own_usage: Usage
) -> None:
    (old,) = own.pids
    engine.script.hold_after = 2
    reader, writer = await open_stream(own, {**CHAT, "stream": True})
    await engine.held.wait()
    await reload(own)
    for _ in range(10):
        assert own.private("/readyz") == (200, "ready\n")
        assert await own.gauge("requests_in_flight") == 0
    assert lives(old)
    engine.release.set()
    assert b"[DONE]" in await reader.readuntil(b"0\r\n\r\n")
    await hang_up(writer)
    await until(lambda: not lives(old), "the end of the old process")
    assert (await own_usage.one()).outcome == "ok"


async def test_an_old_process_answers_who_is_still_connected_and_asks_it_to_close(own: Process) -> None:
    (old,) = own.pids
    assert (await own.http.post(PATH, json=CHAT)).headers.get("connection") != "close"
    await reload(own)
    assert lives(old)

    async def asks_to_close() -> bool:
        answer = await own.http.post(PATH, json=CHAT)
        assert answer.status_code == 200
        return bool(answer.headers.get("connection") == "close")

    await until(asks_to_close, "the old process to have heard that it is replaced")
    await until(lambda: not lives(old), "the end of the old process")


async def test_a_reload_that_fails_leaves_everything_as_it_was(own: Process) -> None:
    before = own.pids
    (own.state / "1").write_text("in the way")
    own.parent.send_signal(signal.SIGHUP)
    await until(says(own, "gateway_reload_failed"), "a failure")
    assert (await own.http.post(PATH, json=CHAT)).status_code == 200
    assert own.pids == before


async def held_up(gateway: Process, engine: Engine) -> tuple[int, asyncio.StreamWriter]:
    """A stream that stands after two tokens: the process that serves it, and the client's side."""
    engine.script.hold_after = 2
    _, writer = await open_stream(gateway, {**CHAT, "stream": True})
    await engine.held.wait()
    (busy,) = [pid for number, pid in enumerate(gateway.pids) if await gateway.gauge("requests_in_flight", number)]
    return busy, writer


async def is_settled_and_served_on(gateway: Process, usage: Usage, before: list[int], gone: int) -> None:
    """What was held up is settled as a crash left it, and the gateway is whole again."""
    record = await usage.one()
    assert (record.outcome, record.completion_tokens) == ("recovered", 2)
    await until(gateway.is_ready, "readiness")
    assert (await gateway.http.post(PATH, json=CHAT)).status_code == 200
    assert set(before) - set(gateway.pids) == {gone}


@one_and_two
async def test_a_process_that_is_killed_is_started_again_and_settles_what_was_open(
    own: Process, engine: Engine, own_usage: Usage
) -> None:
    before = own.pids
    busy, writer = await held_up(own, engine)
    await replaced(own, busy, signal.SIGKILL)
    await hang_up(writer)
    await is_settled_and_served_on(own, own_usage, before, busy)


hangs_soon = pytest.mark.parametrize(
    "own", [{"GATEWAY_PROCESSES": "2", "GATEWAY_HUNG_SECONDS": "3"}], indirect=True, ids=["3 s"]
)


@hangs_soon
async def test_a_process_that_hangs_is_replaced_and_what_was_open_is_settled(
    own: Process, engine: Engine, own_usage: Usage
) -> None:
    before = own.pids
    busy, writer = await held_up(own, engine)
    await replaced(own, busy, signal.SIGSTOP)
    assert says(own, "gateway_process_hung")()
    await hang_up(writer)
    await is_settled_and_served_on(own, own_usage, before, busy)


@hangs_soon
async def test_processes_that_stood_still_together_with_their_parent_are_left_alone(own: Process) -> None:
    before = own.pids
    os.killpg(own.parent.pid, signal.SIGSTOP)
    await asyncio.sleep(4)
    os.killpg(own.parent.pid, signal.SIGCONT)
    await asyncio.sleep(1)
    await until(own.is_ready, "readiness")
    assert own.pids == before
    assert not says(own, "gateway_process_hung")()


async def test_a_process_that_is_asked_writes_where_it_is(own: Process) -> None:
    os.kill(own.pids[0], signal.SIGUSR1)
    await until(lambda: "in serve" in own.log() or "in main" in own.log(), "a stack")
    assert (await own.http.post(PATH, json=CHAT)).status_code == 200


async def test_when_a_process_leaves_by_itself_another_takes_its_place_at_once(
    own: Process, engine: Engine, own_usage: Usage
) -> None:
    (old,) = own.pids
    engine.script.hold_after = 2
    reader, writer = await open_stream(own, {**CHAT, "stream": True})
    await engine.held.wait()
    await replaced(own, old, signal.SIGTERM)
    assert lives(old)
    assert (await own.http.post(PATH, json=CHAT)).status_code == 200
    engine.release.set()
    assert b"[DONE]" in await reader.read()
    await hang_up(writer)
    await until(lambda: len(events(own_usage)) == 2, "all usage")


@two
async def test_sigterm_ends_all_processes(own: Process) -> None:
    pids = own.pids
    assert len(pids) == 2
    assert await own.stop() == 0
    assert not any(lives(pid) for pid in pids)


async def test_processes_whose_parent_is_killed_finish_what_they_have_and_a_new_gateway_can_start_beside_them(
    own: Process, engine: Engine, own_usage: Usage
) -> None:
    (old,) = own.pids
    engine.script.hold_after = 2
    reader, writer = await open_stream(own, {**CHAT, "stream": True})
    await engine.held.wait()
    own.parent.kill()
    own.parent.wait()
    await until(says(own, "gateway_draining"), "a departure")
    successor = own.again()
    await successor.start()
    assert lives(old)
    assert (await successor.http.post(PATH, json=CHAT)).status_code == 200
    engine.release.set()
    assert b"[DONE]" in await reader.read()
    await hang_up(writer)
    await until(lambda: not lives(old), "the end of the old process")
    await until(lambda: len(events(own_usage)) == 2, "all usage")
    assert await successor.stop() == 0


@two
async def test_processes_share_the_load_and_each_has_its_metrics(own: Process) -> None:
    lines = [await own.connect() for _ in range(64)]
    for index in range(8):
        assert (await own.http.post(PATH, json={**CHAT, "user": str(index)})).status_code == 200

    async def shares() -> list[float]:
        found = [await own.gauge("connections", number) for number in (0, 1)]
        return found if sum(found) >= 64 else []

    found = await until(shares, "all connections")
    assert min(found) >= 12, "by chance once in ten million runs"
    for _, writer in lines:
        await hang_up(writer)


@pytest.mark.parametrize("own", [{"GATEWAY_PROCESSES": "2", "GATEWAY_DRAIN_SECONDS": "20"}], indirect=True)
async def test_a_drain_asked_of_any_process_is_of_all_and_waits_for_all(own: Process, engine: Engine) -> None:
    engine.script.hold_after = 2
    reader, writer = await open_stream(own, {**CHAT, "stream": True})
    await engine.held.wait()
    (idle,) = [number for number in (0, 1) if not await own.gauge("requests_in_flight", number)]
    draining = asyncio.create_task(asyncio.to_thread(own.private, "/drain", "POST", process=idle))
    await until(says(own, "gateway_draining", 2), "two departures")
    assert [own.private("/readyz", process=number)[0] for number in (0, 1)] == [503, 503]
    await until(says(own, "gateway_drained"), "the end of one departure")
    assert not draining.done()
    engine.release.set()
    assert b"[DONE]" in await reader.read()
    await hang_up(writer)
    assert await draining == (200, '{"in_flight":0,"unshipped":1}')
    answer = await own.http.post(PATH, json=CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
    assert await own.stop() == 0


async def test_usage_that_a_process_left_behind_is_shipped_when_metering_is_back(
    own: Process, redis_client: redis.Redis, own_usage: Usage
) -> None:
    assert (await own.http.post(PATH, json=CHAT, headers={"connection": "close"})).status_code == 200
    (old,) = own.pids
    await own_usage.one()
    redis_client.delete(names.USAGE)  # lost on its way
    await reload(own)
    await until(lambda: not lives(old), "the end of the old process")
    record = await own_usage.one()
    assert {batch.gateway for batch in own_usage.batches()} == {"gateway-test"}
    async with Metering(redis_client, own_usage):
        await until(says(own, "replay_done"), "a confirmation")
    assert record.outcome == "ok"


async def test_a_gateway_that_cannot_start_says_why_and_ends(tmp_path: Path, redis_url: str) -> None:
    gateway = Process(tmp_path / "state", redis_url, GATEWAY_DRAIN_SECONDS="soon")
    gateway.spawn()
    await until(lambda: not gateway.is_running, "its end")
    assert gateway.parent.returncode == 1
    assert "GATEWAY_DRAIN_SECONDS" in gateway.log()
    assert gateway.log().count("cannot start") == 1


async def replaced(gateway: Process, pid: int, number: signal.Signals) -> None:
    """Sends a signal to one process; returns when another listens in its place."""
    started = gateway.log().count('"gateway_process_started"')
    os.kill(pid, number)
    await until(says(gateway, "gateway_process_started", started + 1), "another process")
