"""A balance is credits less everything used, to the nano, whether it is posted yet or not."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.db import connection, transaction
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.billing.choices import Meter
from freehold.billing.models import CreditEntry, LedgerEntry, PostedBalance, PriceBook
from freehold.billing.records import NewPrice
from freehold.billing.selectors import balance, balances, usage_and_cost
from freehold.billing.services import credit_grant, ledger_post, price_book_publish
from freehold.common.ids import uuid7
from freehold.db.rls import system_scope
from freehold.metering.records import UsageSum
from freehold.metering.selectors import hours_usage
from freehold.metering.services import replica_interval_record, usage_drain
from freehold.tenancy.actors import system
from freehold.tenancy.models import Tenant
from freehold.wire.usage import UsageRecord
from tests.factories.usage import NOON, make_batch, make_record, make_tenant, send

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
LATER = NOON + timedelta(days=2)
PRICES = [
    NewPrice(meter=Meter.PROMPT_TOKENS, nanos=333_333_333),
    NewPrice(meter=Meter.CACHED_PROMPT_TOKENS, nanos=33_333_333),
    NewPrice(meter=Meter.COMPLETION_TOKENS, nanos=999_999_999),
    NewPrice(meter=Meter.ACCELERATOR_SECONDS, nanos=3_600_000_000),
]


def _publish(valid_from: datetime = datetime(2026, 1, 1, tzinfo=UTC), prices: list[NewPrice] | None = None) -> None:
    price_book_publish(
        actor=system("test"), name="test", currency="EUR", prices=prices or PRICES, valid_from=valid_from
    )


def _drain(client: redis.Redis, *records: UsageRecord) -> None:
    send(client, make_batch(1, *records, epoch=uuid.uuid4().hex))
    usage_drain(client=client)


def _credit(tenant: Tenant, nanos: int) -> None:
    credit_grant(actor=system("test"), tenant_id=tenant.pk, amount_nanos=nanos, reason="test")


def _replica(tenant: Tenant, state: str | None, at: datetime) -> None:
    replica_interval_record(
        tenant_id=tenant.pk,
        endpoint_id=tenant.pk,
        replica_id="rpl_1",
        generation=1,
        flavor="cpu",
        accelerators=1,
        billing_mode="gpu_seconds",
        state=state,
        at=at,
    )


def _cost(tenant: Tenant) -> int:
    return usage_and_cost(tenant_id=tenant.pk, start=NOON - 30 * HOUR, end=LATER, now=LATER).total.amount_nanos


def _totals() -> Mapping[Any, int]:
    with system_scope("test"):
        paid_in = dict(CreditEntry.objects.values_list("tenant_id").annotate(Sum("amount_nanos")).order_by())
        charges = dict(LedgerEntry.objects.values_list("tenant_id").annotate(Sum("amount_nanos")).order_by())
    return {tenant: paid_in.get(tenant, 0) - charges.get(tenant, 0) for tenant in paid_in.keys() | charges.keys()}


def test_usage_counts_from_its_commit_and_posting_changes_nothing(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    _publish()
    _credit(tenant, 1_000_000)
    _drain(redis_client, make_record(tenant, at=NOON + MINUTE))
    assert balance(tenant_id=tenant.pk) == 1_000_000 - 7_133
    assert ledger_post(now=LATER).entries == 3
    assert balance(tenant_id=tenant.pk) == 1_000_000 - 7_133
    _drain(redis_client, make_record(tenant, at=NOON + 2 * MINUTE))
    late = balance(tenant_id=tenant.pk)
    assert late == 1_000_000 - _cost(tenant)
    ledger_post(now=LATER)
    assert balance(tenant_id=tenant.pk) == late


def test_running_replicas_cost_by_the_moment_also_in_hours_that_nobody_has_marked_yet() -> None:
    tenant = make_tenant()
    _publish()
    _replica(tenant, "ready", NOON - HOUR)
    ledger_post(now=NOON + 6 * MINUTE)
    for minutes in (10, 90, 150):
        # at 3.60 an hour a microsecond is a nano
        left = balance(tenant_id=tenant.pk, now=NOON + minutes * MINUTE)
        assert left == -(60 + minutes) * 60_000_000
    ledger_post(now=NOON + 2 * HOUR + 6 * MINUTE)
    assert balance(tenant_id=tenant.pk, now=NOON + 150 * MINUTE) == -210 * 60_000_000


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("use"), st.integers(0, 4 * 3_600), st.integers(0, 99_999)),
            st.tuples(st.just("post"), st.integers(0, 5 * 3_600), st.just(0)),
            st.tuples(st.just("credit"), st.integers(-(10**9), 10**9).filter(bool), st.just(0)),
            st.tuples(st.just("ready"), st.integers(0, 4 * 3_600), st.just(0)),
            st.tuples(st.just("gone"), st.integers(0, 4 * 3_600), st.just(0)),
        ),
        max_size=8,
    ),
)
def test_a_balance_is_credits_less_cost_whatever_happened_in_whatever_order(
    redis_client: redis.Redis, steps: list[tuple[str, int, int]]
) -> None:
    tenant = make_tenant(f"t-{uuid7().hex[:30]}")
    credited = 0
    with transaction.atomic():
        if not PriceBook.objects.exists():
            _publish()
            _publish(NOON.replace(year=2027), [NewPrice(meter=Meter.PROMPT_TOKENS, nanos=7)])
        for kind, number, tokens in steps:
            moment = NOON + timedelta(seconds=number)
            if kind == "use":
                _drain(redis_client, make_record(tenant, at=moment, prompt_tokens=tokens, cached_tokens=tokens // 3))
            elif kind == "post":
                ledger_post(now=moment)
            elif kind == "credit":
                _credit(tenant, number)
                credited += number
            else:
                _replica(tenant, "ready" if kind == "ready" else None, moment)
            assert balance(tenant_id=tenant.pk, now=LATER) == credited - _cost(tenant)
        with system_scope("test"):
            kept = dict(PostedBalance.objects.values_list("tenant_id", "nanos"))
        assert kept == _totals()


def test_an_hour_that_is_posted_while_we_read_counts_once(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = make_tenant()
    _publish()
    _drain(redis_client, make_record(tenant))
    expected = balance(tenant_id=tenant.pk)

    def overtaken(**arguments: Any) -> list[UsageSum]:
        found = hours_usage(**arguments)
        monkeypatch.setattr(asked, hours_usage)
        assert ledger_post(now=LATER).entries == 3
        return found

    asked = "freehold.billing.selectors.hours_usage"
    monkeypatch.setattr(asked, overtaken)
    assert balance(tenant_id=tenant.pk) == expected < 0
    assert balance(tenant_id=tenant.pk) == expected


def test_a_balance_costs_the_same_however_much_was_used(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    _publish()

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            balance(tenant_id=tenant.pk)
        assert not any("metering_usageevent" in query["sql"] for query in captured)
        return len(captured)

    _drain(redis_client, make_record(tenant))
    before = queries()
    _drain(redis_client, *(make_record(tenant, model=f"acme/{number}") for number in range(50)))
    assert queries() == before


def test_many_tenants_are_asked_at_once_and_each_has_its_own(redis_client: redis.Redis) -> None:
    tenants = [make_tenant(slug) for slug in ("a", "b", "c")]
    _publish()
    for number, tenant in enumerate(tenants):
        _credit(tenant, 10**9 * (number + 1))
    _drain(redis_client, make_record(tenants[0]), make_record(tenants[1], at=NOON - HOUR), make_record(tenants[1]))
    with system_scope("test"):
        found = balances(tenant_ids=[tenant.pk for tenant in tenants])
    assert found == {tenant.pk: balance(tenant_id=tenant.pk) for tenant in tenants}
    assert found == {tenants[0].pk: 10**9 - 7_133, tenants[1].pk: 2 * 10**9 - 2 * 7_133, tenants[2].pk: 3 * 10**9}


def test_an_hour_in_which_prices_change_is_rated_by_both(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = make_tenant()
    _publish(prices=[NewPrice(meter=Meter.COMPLETION_TOKENS, nanos=10**6)])
    monkeypatch.setattr("freehold.common.clock.now", lambda: NOON)
    _publish(NOON + 30 * MINUTE, [NewPrice(meter=Meter.COMPLETION_TOKENS, nanos=10**7)])
    _drain(redis_client, make_record(tenant, at=NOON + MINUTE), make_record(tenant, at=NOON + 40 * MINUTE))
    assert balance(tenant_id=tenant.pk) == -55
    assert ledger_post(now=LATER).entries == 2
    assert balance(tenant_id=tenant.pk) == -55
