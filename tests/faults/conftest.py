"""Faults: what happens to money and to others when something is killed, stopped, cut off or hostile.

Nothing is mocked. Each test has a cell (cell.py): a gateway process, a Redis and a metering drain of its own, the
session's PostgreSQL, and the stub engine or (mark `engine`) real vLLM. The oracle is a recorder in front
(recorder.py): it counts the frames that were relayed; the ledger in PostgreSQL must equal it. Lost 0, duplicate 0;
after a kill -9 of the gateway a choice may differ by the frame in flight.

`make test` makes each fault happen a few times, `make soak` (mark `soak`) as often and as long as is promised:
amounts.py. Where a figure is promised, the test measures it and the session prints it at its end (`figure`).

| file | fault |
|---|---|
| test_gateway_killed.py | kill -9 of the gateway, or of its process that serves, in mid-stream |
| test_drain_killed.py | kill -9 of the drain under load |
| test_redis_away.py | Redis stopped, then emptied |
| test_postgres_away.py | PostgreSQL stopped |
| test_hang_ups.py | hang-up after k tokens, n choices |
| test_stalled_readers.py | clients that stop reading |
| test_slow_senders.py | thousands of sockets that send a byte now and then |
| test_malformed.py | request smuggling and malformed HTTP (malformed.py is the corpus) |
| test_large_bodies.py | 100 MB, 100,000 levels of nesting |
| test_room.py | 200 requests at once, at four gateways, on room for ten |
| test_money.py | prepaid tenants while gateways are killed and Redis forgets |
| test_engine_killed.py | vLLM: SIGTERM, SIGKILL of its core, SIGSTOP, hang-ups |
"""

from __future__ import annotations

import resource
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from django.db import connections

from freehold.onebox.postgres import SUPERUSER, EmbeddedPostgres
from freehold.onebox.redis import EmbeddedRedis
from tests.factories.ports import free_port
from tests.fakes.engine import Engine
from tests.faults.cell import Cell, Drain
from tests.integration.gateway.conftest import Process

_SETTINGS = {"GATEWAY_SHIP_SECONDS": "0", "GATEWAY_RESEND_SECONDS": "0.5", "GATEWAY_MAX_GATEWAYS": "1"}


Figure = Callable[[str, float], None]
_figures = pytest.StashKey[dict[str, list[float]]]()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Notes a measured figure by its name, which ends in its unit."""
    kept = request.config.stash.setdefault(_figures, {})

    def note(name: str, value: float) -> None:
        kept.setdefault(name, []).append(value)

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the largest of each figure."""
    for name, values in config.stash.get(_figures, {}).items():
        terminalreporter.write_line(f"{name}: {max(values):.1f} (largest of {len(values)})")


@pytest.fixture(scope="session", autouse=True)
def open_files() -> Iterator[None]:
    """As many open files as the system allows, for us and for the processes that we start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def cell_redis() -> Iterator[EmbeddedRedis]:
    """A Redis that remembers across a stop, as an operator's does."""
    folder = Path(tempfile.mkdtemp(prefix="freehold-faults-", dir="/var/tmp"))
    folder.chmod(0o755)
    server = EmbeddedRedis(folder / "redis", port=free_port(), password=secrets.token_urlsafe(16))
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def tenant(committed_db: None) -> str:
    """Public id of a tenant in PostgreSQL."""
    from tests.factories.usage import make_tenant  # models wait for Django, conftests come before

    return make_tenant().public_id


@pytest.fixture
def settings() -> dict[str, str]:
    """More of the gateway's environment; a module overrides this fixture."""
    return {}


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """The stub engine."""
    engine = await Engine().start()
    yield engine
    await engine.stop()


class Replica(Protocol):
    """What a route leads to."""

    name: str
    port: int


@pytest.fixture
async def cell(
    engine: Replica,
    tenant: str,
    cell_redis: EmbeddedRedis,
    postgres: EmbeddedPostgres,
    settings: dict[str, str],
    tmp_path: Path,
) -> AsyncIterator[Cell]:
    """A running cell whose route leads to `engine`."""
    gateway = Process(tmp_path / "state", cell_redis.url, **{**_SETTINGS, **settings})
    drain = Drain(cell_redis.url, tmp_path / "drain.log")
    database_url = postgres.url(SUPERUSER, connections["default"].settings_dict["NAME"])
    cell = Cell(gateway=gateway, drain=drain, redis_server=cell_redis, tenant=tenant, database_url=database_url)
    cell.flush()
    cell.publish(engine.port, served=engine.name)
    drain.spawn()
    try:
        async with gateway:
            yield cell
    finally:
        drain.end()
