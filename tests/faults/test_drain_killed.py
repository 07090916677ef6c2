"""kill -9 of the metering drain while it works: everything is in the ledger once."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from tests.faults.amounts import amount
from tests.faults.cell import until

if TYPE_CHECKING:
    from tests.fakes.engine import Engine
    from tests.faults.cell import Cell


@amount("times", 3, 50)
async def test_a_drain_killed_under_load_loses_nothing_and_counts_nothing_twice(
    cell: Cell, engine: Engine, times: int
) -> None:
    engine.script.tokens = 3
    chance = random.Random(times)
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(cell.load(enough, at_once=8, n=2))
        for _ in range(times):
            before = len(cell.rows())
            # At work: what is committed now was not before. Then at any moment of its next turns.
            await until(lambda: len(cell.rows()) > before, "a drain at work")  # noqa: B023 - used at once
            await asyncio.sleep(chance.random() * 0.1)
            cell.drain.kill()
            cell.drain.spawn()
        enough.set()
    ledger = await cell.reconcile()
    assert len(ledger) == len(cell.recordings)
