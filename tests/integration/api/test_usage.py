"""Usage and its cost over the API."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from freehold.billing.choices import Meter
from freehold.billing.records import NewPrice
from freehold.billing.services import price_book_publish
from freehold.common import clock
from freehold.db.rls import tenant_scope
from freehold.metering.models import UsageEvent
from freehold.serving.models import Endpoint
from freehold.tenancy.models import Tenant
from tests.factories.tenants import SYSTEM, make_endpoint
from tests.integration.api.client import Api

_TEXT = dict.fromkeys(["api_key_id", "route", "region", "weight_digest", "engine_digest", "outcome"], "-")


@pytest.fixture
def endpoint(served: Tenant) -> Endpoint:
    """An endpoint with prices of 2 and 6 EUR for a million tokens."""
    price_book_publish(
        actor=SYSTEM,
        name="first",
        currency="EUR",
        valid_from=datetime(2026, 1, 1, tzinfo=UTC),
        prices=[
            NewPrice(meter=Meter.PROMPT_TOKENS, nanos=2_000_000_000),
            NewPrice(meter=Meter.COMPLETION_TOKENS, nanos=6_000_000_000),
        ],
    )
    return make_endpoint(served)


def use(endpoint: Endpoint, at: datetime) -> None:
    """One request of 1,000 prompt and 500 completion tokens."""
    with tenant_scope(endpoint.tenant_id):
        UsageEvent.objects.create(
            event_id=Endpoint().id,
            tenant_id=endpoint.tenant_id,
            occurred_at=at,
            endpoint_id=endpoint.pk,
            generation=1,
            billing_mode="tokens",
            model="acme/chat",
            prompt_tokens=1_000,
            cached_tokens=0,
            completion_tokens=500,
            reasoning_tokens=0,
            estimated=False,
            duration_ms=1,
            **_TEXT,
        )


def test_usage_of_this_month_is_summed_and_priced(api: Api, endpoint: Endpoint) -> None:
    use(endpoint, clock.now())
    use(endpoint, clock.now())
    body = api.get("/usage").body
    (line,) = body["data"]
    assert (line["endpoint"], line["model"]) == (endpoint.public_id, "acme/chat")
    assert (line["requests"], line["prompt_tokens"], line["completion_tokens"]) == (2, 2_000, 1_000)
    assert line["cost"] == {"amount_nanos": 10_000_000, "currency": "EUR", "display": "0.01 EUR"}
    assert body["total"] == {key: value for key, value in line.items() if key not in {"endpoint", "model"}}
    now = clock.now()
    assert body["start"] == f"{now:%Y-%m}-01T00:00:00Z"


def test_a_period_and_an_endpoint_can_be_chosen(api: Api, endpoint: Endpoint) -> None:
    use(endpoint, datetime(2026, 9, 3, 12, 30, tzinfo=UTC))
    use(endpoint, datetime(2026, 10, 3, 12, 30, tzinfo=UTC))
    september = api.get("/usage", start="2026-09-01T00:00:00Z", endpoint=endpoint.public_id).body
    assert september["total"]["requests"] == 1
    assert (september["start"], september["end"]) == ("2026-09-01T00:00:00Z", "2026-10-01T00:00:00Z")
    both = api.get("/usage", start="2026-09-01T02:00:00+02:00", end="2026-11-01T00:00:00Z").body
    assert both["total"]["requests"] == 2


def test_an_hour_is_the_smallest_period(api: Api, endpoint: Endpoint) -> None:
    body = api.get("/usage", start="2026-09-03T12:31:00Z", end="2026-09-03T12:32:00Z").body
    assert (body["start"], body["end"]) == ("2026-09-03T12:00:00Z", "2026-09-03T13:00:00Z")


def test_another_tenants_usage_is_not_there(endpoint: Endpoint, rival_api: Api) -> None:
    use(endpoint, clock.now())
    assert rival_api.get("/usage").body["data"] == []
    assert rival_api.get("/usage").body["total"]["requests"] == 0


def test_without_usage_and_prices_the_total_is_nought(api: Api) -> None:
    body = api.get("/usage").body
    assert body["data"] == []
    assert body["total"]["cost"] == {"amount_nanos": 0, "currency": "EUR", "display": "0.00 EUR"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"start": "yesterday"}, "start"),
        ({"start": "2026-09-02T00:00:00Z", "end": "2026-09-01T00:00:00Z"}, "end"),
        ({"start": "2020-09-02T00:00:00Z", "end": "2026-09-01T00:00:00Z"}, "start"),
        ({"start": "9999-12-31T00:00:00Z"}, "start"),
        ({"end": "0001-01-01T00:00:00Z"}, "start"),
    ],
)
def test_bad_periods_name_the_field(api: Api, query: dict[str, str], field: str) -> None:
    assert api.get("/usage", **query).problem == (400, "invalid_input", field)


def test_an_unknown_endpoint_is_a_404(api: Api) -> None:
    assert api.get("/usage", endpoint="ep_nonsense").problem[0] == 404
