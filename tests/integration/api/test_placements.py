"""/placements: a dry run says what creation would, and does nothing."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.billing.choices import Meter
from freehold.billing.records import NewPrice
from freehold.billing.services import price_book_publish
from freehold.fleet import observations
from freehold.fleet.models import Cluster, Reservation
from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from freehold.tenancy.services import tenant_residency_set
from tests.factories.clusters import gpu_node, make_cluster, observe
from tests.factories.tenants import SYSTEM, make_endpoint, make_revision
from tests.integration.api.client import Answer, Api, api_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def europe(acme: Tenant) -> Tenant:
    """`acme` with a model, and two regions."""
    make_revision(acme)
    observe(make_cluster("fra-1", region="eu-central"), gpu_node("a", 1))
    observe(make_cluster("hel-1", region="eu-north"), gpu_node("b", 2))
    return acme


def attempt(api: Api, **asked: Any) -> Answer:
    return api.post("/placements", {"model": "acme/tiny", **asked})


def verdicts(answer: Answer) -> dict[tuple[str, str], str]:
    return {(each["region"], each["flavor"][-2:]): each["verdict"] for each in answer.body["candidates"]}


def test_it_says_where_and_why_not_elsewhere(europe: Tenant, api: Api) -> None:
    answer = attempt(api, replicas=2)
    assert answer.status == 200
    assert (answer.body["placement"]["region"], answer.body["placement"]["flavor"]) == ("eu-north", "h100-80gb-hbm3-1x")
    assert (answer.body["reason"], answer.body["field"]) == ("", None)
    assert verdicts(answer) == {
        ("eu-north", "1x"): "fits", ("eu-central", "1x"): "capacity", ("eu-north", "2x"): "capacity",
    }  # fmt: skip
    assert "room for 1 replica, 2 replicas are asked for" in answer.body["candidates"][1]["reason"]


def test_it_creates_and_reserves_nothing(europe: Tenant, api: Api) -> None:
    attempt(api)
    assert api.get("/endpoints").body["data"] == []
    assert not Reservation.objects.exists()


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        ({"region": "moon"}, "region", "no region 'moon'"),
        ({"region": "eu-central"}, "region", "residency policy"),
        ({"flavor": "b300"}, "flavor", "no flavor 'b300'"),
        ({"replicas": 3}, "replicas", "ask for fewer"),
    ],
)
def test_that_there_is_no_place_is_an_answer_and_creation_says_the_same(
    europe: Tenant, api: Api, asked: dict[str, Any], field: str, words: str
) -> None:
    tenant_residency_set(actor=SYSTEM, tenant_id=europe.pk, regions=["eu-north"])
    answer = attempt(api, **asked)
    assert (answer.status, answer.body["placement"], answer.body["field"]) == (200, None, field)
    assert words in answer.body["reason"]
    created = api.post("/endpoints", {"name": "chat", "model": "acme/tiny", **asked})
    assert created.status == (403 if "policy" in words else 400)
    assert (created.body["detail"], created.body["field"]) == (answer.body["reason"], field)


def test_other_tenants_and_clusters_out_of_service_stay_unseen(europe: Tenant, rival: Tenant, api: Api) -> None:
    make_revision(rival)
    make_endpoint(rival, replicas=2)
    Cluster.objects.filter(name="fra-1").update(enabled=False)
    observations.cluster_record_unreachable(cluster_id=Cluster.objects.get(name="hel-1").pk, message="10.1.2.3 refused")
    answer = attempt(api)
    assert answer.body["placement"] is None
    assert set(verdicts(answer).values()) == {"unreachable"}
    for secret in ("rival", "hel-1", "fra-1", "10.1.2.3"):
        assert secret not in str(answer.body)


def test_who_pays_by_the_second_gets_the_cheapest(europe: Tenant, api: Api) -> None:
    prices = [
        NewPrice(meter=Meter.ACCELERATOR_SECONDS, nanos=4_000_000_000, flavor="h100-80gb-hbm3-1x"),
        NewPrice(meter=Meter.ACCELERATOR_SECONDS, nanos=1_000_000_000, flavor="h100-80gb-hbm3-2x"),
    ]
    price_book_publish(actor=SYSTEM, name="list", currency="EUR", prices=prices)
    by_second = attempt(api, billing_mode="gpu_seconds").body["placement"]
    assert (by_second["flavor"], by_second["price_per_hour"]["display"]) == ("h100-80gb-hbm3-2x", "2.00 EUR")
    by_token = attempt(api).body["placement"]
    assert (by_token["flavor"], by_token["price_per_hour"]) == ("h100-80gb-hbm3-1x", None)
    made = api.post("/endpoints", {"name": "chat", "model": "acme/tiny", "billing_mode": "gpu_seconds"})
    assert made.body["flavor"] == "h100-80gb-hbm3-2x"


@pytest.mark.parametrize(
    ("asked", "status", "field"),
    [
        ({"model": "rival/tiny"}, 404, "model"),
        ({"model": "acme/none"}, 404, None),
        ({"name": "chat"}, 400, "name"),
        ({"replicas": 65}, 400, "replicas"),
        ({"arguments": {"--trust-remote-code": True}}, 422, "arguments.--trust-remote-code"),
    ],
)
def test_bad_input_is_refused_as_for_creation(
    europe: Tenant, api: Api, asked: dict[str, Any], status: int, field: str | None
) -> None:
    answer = attempt(api, **asked)
    assert (answer.status, answer.body.get("field")) == (status, field)


def test_who_may_try(europe: Tenant) -> None:
    assert attempt(api_of(europe, Role.VIEWER)).status == 200
    assert attempt(api_of(europe, Role.INFERENCE)).status == 403
