"""/regions and /flavors: what is on offer to the tenant."""

from __future__ import annotations

import pytest

from freehold.billing.choices import Meter
from freehold.billing.records import NewPrice
from freehold.billing.services import price_book_publish
from freehold.fleet import observations, services
from freehold.fleet.models import GpuFlavor
from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from freehold.tenancy.services import tenant_residency_set
from tests.factories.clusters import gpu_node, make_cluster, observe
from tests.factories.tenants import SYSTEM, make_endpoint, make_revision
from tests.integration.api.client import Api, api_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def europe(acme: Tenant) -> None:
    """Two regions, one accelerator in the one and two in the other."""
    observe(make_cluster("fra-1", region="eu-central"), gpu_node("a", 1))
    observe(make_cluster("hel-1", region="eu-north"), gpu_node("b", 2))


@pytest.mark.usefixtures("europe")
def test_regions_say_whether_the_residency_policy_allows_them(acme: Tenant, api: Api) -> None:
    services.region_create(actor=SYSTEM, name="empty")
    tenant_residency_set(actor=SYSTEM, tenant_id=acme.pk, regions=["eu-north"])
    assert api.get("/regions").body == {
        "data": [
            {"name": "eu-central", "display_name": "", "allowed": False},
            {"name": "eu-north", "display_name": "", "allowed": True},
        ]
    }


@pytest.mark.usefixtures("europe")
def test_flavors_say_what_they_are_what_they_cost_and_where_there_is_room(acme: Tenant, api: Api) -> None:
    price = NewPrice(meter=Meter.ACCELERATOR_SECONDS, nanos=2_500_000_000, flavor="h100-80gb-hbm3-2x")
    price_book_publish(actor=SYSTEM, name="list", currency="EUR", prices=[price])
    make_revision(acme)
    make_endpoint(acme)
    one, two = api.get("/flavors").body["data"]
    assert one == {
        "name": "h100-80gb-hbm3-1x",
        "accelerator": "NVIDIA-H100-80GB-HBM3",
        "accelerators": 1,
        "nodes": 1,
        "memory_bytes": 81559 * 1024**2,
        "price_per_hour": None,
        "regions": [{"region": "eu-central", "free_replicas": 1}, {"region": "eu-north", "free_replicas": 1}],
    }
    assert two["price_per_hour"] == {"amount_nanos": 5_000_000_000, "currency": "EUR", "display": "5.00 EUR"}
    assert two["regions"] == [{"region": "eu-north", "free_replicas": 0}], "on offer, and in use"


@pytest.mark.usefixtures("europe")
def test_what_the_tenant_cannot_have_is_not_on_offer(acme: Tenant, api: Api) -> None:
    GpuFlavor.objects.filter(accelerators=2).update(enabled=False)
    tenant_residency_set(actor=SYSTEM, tenant_id=acme.pk, regions=["eu-central"])
    (only,) = api.get("/flavors").body["data"]
    assert only["regions"] == [{"region": "eu-central", "free_replicas": 1}]


@pytest.mark.usefixtures("europe")
def test_a_cluster_that_does_not_answer_has_no_room(api: Api) -> None:
    from freehold.fleet.models import Cluster

    observations.cluster_record_unreachable(cluster_id=Cluster.objects.get(name="fra-1").pk, message="secret.internal")
    answer = api.get("/flavors")
    assert answer.body["data"][0]["regions"][0] == {"region": "eu-central", "free_replicas": 0}
    assert "secret.internal" not in str(answer.body)


def test_who_may_look(acme: Tenant) -> None:
    for path in ("/regions", "/flavors"):
        assert api_of(acme, Role.VIEWER).get(path).status == 200
        assert api_of(acme, Role.INFERENCE).get(path).status == 403
        assert Api(None).get(path).status == 401
