"""Prepaid tenants while gateways are killed and Redis forgets: never more is spent than balance and outage credit."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
import redis

from freehold.wire import names
from freehold.wire.balances import Balances
from freehold.wire.records import AccountRecord
from tests.faults.amounts import amount
from tests.faults.cell import MILLION, until
from tests.faults.test_room import GATEWAYS, gateways

if TYPE_CHECKING:
    from tests.fakes.engine import Engine
    from tests.faults.cell import Cell
    from tests.integration.gateway.conftest import Process

__all__ = ["gateways"]

PRICE = 1_000  # nanos a completion token
TOKENS = 20  # of an answer, for each of its choices
WORST = 2 * TOKENS * PRICE  # of a request with two choices
BALANCE = 100 * WORST
CREDIT = GATEWAYS * 5 * WORST
ACCOUNT = AccountRecord(prepaid=True, outage_credit_nanos=CREDIT)


@pytest.fixture
def tenant(tenant: str) -> str:
    """A tenant that pays in advance, in PostgreSQL as on the wire."""
    from freehold.billing.choices import Meter
    from freehold.billing.records import NewPrice
    from freehold.billing.services import account_set, credit_grant, price_book_publish
    from freehold.common import ids
    from freehold.tenancy.actors import system

    owner, actor = ids.decode("tnt", tenant), system("test")
    prices = [NewPrice(meter=Meter.COMPLETION_TOKENS, nanos=PRICE * MILLION)]
    price_book_publish(actor=actor, name="test", currency="EUR", prices=prices)
    credit_grant(actor=actor, tenant_id=owner, amount_nanos=BALANCE, reason="test")
    account_set(actor=actor, tenant_id=owner, prepaid=True, outage_credit_nanos=CREDIT)
    return tenant


@pytest.fixture
def settings() -> dict[str, str]:
    return {"GATEWAY_MAX_GATEWAYS": str(GATEWAYS)}


@amount("times", 3, 20)
async def test_whoever_is_killed_no_more_is_spent_than_the_balance_and_nothing_stays_held(
    cell: Cell, gateways: list[Process], engine: Engine, times: int
) -> None:
    await _open_the_purse(cell, engine)
    engine.script.tokens, engine.script.pause = TOKENS, 0.0025 * times  # so that the balance outlasts the kills
    chance = random.Random(times)
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for gateway in gateways:
            group.create_task(_spend(cell, gateway, enough))
        for _ in range(times):
            await asyncio.sleep(chance.random())
            victim = chance.choice(gateways)
            await victim.kill()
            await victim.start()
        engine.script.pause = 0.0
        await until(lambda: _is_empty(cell, gateways), "an empty purse")
        enough.set()
    spent = await _spent(cell, engine)
    assert spent <= BALANCE
    assert spent > BALANCE - 2 * GATEWAYS * WORST, "money was held for nobody"
    with redis.Redis.from_url(cell.redis.url) as client:
        await until(lambda: int(client.hget(names.money(cell.tenant), "h") or 0) == 0, "nothing held")
        assert int(client.hget(names.money(cell.tenant), "b") or 0) == BALANCE - spent


@amount("times", 3, 10)
async def test_while_redis_has_lost_the_balances_only_the_outage_credit_is_spent(
    cell: Cell, gateways: list[Process], engine: Engine, times: int
) -> None:
    await _open_the_purse(cell, engine)
    engine.script.tokens = TOKENS
    for _ in range(times):
        first = await (await cell.ask(n=2, max_tokens=TOKENS)).end()
        assert first.status == 200
        await until(cell.is_drained, "all of it confirmed")
        cell.drain.kill()  # and with it whoever publishes balances
        before = len(cell.recordings)
        cell.flush()
        cell.publish(engine.port, account=ACCOUNT, price=PRICE)
        await _spend_all(cell, gateways)
        on_credit = sum(recording.tokens for recording in cell.recordings[before:]) * PRICE
        assert on_credit <= CREDIT
        assert on_credit > 0, "the credit serves"
        assert cell.recordings[-1].status == 503
        assert "retry-after" in cell.recordings[-1].headers
        cell.drain.spawn()
        await until(lambda: _epoch_is_open(cell), "an epoch in force")
    while (last := await (await cell.ask(n=2, max_tokens=TOKENS)).end()).status == 200:
        pass
    assert last.status == 402
    assert await _spent(cell, engine) <= BALANCE + CREDIT


async def _open_the_purse(cell: Cell, engine: Engine) -> None:
    cell.publish(engine.port, account=ACCOUNT, price=PRICE)
    await until(lambda: _epoch_is_open(cell), "an epoch in force")

    async def served() -> bool:
        return (await (await cell.ask(n=2, max_tokens=TOKENS)).end()).status == 200

    await until(served, "a balance that serves")


async def _is_empty(cell: Cell, gateways: list[Process]) -> bool:
    """Whether every gateway refuses for want of money although nothing is under way any more: what is just being
    confirmed is subtracted twice for a moment."""
    if not await cell.is_drained():
        return False
    asked = [await (await cell.ask(n=2, max_tokens=TOKENS, gateway=gateway)).end() for gateway in gateways]
    return all(recording.status == 402 for recording in asked)


def _epoch_is_open(cell: Cell) -> bool:
    with redis.Redis.from_url(cell.redis.url) as client:
        return Balances(client).epoch().open


async def _spend(cell: Cell, gateway: Process, enough: asyncio.Event) -> None:
    """Requests at one gateway until told to end; it may be gone at times."""
    while not enough.is_set():
        try:
            recording = await cell.ask(n=2, max_tokens=TOKENS, gateway=gateway)
            await recording.end()
        except OSError:
            await asyncio.sleep(0.05)
            continue
        if recording.status != 200:
            await asyncio.sleep(0.05)


async def _spend_all(cell: Cell, gateways: list[Process]) -> None:
    """Until every gateway refuses, three times in a row."""
    for gateway in gateways:
        refused = 0
        while refused < 3:
            recording = await (await cell.ask(n=2, max_tokens=TOKENS, gateway=gateway)).end()
            refused = 0 if recording.status == 200 else refused + 1


async def _spent(cell: Cell, engine: Engine) -> int:
    """Nanos, by the ledger, which is in step with the recordings."""
    ledger = await cell.reconcile(in_flight=1, engine=engine)
    return sum(charge.completion for charge in ledger.values()) * PRICE
