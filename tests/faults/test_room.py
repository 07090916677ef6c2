"""Many requests at once, at several gateways, on room for a few: exactly those few are admitted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import redis

from freehold.wire import names
from freehold.wire.balances import Balances
from freehold.wire.records import AccountRecord, Limits
from tests.faults.amounts import amount
from tests.faults.cell import KEY, until
from tests.integration.gateway.conftest import Process

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.engine import Engine
    from tests.faults.cell import Cell
    from tests.faults.recorder import Recording

GATEWAYS, REQUESTS, ROOM = 4, 200, 10
CONTEXT, ANSWER = 300, 200  # max_model_len, which the prompt's bound reaches; max_tokens
PRICE = 1_000
WORST = ANSWER * PRICE
REFILL_SECONDS = 60 / ROOM  # until a rate has room for one more

LIMITS = {
    "the balance": None,  # first, while nothing else is held of it
    "concurrency": Limits(concurrency=ROOM),
    "requests a minute": Limits(requests_per_minute=ROOM),
    "tokens a minute": Limits(tokens_per_minute=ROOM * (CONTEXT + ANSWER) + 10),
}


@pytest.fixture
async def gateways(cell: Cell, settings: dict[str, str], tmp_path: Path) -> AsyncIterator[list[Process]]:
    """Four gateways on one Redis, each with a journal of its own."""
    async with AsyncExitStack() as stack:
        for number in range(1, GATEWAYS):
            folder = tmp_path / f"gateway-{number}"
            folder.mkdir()
            environment = {"GATEWAY_ID": f"gateway-{number}", "GATEWAY_MAX_GATEWAYS": str(GATEWAYS), **settings}
            more = Process(folder / "state", cell.redis.url, **environment)
            cell.others.append(await stack.enter_async_context(more))
        yield [cell.gateway, *cell.others]


@amount("times", 3, 100, seconds=180)
async def test_200_at_once_on_room_for_ten_admit_exactly_ten_whatever_limits(
    cell: Cell, gateways: list[Process], engine: Engine, times: int
) -> None:
    cell.drain.kill()  # balances are set by hand below
    engine.script.tokens, engine.script.hold_after = 4, 0
    for kind, limits in LIMITS.items():
        account = AccountRecord(prepaid=True) if kind == "the balance" else None
        cell.publish(engine.port, max_model_len=CONTEXT, limits=limits, account=account, price=PRICE)
        await until(cell.is_followed, "gateways that know the limits")
        for turn in range(times):
            await _make_room(cell)
            if account:
                await _fill_the_purse(cell, gateways, spent=turn * ROOM * engine.script.tokens * PRICE)
            await _ask_and_release(cell, gateways, engine, kind)


async def _ask_and_release(cell: Cell, gateways: list[Process], engine: Engine, kind: str) -> None:
    engine.received.clear()
    engine.release.clear()
    started = time.monotonic()
    asked = await asyncio.gather(
        *(cell.ask(gateway=gateways[number % GATEWAYS], max_tokens=ANSWER) for number in range(REQUESTS))
    )
    await until(lambda: sum(one.over.is_set() for one in asked) >= REQUESTS - ROOM, f"all decisions ({kind})")
    assert time.monotonic() - started < REFILL_SECONDS, "too slow for rates to stand still"
    await until(lambda: len(engine.received) >= ROOM, "ten at the engine")
    engine.release.set()
    for recording in asked:
        await recording.end()
    admitted = [recording for recording in asked if recording.status == 200]
    assert len(admitted) == ROOM == len(engine.received), kind
    assert all(recording.done for recording in admitted)
    _are_refused_well([recording for recording in asked if recording.status != 200], kind)


def _are_refused_well(refused: list[Recording], kind: str) -> None:
    for recording in refused:
        if kind == "the balance":
            assert recording.status == 402
            assert b'"insufficient_quota"' in recording.body
        else:
            assert recording.status == 429
            assert b'"rate_limit_exceeded"' in recording.body
            assert int(recording.headers["retry-after"]) >= 1


async def _make_room(cell: Cell) -> None:
    """Nothing is in flight, all buckets are full."""
    with redis.Redis.from_url(cell.redis.url) as client:
        quota = names.quota(f"k:{KEY}")
        await until(lambda: int(client.hget(quota, "c") or 0) == 0, "nothing in flight")
        client.delete(quota)


async def _fill_the_purse(cell: Cell, gateways: list[Process], *, spent: int) -> None:
    """The balance covers ten and a half worst cases more than was spent, which the gateways hold: nobody has confirmed
    it."""
    with redis.Redis.from_url(cell.redis.url) as client:
        await until(lambda: int(client.hget(names.money(cell.tenant), "h") or 0) == spent, "what was spent being held")
        balances = Balances(client)
        balances.put({cell.tenant: spent + ROOM * WORST + WORST // 2}, version=time.time_ns() // 1_000)
        if not balances.epoch().id:
            balances.begin(balances.draft(), expected=())
        await until(lambda: balances.epoch().open and len(balances.epoch().gateways) == len(gateways), "all gateways")
