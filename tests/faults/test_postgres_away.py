"""PostgreSQL stopped under load: the gateway does not notice, and afterwards everything is in the ledger once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psycopg
import pytest
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper

from tests.faults.amounts import amount

if TYPE_CHECKING:
    from freehold.onebox.postgres import EmbeddedPostgres
    from tests.fakes.engine import Engine
    from tests.faults.cell import Cell


@pytest.fixture
def stoppable(tenant: str, postgres: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """The session's PostgreSQL, which runs again afterwards. Our own connections do not survive it."""
    _let_go()
    yield postgres
    postgres.stop()
    postgres.start()
    _let_go()


def _let_go() -> None:
    for connection in connections.all(initialized_only=True):
        connection.close()
        if isinstance(connection, DatabaseWrapper):
            connection.close_pool()


@amount("outage", (3, 1.5), (3, 60.0))
async def test_while_postgres_is_stopped_everybody_is_served_and_then_billed_once(
    stoppable: EmbeddedPostgres, cell: Cell, engine: Engine, outage: tuple[int, float]
) -> None:
    times, seconds = outage
    engine.script.pause = 0.02
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(cell.load(enough))
        for _ in range(times):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(stoppable.stop)
            stopped = len(cell.recordings)
            with pytest.raises(psycopg.OperationalError):
                cell.rows()
            await asyncio.sleep(seconds)
            assert len(cell.recordings) > stopped + 2 * seconds, "requests went on"
            assert await cell.gateway.is_ready()
            await asyncio.to_thread(stoppable.start)
        enough.set()
    ledger = await cell.reconcile()
    assert len(ledger) == len(cell.recordings)
