"""Exactly once: kill -9, a lost stream, a full disk, Redis away."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from freehold.wire import names
from freehold.wire.publish import Publisher
from tests.integration.gateway.conftest import Process, publish, sha256, until
from tests.integration.gateway.test_relay import hang_up, open_stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

    from tests.fakes.engine import Engine
    from tests.integration.gateway.conftest import Usage

CHAT: dict[str, Any] = {"model": "acme/chat", "messages": [{"role": "user", "content": "hi"}]}
NOBODY = "redis://127.0.0.1:1/0"


async def test_kill_9_in_a_stream_and_a_restart_give_exactly_one_record(
    tmp_path: Path, redis_url: str, redis_client: redis.Redis, engine: Engine, own_usage: Usage
) -> None:
    publish(redis_client, engine.port)
    engine.script.tokens, engine.script.hold_after = 50, 7
    state = tmp_path / "state"
    async with Process(state, redis_url) as first:
        reader, writer = await open_stream(first, {**CHAT, "stream": True})
        received = b""
        while received.count(b"data: ") < 8:
            received += await reader.read(65536)
        await first.kill()
        await hang_up(writer)
    assert own_usage.records() == []

    async with Process(state, redis_url) as second:
        record = await own_usage.one()
        assert (record.outcome, record.prompt_tokens, record.completion_tokens) == ("recovered", 18, 7)
        engine.script.hold_after = None
        await second.http.post("/v1/chat/completions", json=CHAT)
        await until(lambda: len(own_usage.records()) == 2)
        assert [batch.first_sequence for batch in own_usage.batches()] == [1, 2]
        await second.kill()
    async with Process(state, redis_url) as third:
        assert await third.gauge("journal_sequence") == 2
        await until(third.is_idle)
    assert len({record.event_id for record in own_usage.records()}) == 2


async def test_records_below_the_watermark_are_forgotten_and_above_it_resent_when_the_stream_lost_them(
    tmp_path: Path, redis_url: str, redis_client: redis.Redis, engine: Engine, own_usage: Usage
) -> None:
    publish(redis_client, engine.port)
    settings = {"GATEWAY_RESEND_SECONDS": "0.3", "GATEWAY_SEGMENT_BYTES": "1500"}
    async with Process(tmp_path / "state", redis_url, **settings) as gateway:
        for _ in range(6):
            await gateway.http.post("/v1/chat/completions", json=CHAT)
        await until(lambda: len(own_usage.records()) == 6)
        before = {record.event_id for record in own_usage.records()}
        assert await gateway.gauge("journal_segments") >= 3
        redis_client.delete(names.USAGE)
        await until(lambda: len(own_usage.records()) == 6)
        assert {record.event_id for record in own_usage.records()} == before

        redis_client.hset(names.WATERMARKS, f"gateway-test/{gateway.epoch}", 6)

        async def shortened() -> bool:
            return await gateway.gauge("journal_segments") <= 2

        await until(shortened)
        redis_client.delete(names.USAGE)
        await gateway.http.post("/v1/chat/completions", json=CHAT)
        await until(own_usage.records)
        assert [batch.first_sequence for batch in own_usage.batches()] == [7]


async def test_with_redis_down_it_serves_from_disk_and_ships_later(
    tmp_path: Path, redis_url: str, redis_client: redis.Redis, engine: Engine, own_usage: Usage
) -> None:
    publish(redis_client, engine.port)
    state = tmp_path / "state"
    async with Process(state, redis_url) as gateway:
        assert await gateway.stop() == 0
    async with Process(state, NOBODY) as alone:
        assert (await alone.http.post("/v1/chat/completions", json=CHAT)).status_code == 200
        assert await alone.stop() == 0
    async with Process(state, redis_url):
        assert (await own_usage.one()).completion_tokens == 4


async def test_without_any_snapshot_it_is_not_ready(tmp_path: Path) -> None:
    gateway = Process(tmp_path / "state", NOBODY)
    gateway.expect_ready = False
    async with gateway:
        answer = await gateway.http.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_fails_readiness_and_refuses_requests_until_there_is_room(
    small_disk: Path, redis_url: str, redis_client: redis.Redis, engine: Engine, own_usage: Usage
) -> None:
    publish(redis_client, engine.port)
    async with Process(small_disk / "state", redis_url, GATEWAY_RESERVE_BYTES=str(512 * 1024)) as gateway:
        assert (await gateway.http.post("/v1/chat/completions", json=CHAT)).status_code == 200
        filler = small_disk / "filler"
        filler.write_bytes(bytes(1536 * 1024))

        async def is_unready() -> bool:
            return gateway.private("/readyz")[0] == 503

        await until(is_unready, "readiness failing")
        assert "journal" in gateway.private("/readyz")[1]
        served = len(engine.received)
        answer = await gateway.http.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "journal_full")
        assert len(engine.received) == served

        filler.unlink()
        await until(gateway.is_ready, "readiness")
        assert (await gateway.http.post("/v1/chat/completions", json=CHAT)).status_code == 200
        await until(lambda: len(own_usage.records()) == 2)


async def test_a_disk_that_was_full_at_the_start_is_no_less_refused(
    tmp_path: Path, redis_url: str, redis_client: redis.Redis, engine: Engine
) -> None:
    publish(redis_client, engine.port)
    gateway = Process(tmp_path / "state", redis_url, GATEWAY_RESERVE_BYTES=str(1 << 60))
    gateway.expect_ready = False

    async def refused() -> bool:
        answer = await gateway.http.post("/v1/chat/completions", json=CHAT)
        return answer.status_code == 503 and answer.json()["error"]["code"] == "journal_full"

    async with gateway:
        await until(refused)
        assert engine.received == []
        assert gateway.private("/readyz")[0] == 503


async def test_a_revoked_key_is_refused_while_it_runs(
    tmp_path: Path, redis_url: str, redis_client: redis.Redis, engine: Engine
) -> None:
    publish(redis_client, engine.port)
    async with Process(tmp_path / "state", redis_url) as gateway:
        assert (await gateway.http.post("/v1/chat/completions", json=CHAT)).status_code == 200
        Publisher(redis_client).put(names.Section.KEYS, sha256("fh_acme"), None, version=2)

        async def refused() -> bool:
            return (await gateway.http.post("/v1/chat/completions", json=CHAT)).status_code == 401

        await until(refused)


@pytest.mark.parametrize("gateway", [{}], indirect=True)
async def test_sigterm_lets_streams_end(gateway: Process, engine: Engine, usage: Usage) -> None:
    engine.script.hold_after = 2
    reader, writer = await open_stream(gateway, {**CHAT, "stream": True})
    await engine.held.wait()
    stopping = asyncio.create_task(gateway.stop())
    await until(lambda: "gateway_draining" in gateway.log())
    engine.release.set()
    received = await reader.read()
    assert b"[DONE]" in received
    await hang_up(writer)
    assert await stopping == 0
    assert (await usage.one()).outcome == "ok"


@pytest.mark.parametrize("gateway", [{"GATEWAY_DRAIN_SECONDS": "0.2"}], indirect=True)
async def test_sigterm_cuts_what_does_not_end_with_an_error_frame(
    gateway: Process, engine: Engine, usage: Usage
) -> None:
    engine.script.hold_after = 2
    reader, writer = await open_stream(gateway, {**CHAT, "stream": True})
    await engine.held.wait()
    assert await gateway.stop() == 0
    received = await reader.read()
    assert b'"error"' in received
    assert b"[DONE]" not in received
    await hang_up(writer)
    assert (await usage.one()).completion_tokens == 2


async def test_a_second_gateway_on_the_same_state_is_refused(gateway: Process, redis_url: str) -> None:
    second = Process(gateway.state, redis_url)
    second.spawn()
    await until(lambda: "Another gateway uses" in gateway.log())
    second.end()
