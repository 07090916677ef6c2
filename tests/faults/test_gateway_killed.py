"""kill -9 of the gateway while streams run: after its restart everybody is billed once for what was relayed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from typing import TYPE_CHECKING

import pytest

from tests.faults.amounts import amount
from tests.faults.cell import until
from tests.faults.recorder import CHAT, COMPLETIONS

if TYPE_CHECKING:
    from tests.fakes.engine import Engine
    from tests.faults.cell import Cell
    from tests.faults.recorder import Recording


WHO = ["all of it", "the process that serves"]


@pytest.mark.parametrize("who", WHO)
@amount("times", 3, 30)
async def test_a_killed_gateway_bills_each_choice_for_what_was_relayed_give_or_take_the_frame_in_flight(
    cell: Cell, engine: Engine, times: int, who: str
) -> None:
    engine.script.tokens, engine.script.pause = 100, 0.005
    chance = random.Random(times)
    for turn in range(times):
        under_way = [await cell.ask(n=n, path=path) for n in (1, 2, 8) for path in (CHAT, COMPLETIONS)]
        enough = chance.randint(0, 40)
        await until(lambda: _has_come_to(under_way[turn % 6], enough), "the moment to kill")  # noqa: B023 - used at once
        await asyncio.sleep(chance.random() * 0.005)
        assert not any(recording.done for recording in under_way)
        if who == WHO[0]:
            await cell.gateway.kill()
            await cell.gateway.start()
        else:
            await _kill_the_process_that_serves(cell)
        for recording in under_way:
            await recording.end()
    finished = await (await cell.ask(n=2)).end()
    assert finished.done
    ledger = await cell.reconcile(in_flight=1, engine=engine)
    assert ledger[finished.event].completion == 200
    assert sum(charge.outcome == "recovered" for charge in ledger.values()) >= 3 * times


def _has_come_to(recording: Recording, tokens: int) -> bool:
    assert not recording.over.is_set(), recording
    return recording.tokens >= tokens


async def _kill_the_process_that_serves(cell: Cell) -> None:
    """Its parent starts another on the same journal. After several in a row it gives up and ends, and is started again
    by whoever runs it."""
    gateway, killed = cell.gateway, cell.gateway.pid
    os.kill(killed, signal.SIGKILL)
    await until(lambda: not gateway.is_running or gateway.pids not in ([], [killed]), "another process")
    if not gateway.is_running:
        await gateway.start()
    await until(gateway.is_ready, "a gateway that serves again")
