"""Usage and cost on the console, from what gateways reported."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
import redis

from freehold.billing.choices import Meter
from freehold.billing.records import NewPrice
from freehold.billing.services import price_book_publish
from freehold.common import clock
from freehold.console.periods import month_start, previous_month
from freehold.metering.services import usage_drain
from freehold.serving.models import Endpoint
from freehold.tenancy.models import Tenant
from tests.factories.tenants import SYSTEM
from tests.factories.usage import make_batch, make_record, send
from tests.integration.console.people import Person


@pytest.fixture
def prices(acme: Tenant) -> None:
    """10 prompt tokens cost 20 µEUR, 5 completion tokens 40 µEUR; nothing is cheaper for being cached."""
    price_book_publish(
        actor=SYSTEM,
        name="test",
        currency="EUR",
        prices=[
            NewPrice(meter=Meter.PROMPT_TOKENS, nanos=2_000_000_000),
            NewPrice(meter=Meter.COMPLETION_TOKENS, nanos=8_000_000_000),
        ],
    )


def _call(client: redis.Redis, tenant: Tenant, endpoint: uuid.UUID, *, at: datetime, model: str = "acme/chat") -> None:
    record = make_record(tenant, at=at, endpoint=endpoint, model=model, cached_tokens=0)
    send(client, make_batch(1, record, epoch=uuid.uuid4().hex))
    assert usage_drain(client=client).events == 1


def test_months_begin_at_midnight_utc() -> None:
    moment = datetime(2027, 1, 1, 0, 30, tzinfo=UTC)
    assert month_start(moment) == datetime(2027, 1, 1, tzinfo=UTC)
    assert previous_month(moment) == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def test_without_usage_the_page_says_so(admin: Person) -> None:
    page = admin.get("/console/usage").text
    assert "Nothing was used this month" in page
    assert f"{clock.now():%B %Y} so far" in page


def test_a_call_is_on_the_usage_page_and_on_its_endpoints(
    prices: None, chat: Endpoint, acme: Tenant, admin: Person, redis_client: redis.Redis
) -> None:
    _call(redis_client, acme, chat.pk, at=clock.now())
    usage = admin.get("/console/usage").text
    assert f'href="/console/endpoints/{chat.public_id}">chat</a>' in usage
    assert "0.00006 EUR" in usage
    page = admin.get(f"/console/endpoints/{chat.public_id}/usage", htmx=True).text
    assert "<dd>10</dd>" in page
    assert "<dd>5</dd>" in page
    assert "0.00006 EUR" in page


def test_what_a_deleted_endpoint_used_stays(
    prices: None, acme: Tenant, admin: Person, redis_client: redis.Redis
) -> None:
    _call(redis_client, acme, uuid.uuid4(), at=clock.now(), model="acme/gone")
    page = admin.get("/console/usage").text
    assert "acme/gone" in page
    assert "(deleted)" in page


def test_last_month_is_shown_below(chat: Endpoint, acme: Tenant, admin: Person, redis_client: redis.Redis) -> None:
    before = month_start(clock.now()) - timedelta(hours=1)
    _call(redis_client, acme, chat.pk, at=before)
    page = admin.get("/console/usage").text
    assert "Nothing was used this month" in page
    assert f"{before:%B %Y}" in page
    assert f'href="/console/endpoints/{chat.public_id}">chat</a>' in page


def test_another_tenants_usage_is_not_shown(
    prices: None, rival: Tenant, admin: Person, redis_client: redis.Redis
) -> None:
    _call(redis_client, rival, uuid.uuid4(), at=clock.now(), model="rival/secret")
    assert "secret" not in admin.get("/console/usage").text
