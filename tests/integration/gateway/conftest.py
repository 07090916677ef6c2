"""A real gateway process between a stub engine and the test, with the real Redis."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import redis

from freehold.wire import names
from freehold.wire.names import Section
from freehold.wire.publish import Publisher
from freehold.wire.records import KeyRecord, ReplicaRecord, RouteRecord, TenantRecord
from freehold.wire.usage import UsageBatch, UsageRecord
from tests.fakes.engine import Engine

ROOT = Path(__file__).parents[3]
DEADLINE = 15.0

KEYS = {
    "fh_acme": KeyRecord(id="key_acme", tenant="tnt_acme"),
    "fh_other": KeyRecord(id="key_other", tenant="tnt_other"),
    "fh_narrow": KeyRecord(id="key_narrow", tenant="tnt_acme", models=("acme/embed",)),
    "fh_expired": KeyRecord(id="key_expired", tenant="tnt_acme", expires_at=1),
    "fh_unscoped": KeyRecord(id="key_unscoped", tenant="tnt_acme", scopes=("models.read",)),
    "fh_suspended": KeyRecord(id="key_suspended", tenant="tnt_suspended"),
}
TENANTS = {
    "tnt_acme": TenantRecord(slug="acme", cache_salt="salt-acme"),
    "tnt_other": TenantRecord(slug="other", cache_salt="salt-other"),
    "tnt_suspended": TenantRecord(slug="late", cache_salt="salt-late", suspended=True),
}


def route(port: int, *, task: str = "generate", ready: bool = True, serverless: bool = False) -> RouteRecord:
    """A route to a stub engine."""
    return RouteRecord(
        endpoint="ep_1",
        tenant="tnt_acme",
        generation=3,
        task=task,
        served_model_name="internal-name",
        billing_mode="tokens",
        region="local",
        phase="Ready" if ready else "Starting",
        weight_digest="sha256:w",
        engine_digest="sha256:e",
        serverless=serverless,
        replicas=(ReplicaRecord(id="rpl_1", host="127.0.0.1", port=port),) if ready else (),
    )


def sha256(secret: str) -> str:
    """Field of a key in its section."""
    return hashlib.sha256(secret.encode()).hexdigest()


async def until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Polls until the condition holds; fails after a deadline."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        await asyncio.sleep(0.02)
    pytest.fail(f"{what} did not come true within {DEADLINE} s")


def _free_offset() -> int:
    """A shift under which the gateway's two ports are free."""
    for offset in range(20_000 + os.getpid() % 5_000, 50_000, 7):
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", 8401 + offset))
                two.bind(("127.0.0.1", 8402 + offset))
            except OSError:
                continue
            return offset
    raise AssertionError("no free ports")


class Process:
    """`python -m freehold.gateway` with a state folder of its own.

    Attributes:
        http: an HTTP client with the key `fh_acme`.
    """

    def __init__(self, state: Path, redis_url: str, **settings: str) -> None:
        self.state = state
        self.offset = _free_offset()
        self.port = 8401 + self.offset
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "platform"),
            "REDIS_URL": redis_url,
            "GATEWAY_STATE": str(state),
            "GATEWAY_ID": "gateway-test",
            "GATEWAY_SWEEP_SECONDS": "0.1",
            "FREEHOLD_PORT_OFFSET": str(self.offset),
            **settings,
        }
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", headers={"authorization": "Bearer fh_acme"}, timeout=DEADLINE
        )
        self.private = f"http://127.0.0.1:{8402 + self.offset}"

    async def start(self, *, ready: bool = True) -> Process:
        """Starts it and waits until it answers."""
        self._log = (self.state.parent / "gateway.log").open("ab")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "freehold.gateway", env=self._environment, stdout=self._log, stderr=self._log
        )
        await until(self._ready if ready else self._alive, f"a gateway ({self.log()})")
        return self

    async def _status(self, path: str) -> int:
        assert self._process.returncode is None, self.log()
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(self.private + path)).status_code
        except httpx.TransportError:
            return 0

    async def _ready(self) -> bool:
        return await self._status("/readyz") == 200

    async def _alive(self) -> bool:
        return await self._status("/healthz") == 200

    async def gauge(self, name: str) -> float:
        """A gauge of /metrics."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(self.private + "/metrics")).text
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"freehold_gateway_{name} "))

    def log(self) -> str:
        """What it wrote."""
        return (self.state.parent / "gateway.log").read_text()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        await self._process.wait()
        self._log.close()

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(self._process.wait(), DEADLINE)
        self._log.close()
        return code

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw connection."""
        return await asyncio.open_connection("127.0.0.1", self.port)


def publish(client: redis.Redis, engine_port: int) -> None:
    """What the control plane would."""
    publisher = Publisher(client)
    publisher.replace(Section.KEYS, {sha256(secret): key for secret, key in KEYS.items()}, version=1)
    publisher.replace(Section.TENANTS, TENANTS, version=1)
    routes = {
        "acme/chat": route(engine_port),
        "acme/embed": route(engine_port, task="embed"),
        "acme/starting": route(engine_port, ready=False),
        "vendor/shared": route(engine_port, serverless=True),
    }
    publisher.replace(Section.ROUTES, routes, version=1)


class Usage:
    """What the gateway shipped, read from the stream as metering does."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def batches(self) -> list[UsageBatch]:
        """All batches."""
        entries: Any = self._client.xrange(names.USAGE)
        return [msgspec.msgpack.decode(fields[b"b"], type=UsageBatch) for _, fields in entries]

    def records(self) -> list[UsageRecord]:
        """All records."""
        return [record for batch in self.batches() for record in batch.records]

    async def one(self) -> UsageRecord:
        """The only record, once it is there."""
        records: list[UsageRecord] = await until(self.records, "a usage record")
        assert len(records) == 1
        return records[0]


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = await Engine().start()
    yield engine
    await engine.stop()


@pytest.fixture
def usage(redis_client: redis.Redis) -> Usage:
    return Usage(redis_client)


@pytest.fixture
async def gateway(
    tmp_path: Path, redis_url: str, redis_client: redis.Redis, engine: Engine, request: pytest.FixtureRequest
) -> AsyncIterator[Process]:
    """A running gateway; `@pytest.mark.parametrize("gateway", [{…}], indirect=True)` adds environment."""
    publish(redis_client, engine.port)
    process = await Process(tmp_path / "state", redis_url, **getattr(request, "param", {})).start()
    yield process
    await process.http.aclose()
    assert await process.stop() == 0, process.log()
