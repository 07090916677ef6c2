"""Out of service: what a pod's preStop sets off, and what its clients see meanwhile."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from freehold.wire import names
from tests.integration.gateway.conftest import ROOT, Process, publish, until
from tests.integration.gateway.test_relay import hang_up, open_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import redis

    from tests.fakes.engine import Engine
    from tests.integration.gateway.conftest import Usage

CHAT: dict[str, Any] = {"model": "acme/chat", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def leaving(
    tmp_path: Path, redis_url: str, redis_client: redis.Redis, engine: Engine, request: pytest.FixtureRequest
) -> AsyncIterator[Process]:
    """A gateway of its own with `request.param` in its environment, on the Redis that is emptied."""
    publish(redis_client, engine.port)
    async with Process(tmp_path / "state", redis_url, **getattr(request, "param", {})) as process:
        yield process


def confirm(client: redis.Redis, gateway: Process, watermark: int) -> None:
    """As the drain of metering does."""
    client.hset(names.WATERMARKS, f"gateway-test/{gateway.epoch}", watermark)


async def drain(gateway: Process) -> dict[str, int]:
    """POST /drain; its answer."""
    status, body = await asyncio.to_thread(gateway.private, "/drain", "POST")
    assert status == 200, body
    told: dict[str, int] = json.loads(body)
    return told


def pre_stop(gateway: Process) -> subprocess.CompletedProcess[str]:
    """What the pod's preStop runs, in the container's environment."""
    command = [sys.executable, "-m", "freehold.gateway.drain"]
    return subprocess.run(command, env=gateway.environment, cwd=ROOT, check=False, capture_output=True, text=True)


async def begun(gateway: Process) -> None:
    """Until readiness fails."""

    async def is_unready() -> bool:
        return gateway.private("/readyz") == (503, "draining\n")

    await until(is_unready, "a drain")


async def test_a_stream_ends_before_the_drain_is_answered(leaving: Process, engine: Engine, own_usage: Usage) -> None:
    engine.script.hold_after = 2
    reader, writer = await open_stream(leaving, {**CHAT, "stream": True})
    await engine.held.wait()
    draining = asyncio.create_task(drain(leaving))
    await begun(leaving)
    assert not draining.done()
    engine.release.set()
    assert b"[DONE]" in await reader.read()
    await hang_up(writer)
    assert await draining == {"in_flight": 0, "unshipped": 1}
    assert (await own_usage.one()).outcome == "ok"


async def test_a_drained_gateway_answers_503_and_closes_until_sigterm_ends_it_quickly(leaving: Process) -> None:
    await drain(leaving)
    answer = await leaving.http.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
    assert (answer.headers["connection"], answer.headers["retry-after"]) == ("close", "1")
    assert leaving.private("/healthz")[0] == 200
    assert leaving.private("/readyz")[0] == 503
    started = time.monotonic()
    assert await leaving.stop() == 0
    assert time.monotonic() - started < 5


async def test_draining_twice_is_draining_once(leaving: Process) -> None:
    first, second = await asyncio.gather(drain(leaving), drain(leaving))
    assert first == second == {"in_flight": 0, "unshipped": 0}
    assert leaving.log().count("gateway_draining") == 1


@pytest.mark.parametrize("leaving", [{"GATEWAY_WITHDRAW_SECONDS": "600"}], indirect=True)
async def test_while_load_balancers_have_not_noticed_requests_are_served(leaving: Process, own_usage: Usage) -> None:
    draining = asyncio.create_task(drain(leaving))
    await begun(leaving)
    answer = await leaving.http.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    streamed = await leaving.http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert (streamed.status_code, streamed.headers["connection"]) == (200, "close")
    await until(lambda: len(own_usage.records()) == 2)
    assert not draining.done()
    await leaving.kill()
    with pytest.raises(AssertionError):
        await draining


async def test_a_request_that_is_still_arriving_is_refused_and_not_waited_for(leaving: Process) -> None:
    reader, writer = await leaving.connect()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer fh_acme\r\ncontent-length: 99\r\n\r\n"
    )
    writer.write(head + b"{")
    await writer.drain()

    async def is_seen() -> bool:
        return await leaving.gauge("connections") >= 1

    await until(is_seen, "the connection")
    assert await drain(leaving) == {"in_flight": 0, "unshipped": 0}
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"connection: close" in answer
    await hang_up(writer)


@pytest.mark.parametrize("leaving", [{"GATEWAY_SHIP_SECONDS": "600"}], indirect=True)
async def test_a_drain_waits_until_metering_has_confirmed_all_usage(
    leaving: Process, redis_client: redis.Redis, own_usage: Usage
) -> None:
    await leaving.http.post("/v1/chat/completions", json=CHAT)
    draining = asyncio.create_task(drain(leaving))
    await begun(leaving)
    await own_usage.one()
    assert not draining.done()
    confirm(redis_client, leaving, 1)
    assert await draining == {"in_flight": 0, "unshipped": 0}


@pytest.mark.parametrize("leaving", [{"GATEWAY_SHIP_SECONDS": "600"}], indirect=True)
async def test_sigterm_alone_waits_for_metering_too(
    leaving: Process, redis_client: redis.Redis, own_usage: Usage
) -> None:
    await leaving.http.post("/v1/chat/completions", json=CHAT)
    stopping = asyncio.create_task(leaving.stop())
    await own_usage.one()
    await until(lambda: "gateway_draining" in leaving.log())
    assert leaving.is_running
    confirm(redis_client, leaving, 1)
    assert await stopping == 0


async def test_without_redis_the_wait_for_metering_is_bounded(
    tmp_path: Path, redis_url: str, redis_client: redis.Redis, engine: Engine
) -> None:
    publish(redis_client, engine.port)
    async with Process(tmp_path / "state", redis_url) as first:
        assert await first.stop() == 0  # its snapshot stays
    settings = {"GATEWAY_SHIP_SECONDS": "0.5"}
    async with Process(tmp_path / "state", "redis://127.0.0.1:1/0", **settings) as gateway:
        await gateway.http.post("/v1/chat/completions", json=CHAT)
        assert await drain(gateway) == {"in_flight": 0, "unshipped": 1}
        assert await gateway.stop() == 0


@pytest.mark.parametrize("leaving", [{"GATEWAY_PRIVATE_HOST": "127.0.0.2"}], indirect=True)
async def test_probes_come_from_elsewhere_but_a_drain_only_from_loopback(leaving: Process) -> None:
    """A connection to 127.0.0.2 comes from 127.0.0.1 unless it is bound; a stranger is played by 127.0.0.2."""
    assert leaving.private("/readyz", host="127.0.0.2")[0] == 200
    reader, writer = await asyncio.open_connection("127.0.0.2", 8402 + leaving.offset, local_addr=("127.0.0.2", 0))
    writer.write(b"POST /drain HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 403")
    await hang_up(writer)
    assert await leaving.is_ready()
    assert leaving.private("/drain")[0] == 405
    assert (await asyncio.to_thread(pre_stop, leaving)).returncode == 0
    await begun(leaving)


async def test_what_pre_stop_runs_drains_and_says_what_is_left(leaving: Process) -> None:
    done = await asyncio.to_thread(pre_stop, leaving)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"in_flight": 0, "unshipped": 0})
    assert leaving.private("/readyz") == (503, "draining\n")


async def test_what_pre_stop_runs_is_content_where_nothing_listens(leaving: Process) -> None:
    await leaving.kill()
    assert pre_stop(leaving).returncode == 0
