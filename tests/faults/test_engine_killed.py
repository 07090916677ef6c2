"""Real vLLM terminated, its core killed, frozen, and hung up on: clients are told the truth and billed what they got.

One vLLM serves all of it and is started again after what it does not survive; that takes most of the time, so these
faults hit many streams at once instead of many times.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.amounts import amount
from tests.faults.cell import percentile, until
from tests.faults.real_engine import RealEngine
from tests.faults.recorder import CHAT, COMPLETIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.cell import Cell
    from tests.faults.conftest import Figure
    from tests.faults.recorder import Recording

pytestmark = pytest.mark.engine

SECONDS = 400  # with a start of vLLM
IDLE_SECONDS = 0.5
SILENCE = 4  # much longer than a busy machine makes vLLM pause
_FLOWING_SECONDS = 60
_LATEST = 1_000  # tokens, of 1,500 for each choice
_EVERY_USAGE = {"include_usage": True, "continuous_usage_stats": True}


@pytest.fixture(scope="module")
def real(engine_variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEngine]:
    real = RealEngine(tmp_path_factory.mktemp("vllm"), engine_variables)
    yield real
    real.close()


@pytest.fixture
async def engine(real: RealEngine) -> RealEngine:
    await real.ensure()
    return real


@pytest.fixture
def settings() -> dict[str, str]:
    return {"GATEWAY_BETWEEN_TOKENS_SECONDS": str(SILENCE), "GATEWAY_FIRST_TOKEN_SECONDS": str(SILENCE)}


async def stream(cell: Cell, *, n: int = 1, path: str = CHAT, stop_after: int | None = None) -> Recording:
    """A long answer that says on each frame how many tokens it came to: a frame of vLLM's may hold none, or several."""
    return await cell.ask(
        n=n, path=path, stop_after=stop_after, max_tokens=1_500, ignore_eos=True, stream_options=_EVERY_USAGE
    )


async def streams_under_way(cell: Cell) -> list[Recording]:
    """Six streams that have brought something and are far from their end."""
    kinds = [(n, path) for n in (1, 2, 3) for path in (CHAT, COMPLETIONS)]
    under_way = {kind: await stream(cell, n=kind[0], path=kind[1]) for kind in kinds}
    async with asyncio.timeout(_FLOWING_SECONDS):
        while not all(10 < recording.tokens < _LATEST * n for (n, _), recording in under_way.items()):
            for (n, path), recording in under_way.items():
                if recording.tokens >= _LATEST * n:  # a busy machine lets one be done before another has begun
                    await recording.end()
                    under_way[n, path] = await stream(cell, n=n, path=path)
            await asyncio.sleep(0.01)
    return list(under_way.values())


async def told_the_truth(cell: Cell, under_way: list[Recording]) -> None:
    """Each stream ends with an error and without an end of success; the ledger has what was relayed, exactly."""
    for recording in under_way:
        await recording.end()
        assert (recording.failed, recording.done) == (True, False), recording
    ledger = await cell.reconcile()
    assert {ledger[recording.event].outcome for recording in under_way} == {"upstream_error"}
    assert all(ledger[recording.event].prompt == recording.prompt_tokens for recording in under_way)


@amount("tokens", (0, 7, 50), tuple(range(51)), seconds=SECONDS)
async def test_vllm_is_idle_in_half_a_second_after_a_hang_up(
    cell: Cell, engine: RealEngine, tokens: tuple[int, ...], figure: Figure
) -> None:
    took = []
    for n in (1, 2, 8):
        for number in tokens:
            recording = await stream(cell, n=n, stop_after=number)
            await recording.end()
            took.append(await engine.idle_since(recording.hung_up_at))
    figure("hang-up to an idle vLLM, p99, ms", percentile(took, 0.99) * 1000)
    assert percentile(took, 0.99) <= IDLE_SECONDS
    # What was written in the very turn of the event loop in which the hang-up came may not have gone out.
    ledger = await cell.reconcile(in_flight=1)
    assert len(ledger) == len(took)


@amount("times", 3, 10, seconds=SECONDS)
async def test_a_frozen_vllm_is_given_up_and_serves_again_when_it_thaws(
    cell: Cell, engine: RealEngine, times: int
) -> None:
    for _ in range(times):
        await serves_again(cell)
        under_way = await streams_under_way(cell)
        engine.freeze()
        try:
            late = await (await stream(cell)).end()
            assert late.status in (503, 504)
            await told_the_truth(cell, under_way)
        finally:
            engine.thaw()
        await engine.idle_since(time.monotonic())
    await serves_again(cell)


@amount("times", 1, 3, seconds=SECONDS)
@pytest.mark.parametrize("fault", [RealEngine.terminate, RealEngine.kill_core], ids=["SIGTERM", "SIGKILL of the core"])
async def test_a_vllm_that_ends_in_mid_stream_is_told_to_clients_and_billed_for_what_was_relayed(
    cell: Cell, engine: RealEngine, fault: Callable[[RealEngine], None], times: int
) -> None:
    for _ in range(times):
        await engine.ensure()
        await serves_again(cell)
        under_way = await streams_under_way(cell)
        fault(engine)
        await told_the_truth(cell, under_way)
        await engine.gone()
        refused = await (await stream(cell)).end()
        assert refused.status == 503
        assert "retry-after" in refused.headers


async def serves_again(cell: Cell) -> None:
    """A short answer, in full; a replica that failed is taken back within a moment."""

    async def answered() -> bool:
        recording = await (await cell.ask(max_tokens=3, stream_options=_EVERY_USAGE)).end()
        return recording.done

    await until(answered, "an answer")
    await cell.reconcile()
