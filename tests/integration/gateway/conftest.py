"""A real gateway process between a stub engine and the test, with the real Redis.

Most tests share one gateway; those that kill it, stop it or configure it start their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import redis

from freehold.common import ports
from freehold.onebox.redis import EmbeddedRedis
from freehold.wire import names
from freehold.wire.names import Section
from freehold.wire.publish import Publisher
from freehold.wire.records import KeyRecord, ReplicaRecord, RouteRecord, TenantRecord
from freehold.wire.usage import UsageBatch, UsageRecord
from tests.factories.ports import free_port
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


def lives(pid: int) -> bool:
    """Whether the process has not ended. One that nobody has waited for yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


_taken: set[int] = set()


def _free_offset() -> int:
    """A shift under which the ports of a gateway of two processes are free."""
    wanted = [port - ports.OFFSET for port in (ports.GATEWAY, ports.gateway_metrics(0), ports.gateway_metrics(1))]
    for offset in range(3_000 + os.getpid() % 5_000, 20_000, 7):
        if offset in _taken:
            continue  # by a gateway that does not listen yet
        with contextlib.ExitStack() as stack:
            try:
                for port in wanted:
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            _taken.add(offset)
            return offset
    raise AssertionError("no free ports")


_CONTEXT = ssl.create_default_context()  # slow to make, and httpx wants one
_AUTHORIZED = {"authorization": "Bearer fh_acme"}


