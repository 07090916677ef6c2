"""Endpoints that have no ready replica yet: requests wait, within limits, and are told the truth meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import redis

from freehold.wire.names import Section
from freehold.wire.publish import Publisher
from tests.fakes.engine import Engine
from tests.integration.gateway.conftest import Process, Usage, publish, route, until
from tests.integration.gateway.test_relay import CHAT, open_stream

NAME = "acme/starting"


async def test_a_stream_that_waits_hears_of_it_and_is_served_once_a_replica_is_ready(
    tmp_path: Path, redis_url: str, redis_client: redis.Redis, engine: Engine, own_usage: Usage
) -> None:
    publish(redis_client, engine.port)
    async with Process(tmp_path / "state", redis_url) as gateway:
        reader, writer = await open_stream(gateway, {**CHAT, "model": NAME, "stream": True})
        comment = await asyncio.wait_for(reader.readuntil(b"\n\n"), 10)
        assert b": waiting for a replica to be ready" in comment
        assert await gateway.gauge("requests_waiting") == 1
        Publisher(redis_client).put(Section.ROUTES, NAME, route(engine.port), version=1_000_000)
        rest = await asyncio.wait_for(reader.readuntil(b"data: [DONE]\n\n"), 10)
        assert b'"model":"acme/starting"' in rest
        writer.close()
        assert (await own_usage.one()).completion_tokens == 4


async def test_an_answer_in_one_piece_is_503_once_it_has_waited_long_enough(
    tmp_path: Path, redis_url: str, redis_client: redis.Redis, engine: Engine, own_usage: Usage
) -> None:
    publish(redis_client, engine.port)
    async with Process(tmp_path / "state", redis_url, GATEWAY_HOLD_ANSWER_SECONDS="1") as gateway:
        waiting = asyncio.create_task(
            gateway.http.post("/v1/chat/completions", json={**CHAT, "model": NAME, "stream": False})
        )
        await until(lambda: _waits(gateway), "a request that waits")
        answer = await waiting
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "Starting" in answer.json()["error"]["message"]
    assert own_usage.records() == []


async def test_a_stream_that_waits_for_nothing_ends_in_an_error_and_costs_nothing(
    tmp_path: Path, redis_url: str, redis_client: redis.Redis, engine: Engine, own_usage: Usage
) -> None:
    publish(redis_client, engine.port)
    async with Process(tmp_path / "state", redis_url) as gateway:
        reader, writer = await open_stream(gateway, {**CHAT, "model": NAME, "stream": True})
        await asyncio.wait_for(reader.readuntil(b"\n\n"), 10)
        Publisher(redis_client).put(Section.ROUTES, NAME, None, version=1_000_000)
        rest = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 10)
        assert b'"code":"model_not_ready"' in rest
        assert b"[DONE]" not in rest
        writer.close()
    assert own_usage.records() == []


async def _waits(gateway: Process) -> bool:
    return await gateway.gauge("requests_waiting") == 1
