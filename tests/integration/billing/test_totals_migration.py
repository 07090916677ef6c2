"""Installations that have usage, charges and credits already get the running totals of all of it."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import redis

from freehold.billing.choices import Meter
from freehold.billing.models import PostedBalance
from freehold.billing.records import NewPrice
from freehold.billing.services import credit_grant, ledger_post, price_book_publish
from freehold.db.rls import system_scope
from freehold.metering.models import UsageHour
from freehold.metering.services import usage_drain
from freehold.onebox.postgres import OWNER, EmbeddedPostgres
from freehold.tenancy.actors import system
from tests.factories.usage import NOON, make_batch, make_record, make_tenant, send

ACTOR = system("test")


def _again(postgres: EmbeddedPostgres, module: str, statements: str) -> None:
    """Undoes a migration's statements and runs them once more, as the owner."""
    migration = importlib.import_module(module)
    with psycopg.connect(postgres.url(OWNER, "freehold_test")) as session:
        session.execute(migration.UNDO)
        session.execute(getattr(migration, statements))


@pytest.mark.usefixtures("committed_db")
def test_totals_are_made_of_what_is_there_and_go_on_from_it(
    redis_client: redis.Redis, postgres: EmbeddedPostgres
) -> None:
    tenant, other = make_tenant(), make_tenant("other")
    prices = [NewPrice(meter=Meter.COMPLETION_TOKENS, nanos=10**6)]
    price_book_publish(
        actor=ACTOR, name="a", currency="EUR", prices=prices, valid_from=datetime(2026, 1, 1, tzinfo=UTC)
    )
    records = [make_record(tenant), make_record(other), make_record(tenant, at=NOON + timedelta(hours=1))]
    send(redis_client, make_batch(1, *records))
    usage_drain(client=redis_client)
    ledger_post(now=NOON + timedelta(days=1))
    credit_grant(actor=ACTOR, tenant_id=tenant.pk, amount_nanos=7, reason="test")

    def kept() -> tuple[dict[object, int], int]:
        with system_scope("test"):
            return dict(PostedBalance.objects.values_list("tenant_id", "nanos")), UsageHour.objects.count()

    assert kept() == ({tenant.pk: -3, other.pk: -5}, 3)
    _again(postgres, "freehold.billing.migrations.0004_posted_balances", "TOTAL")
    _again(postgres, "freehold.metering.migrations.0004_usage_hour_sums", "SUMS")
    assert kept() == ({tenant.pk: -3, other.pk: -5}, 3)
    credit_grant(actor=ACTOR, tenant_id=tenant.pk, amount_nanos=100, reason="test")
    send(redis_client, make_batch(4, make_record(other, at=NOON + timedelta(hours=2))))
    usage_drain(client=redis_client)
    assert kept() == ({tenant.pk: 97, other.pk: -5}, 4)