class Process:
    """`python -m freehold.gateway` with a state folder of its own.

    Attributes:
        http: an HTTP client with the key `fh_acme`.
        expect_ready: whether `async with` waits for readiness or only for health.
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
            "GATEWAY_HOLD_ANSWER_SECONDS": "0.5",
            "GATEWAY_SHIP_SECONDS": "0",  # nobody drains here, so nothing is ever confirmed
            "FREEHOLD_PORT_OFFSET": str(self.offset),
            "GATEWAY_NATIVE": os.environ["GATEWAY_NATIVE"],
            **settings,
        }
        self._public = f"http://127.0.0.1:{self.port}"
        self.expect_ready = True

    def spawn(self) -> None:
        """Starts the process, without waiting."""
        with (self.state.parent / "gateway.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "freehold.gateway"], env=self._environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    async def start(self, *, ready: bool = True) -> None:
        """Starts it and waits until it answers."""
        self.spawn()
        await until(self.is_ready if ready else self.is_alive, "a gateway")

    async def __aenter__(self) -> Process:
        self._stack = AsyncExitStack()
        self._stack.callback(self.end)
        await self._stack.enter_async_context(self.client())
        await self.start(ready=self.expect_ready)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[None]:
        """Gives the test an HTTP client of its own event loop."""
        async with httpx.AsyncClient(
            base_url=self._public,
            headers=_AUTHORIZED,
            timeout=DEADLINE,
            verify=_CONTEXT,
            limits=httpx.Limits(keepalive_expiry=DEADLINE),
        ) as self.http:
            yield

    def private(self, path: str, method: str = "GET", host: str = "127.0.0.1", *, process: int = 0) -> tuple[int, str]:
        """From the private port of a process: status and body; status 0 where it does not listen (yet)."""
        assert self.is_running, self.log()
        port = ports.gateway_metrics(process) - ports.OFFSET + self.offset
        connection = http.client.HTTPConnection(host, port, timeout=DEADLINE)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    async def is_ready(self) -> bool:
        """Whether it takes requests."""
        return self.private("/readyz")[0] == 200

    async def is_alive(self) -> bool:
        """Whether it answers at all."""
        return self.private("/healthz")[0] == 200

    async def is_idle(self) -> bool:
        """Whether nothing is in flight and everything settled is shipped."""
        settled, shipped = await self.gauge("journal_sequence"), await self.gauge("shipped_sequence")
        return await self.gauge("requests_in_flight") == 0 and settled == shipped

    async def gauge(self, name: str, process: int = 0) -> float:
        """A gauge of /metrics."""
        text = self.private("/metrics", process=process)[1]
        return next(
            float(line.split()[1]) for line in text.splitlines() if line.startswith(f"freehold_gateway_{name} ")
        )

    def log(self) -> str:
        """What it wrote."""
        return (self.state.parent / "gateway.log").read_text()

    @property
    def epoch(self) -> str:
        """Of its journal."""
        line = next(line for line in self.log().splitlines() if "gateway_started" in line)
        epoch: str = json.loads(line)["epoch"]
        return epoch

    def again(self) -> Process:
        """Another one by the same settings, on the same ports. `end` of this one ends what it has left only."""
        other = copy.copy(self)
        self._stack.callback(other.end)
        return other

    @property
    def environment(self) -> dict[str, str]:
        """What its process is started with; for commands that belong to it."""
        return dict(self._environment)

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process that does the work; of the first, where there are several."""
        return self.pids[0]

    @property
    def pids(self) -> list[int]:
        """Of all processes that do the work."""
        parent = self._process.pid
        children = [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
        return [pid for pid in children if b"freehold.gateway.process" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    @property
    def parent(self) -> subprocess.Popen[bytes]:
        """The process that was started, which starts the others."""
        return self._process

    async def kill(self) -> None:
        """kill -9 of all processes."""
        pids = self.pids
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        await until(lambda: not any(lives(pid) for pid in pids), "the end of the gateway's processes")

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self._process.send_signal(signal.SIGTERM)
        await until(lambda: self._process.poll() is not None, "the end of the gateway")
        return self._process.returncode

    def end(self) -> None:
        """Leaves nothing behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

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


@pytest.fixture(scope="session")
def gateway_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis for the gateway that is shared by tests: never emptied, so that its snapshot stays in force."""
    folder = Path(tempfile.mkdtemp(prefix="freehold-gateway-", dir="/var/tmp"))
    server = EmbeddedRedis(folder / "redis", port=free_port(), password="x" * 16, durable=False)
    folder.chmod(0o755)
    server.start()
    yield server.url
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def engine_port() -> int:
    """Where each test's engine listens, so that the routes of the shared gateway stay true."""
    return free_port()


@pytest.fixture
async def engine(engine_port: int) -> AsyncIterator[Engine]:
    engine = await Engine().start(engine_port)
    yield engine
    await engine.stop()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, gateway_redis: str, engine_port: int) -> Iterator[Process]:
    """One gateway for all tests that do not stop it."""
    with redis.Redis.from_url(gateway_redis) as client:
        publish(client, engine_port)
    process = Process(tmp_path_factory.mktemp("gateway") / "state", gateway_redis)
    process.spawn()
    yield process
    process.end()


@pytest.fixture
async def gateway(
    shared: Process, engine: Engine, gateway_redis: str, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Process]:
    """A running gateway; `@pytest.mark.parametrize("gateway", [{…}], indirect=True)` starts one of its own with that
    environment."""
    if hasattr(request, "param"):
        async with Process(tmp_path / "state", gateway_redis, **request.param) as process:
            yield process
        return
    async with shared.client():
        await until(shared.is_ready, "the shared gateway")
        await until(shared.is_idle, "an idle gateway")
        yield shared
        await until(shared.is_idle, "an idle gateway")
        with redis.Redis.from_url(gateway_redis) as client:
            client.hset(names.WATERMARKS, f"gateway-test/{shared.epoch}", int(await shared.gauge("journal_sequence")))


@pytest.fixture
def usage(gateway_redis: str) -> Iterator[Usage]:
    """What is shipped while the test runs."""
    with redis.Redis.from_url(gateway_redis) as client:
        client.delete(names.USAGE)
        yield Usage(client)


@pytest.fixture
def own_usage(redis_client: redis.Redis) -> Usage:
    """The same, for gateways that a test starts on the Redis that is emptied."""
    return Usage(redis_client)
