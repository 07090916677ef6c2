"""Redis stopped, then emptied, under load: nobody notices, and afterwards everything is in the ledger once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.faults.amounts import amount

if TYPE_CHECKING:
    from tests.fakes.engine import Engine
    from tests.faults.cell import Cell


@amount("outage", (3, 1.5), (3, 60.0))
async def test_while_redis_is_stopped_everybody_is_served_and_then_billed_once(
    cell: Cell, engine: Engine, outage: tuple[int, float]
) -> None:
    times, seconds = outage
    engine.script.pause = 0.02
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(cell.load(enough))
        for _ in range(times):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(cell.redis.stop)
            stopped = len(cell.recordings)
            await asyncio.sleep(seconds)
            assert len(cell.recordings) > stopped + 2 * seconds, "requests went on"
            await asyncio.to_thread(cell.redis.start)
        enough.set()
    ledger = await cell.reconcile()
    assert len(ledger) == len(cell.recordings)


@amount("times", 3, 30)
async def test_whenever_redis_forgets_everything_what_was_in_the_stream_is_sent_again(
    cell: Cell, engine: Engine, times: int
) -> None:
    engine.script.pause = 0.005
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(cell.load(enough))
        for turn in range(times):
            # Every other time with records in the stream for certain: nobody is there to drain them.
            if turn % 2 == 0:
                cell.drain.kill()
            await asyncio.sleep(0.6)
            cell.flush()
            if turn % 2 == 0:
                cell.drain.spawn()
            cell.publish(engine.port)
        enough.set()
    ledger = await cell.reconcile()
    assert len(ledger) == len(cell.recordings)
