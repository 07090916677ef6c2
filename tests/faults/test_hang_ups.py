"""Clients that hang up after k tokens of each of n choices: the engine is told at once, and k tokens are billed."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.amounts import amount
from tests.faults.cell import percentile
from tests.faults.recorder import CHAT, COMPLETIONS

if TYPE_CHECKING:
    from tests.fakes.engine import Engine
    from tests.faults.cell import Cell
    from tests.faults.conftest import Figure

CHOICES = (1, 2, 8)
TOKENS = range(51)
CLOSED_SECONDS = 0.020  # p99, from the client's hang-up to the engine's end of the connection


@amount("times", 3, 20)
async def test_a_hang_up_after_k_tokens_closes_the_engines_connection_at_once_and_bills_k_for_each_choice(
    cell: Cell, engine: Engine, times: int, figure: Figure
) -> None:
    engine.script.tokens = 60
    best, asked = 1.0, 0
    for _ in range(times):
        took = []
        for n in CHOICES:
            for tokens in TOKENS:
                engine.script.hold_after = tokens * n
                engine.hung_up.clear()
                recording = await cell.ask(n=n, path=CHAT, stop_after=tokens)
                await recording.end()
                await asyncio.wait_for(engine.hung_up.wait(), 5)
                took.append(time.monotonic() - recording.hung_up_at)
                assert recording.tokens == tokens * n
        best, asked = min(best, percentile(took, 0.99)), asked + len(took)
        figure("hang-up to the engine, p99, ms", percentile(took, 0.99) * 1000)
    assert best <= CLOSED_SECONDS, "in the quietest round: whatever else this machine does only adds"
    ledger = await cell.reconcile()
    assert len(ledger) == asked
    assert {charge.outcome for charge in ledger.values()} == {"client_closed"}
    assert {charge.prompt for charge in ledger.values()} == {engine.script.prompt}


@amount("times", 3, 20)
async def test_a_hang_up_while_the_engine_generates_on_bills_what_was_relayed(
    cell: Cell, engine: Engine, times: int
) -> None:
    engine.script.tokens, engine.script.pause = 200, 0.001
    chance = random.Random(times)
    for _ in range(times):
        asked = [
            await cell.ask(n=n, path=path, stop_after=chance.choice(TOKENS))
            for n in CHOICES
            for path in (CHAT, COMPLETIONS)
            for _ in range(2)
        ]
        for recording in asked:
            await recording.end()
            assert not recording.done
    # A frame that was written in the very turn of the event loop in which the hang-up came may not have gone out.
    await cell.reconcile(in_flight=1, engine=engine)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_whoever_hangs_up_before_anything_came_pays_nothing(cell: Cell, engine: Engine, path: str) -> None:
    engine.script.statuses = [503] * 3
    engine.script.hold_after = 0
    recording = await cell.ask(path=path)
    recording.hang_up()
    await recording.end()
    assert await cell.ledger() == {}
