"""Prices, accounts and balances as gateways find them, after each write and after each loss."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import redis

from freehold.billing import publication
from freehold.billing.choices import Meter
from freehold.billing.records import NewPrice
from freehold.billing.selectors import balance
from freehold.billing.services import account_set, credit_grant, price_book_publish
from freehold.common import clock
from freehold.db.versions import next_version
from freehold.metering.services import usage_drain
from freehold.tenancy.actors import system
from freehold.tenancy.models import Tenant
from freehold.wire import connection, names
from freehold.wire.balances import Balances
from freehold.wire.names import Section
from freehold.wire.publish import Publisher, split
from freehold.wire.records import AccountRecord, PriceRecord, R, decode
from tests.factories.usage import make_batch, make_record, make_tenant, send

pytestmark = pytest.mark.usefixtures("committed_db")

ACTOR = system("test")


def _prices(nanos: int, valid_from: datetime | None = None) -> None:
    prices = [
        NewPrice(meter=Meter.PROMPT_TOKENS, nanos=nanos),
        NewPrice(meter=Meter.COMPLETION_TOKENS, nanos=nanos, model="acme/chat"),
    ]
    price_book_publish(actor=ACTOR, name="test", currency="EUR", prices=prices, valid_from=valid_from)


def _records(client: redis.Redis, section: Section, kind: type[R]) -> dict[str, R]:
    found = cast("dict[bytes, bytes]", client.hgetall(names.section(section)))
    return {name.decode(): decode(split(value)[1], kind) for name, value in found.items() if split(value)[1]}


def _money(client: redis.Redis, tenant: Tenant) -> dict[str, int]:
    found: Any = client.hgetall(names.money(tenant.public_id))
    return {name.decode(): int(value) for name, value in found.items()}


def _prepaid(slug: str = "acme", nanos: int = 10**9) -> Tenant:
    tenant = make_tenant(slug)
    credit_grant(actor=ACTOR, tenant_id=tenant.pk, amount_nanos=nanos, reason="test")
    account_set(actor=ACTOR, tenant_id=tenant.pk, prepaid=True, outage_credit_nanos=500)
    return tenant


def test_an_account_and_its_balance_are_there_once_it_is_set(redis_client: redis.Redis) -> None:
    tenant = _prepaid()
    accounts = _records(redis_client, Section.ACCOUNTS, AccountRecord)
    assert accounts == {tenant.public_id: AccountRecord(prepaid=True, outage_credit_nanos=500)}
    assert _money(redis_client, tenant)["b"] == 10**9
    credit_grant(actor=ACTOR, tenant_id=tenant.pk, amount_nanos=5, reason="more")
    assert _money(redis_client, tenant)["b"] == 10**9 + 5


def test_a_balance_is_there_before_the_account_asks_for_it(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = make_tenant()
    seen: list[dict[str, int]] = []
    put = Publisher.put

    def watch(*arguments: Any, **options: Any) -> int:
        seen.append(_money(redis_client, tenant))
        return put(*arguments, **options)

    monkeypatch.setattr(Publisher, "put", watch)
    account_set(actor=ACTOR, tenant_id=tenant.pk, prepaid=True)
    assert [money["b"] for money in seen] == [0]


def test_who_pays_by_invoice_has_no_balance_there(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    credit_grant(actor=ACTOR, tenant_id=tenant.pk, amount_nanos=5, reason="test")
    publication.publish_all()
    publication.usage_settled({tenant.pk})
    assert _money(redis_client, tenant) == {}
    account_set(actor=ACTOR, tenant_id=tenant.pk, prepaid=True)
    account_set(actor=ACTOR, tenant_id=tenant.pk, prepaid=False)
    assert _records(redis_client, Section.ACCOUNTS, AccountRecord) == {tenant.public_id: AccountRecord()}


def test_prices_in_force_and_to_come_are_there_once_a_book_is_published(redis_client: redis.Redis) -> None:
    _prices(1_000, datetime(2026, 1, 1, tzinfo=UTC))
    _prices(2_000, clock.now() + timedelta(days=1))
    prices = _records(redis_client, Section.PRICES, PriceRecord)
    assert prices.keys() == {"", "acme/chat"}
    assert [(step.prompt, step.completion) for step in prices[""].steps] == [(1_000, 0), (2_000, 0)]
    assert [(step.prompt, step.completion) for step in prices["acme/chat"].steps] == [(1_000, 1_000), (2_000, 2_000)]


def test_a_price_that_has_passed_goes_with_the_next_resync(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prices(1_000, datetime(2026, 1, 1, tzinfo=UTC))
    change = clock.now() + timedelta(days=1)
    _prices(2_000, change)
    with monkeypatch.context() as patched:
        patched.setattr("freehold.common.clock.now", lambda: change)
        assert publication.publish_all() == 2
    assert [step.prompt for step in _records(redis_client, Section.PRICES, PriceRecord)[""].steps] == [2_000]


def test_the_resync_repairs_everything(redis_client: redis.Redis) -> None:
    tenants = [_prepaid("a"), _prepaid("b", 7)]
    _prices(1_000)
    redis_client.flushall()
    assert publication.publish_all() == 4
    assert [_money(redis_client, tenant)["b"] for tenant in tenants] == [10**9, 7]
    assert len(_records(redis_client, Section.ACCOUNTS, AccountRecord)) == 2
    assert all(redis_client.exists(names.complete(section)) for section in (Section.PRICES, Section.ACCOUNTS))
    assert publication.publish_all() == 0


def test_after_a_restore_of_the_database_its_balances_win_all_the_same(redis_client: redis.Redis) -> None:
    tenant = _prepaid()
    ahead = next_version() + 500
    Balances(redis_client).put({tenant.public_id: 123}, version=ahead)
    publication.usage_settled({tenant.pk})
    assert _money(redis_client, tenant)["b"] == 10**9
    assert _money(redis_client, tenant)["v"] > ahead


def test_whoever_was_faster_stays(redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process publishes between our version and our write."""
    tenant = _prepaid()
    put, calls = Balances.put, 0

    def overtaken(wire: Balances, balances: dict[str, int], *, version: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            put(wire, {tenant.public_id: 42}, version=next_version())
        return put(wire, balances, version=version)

    monkeypatch.setattr(Balances, "put", overtaken)
    publication.usage_settled({tenant.pk})
    assert calls == 2, "a version that is behind is drawn again"
    assert _money(redis_client, tenant)["b"] == 10**9


def test_used_tokens_are_off_the_published_balance_once_they_are_settled(redis_client: redis.Redis) -> None:
    tenant = _prepaid()
    _prices(10**9, datetime(2026, 1, 1, tzinfo=UTC))
    send(redis_client, make_batch(1, make_record(tenant)))
    usage_drain(client=redis_client, settled=publication.usage_settled)
    assert _money(redis_client, tenant)["b"] == balance(tenant_id=tenant.pk) == 10**9 - 15_000


def test_without_redis_the_write_stands(redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = redis.Redis.from_url("redis://127.0.0.1:1/0")
    with monkeypatch.context() as patched:
        patched.setattr(connection, "client", lambda: dead)
        tenant = _prepaid()
        _prices(1_000)
        with pytest.raises(redis.RedisError):
            publication.usage_settled({tenant.pk})
    publication.publish_all()
    assert _money(redis_client, tenant)["b"] == 10**9
