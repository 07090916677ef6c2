"""Room is taken with an endpoint, given back with its last replica, and never given twice."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from django.db import connection

from freehold.common.errors import InvalidInput, PermissionDenied
from freehold.db.rls import system_scope, tenant_scope
from freehold.fleet import observations, services
from freehold.fleet.models import Cluster, GpuFlavor, NodePool, Reservation
from freehold.serving.choices import Phase
from freehold.serving.claims import endpoint_status_record, endpoints_claim
from freehold.serving.conditions import EndpointStatus
from freehold.serving.models import Endpoint, EndpointSpec
from freehold.serving.services import endpoint_create, endpoint_delete, endpoint_scale
from freehold.tenancy.models import Tenant
from freehold.tenancy.services import tenant_residency_set
from tests.factories.clusters import gpu_node, make_cluster, observe
from tests.factories.tenants import SYSTEM, actor_in, make_endpoint, make_fleet, make_revision, make_tenant


def reserved() -> dict[str, int]:
    return dict(Reservation.objects.values_list("holder", "replicas"))


def create(tenant: Tenant, name: str = "chat", **asked: Any) -> Endpoint:
    return endpoint_create(actor=actor_in(tenant), tenant_id=tenant.pk, name=name, model=f"{tenant.slug}/tiny", **asked)


def scale(endpoint: Endpoint, replicas: int) -> Endpoint:
    tenant = endpoint.tenant
    return endpoint_scale(actor=actor_in(tenant), tenant_id=tenant.pk, endpoint_id=endpoint.pk, replicas=replicas)


def spec_of(endpoint: Endpoint) -> EndpointSpec:
    with tenant_scope(endpoint.tenant_id):
        return EndpointSpec.objects.select_related("flavor").get(endpoint=endpoint)


@pytest.fixture
def acme(db: None) -> Tenant:
    tenant = make_tenant()
    make_revision(tenant)
    return tenant


def test_an_endpoint_has_its_room_from_creation_until_it_is_gone(acme: Tenant) -> None:
    cluster, _ = make_fleet(capacity=3)
    endpoint = make_endpoint(acme, replicas=2)
    assert reserved() == {endpoint.public_id: 2}
    endpoint_delete(actor=actor_in(acme), tenant_id=acme.pk, endpoint_id=endpoint.pk)
    assert reserved() == {endpoint.public_id: 2}, "its replicas still run"
    (claim,) = endpoints_claim(cluster_id=cluster.pk)
    gone = EndpointStatus(phase=Phase.DELETED, conditions=(), replicas=(), requeue_seconds=0)
    endpoint_status_record(claim=claim, status=gone)
    assert reserved() == {}


def test_what_is_taken_is_not_free_whoever_has_it(acme: Tenant) -> None:
    make_fleet(capacity=3)
    rival = make_tenant("rival")
    make_revision(rival)
    make_endpoint(rival, replicas=2)
    with pytest.raises(InvalidInput, match="room for 1 replica at most"):
        make_endpoint(acme, replicas=2)
    with system_scope("a test looks for what should not be there"):
        assert not Endpoint.objects.filter(tenant=acme).exists()
    make_endpoint(acme, replicas=1)
    with pytest.raises(InvalidInput, match="All of it is in use"):
        make_endpoint(acme, "other")


def test_growing_takes_room_and_its_own_counts_as_free(acme: Tenant) -> None:
    make_fleet(capacity=4)
    endpoint = make_endpoint(acme, replicas=2)
    scale(endpoint, 4)
    assert reserved() == {endpoint.public_id: 4}
    with pytest.raises(InvalidInput) as caught:
        scale(endpoint, 5)
    assert caught.value.field == "replicas"
    assert reserved() == {endpoint.public_id: 4}
    scale(endpoint, 0)
    assert reserved() == {endpoint.public_id: 0}
    make_endpoint(acme, "other", replicas=4)


def test_shrinking_is_never_refused(acme: Tenant) -> None:
    cluster, _ = make_fleet(capacity=4)
    endpoint = make_endpoint(acme, replicas=3)
    observations.cluster_record_unreachable(cluster_id=cluster.pk, message="gone")
    NodePool.objects.update(capacity=0)
    tenant_residency_set(actor=SYSTEM, tenant_id=acme.pk, regions=["elsewhere"])
    scale(endpoint, 1)
    assert reserved() == {endpoint.public_id: 1}


def test_what_grows_stays_in_its_cluster(acme: Tenant) -> None:
    observe(make_cluster("fra-1"), gpu_node("a", 2))
    endpoint = create(acme, flavor="h100-80gb-hbm3-1x")
    observe(make_cluster("fra-2"), gpu_node("b", 8))
    with pytest.raises(InvalidInput, match="room for 2 replicas at most"):
        scale(endpoint, 3)
    assert Reservation.objects.get().cluster.name == "fra-1"


def test_flavors_of_the_same_accelerators_share_them(acme: Tenant) -> None:
    observe(make_cluster(), gpu_node("a"), gpu_node("b", others=7))
    create(acme, "whole", flavor="h100-80gb-hbm3-8x")
    create(acme, "rest", flavor="h100-80gb-hbm3-1x")
    with pytest.raises(InvalidInput, match="All of it is in use"):
        create(acme, "more", flavor="h100-80gb-hbm3-1x")


def test_nothing_new_goes_where_nobody_answers(acme: Tenant) -> None:
    far, near = make_cluster("far"), make_cluster("near")
    observe(far, gpu_node("a"), gpu_node("b"))
    observe(near, gpu_node("c"))
    observations.cluster_record_unreachable(cluster_id=far.pk, message="no route to host")
    assert create(acme).cluster.name == "near"
    services.cluster_update(actor=SYSTEM, cluster=near, enabled=False)
    with pytest.raises(InvalidInput, match="does not answer"):
        create(acme, "other")


def test_the_cheapest_cluster_is_taken_first(acme: Tenant) -> None:
    for name, cost in (("dear", 9), ("cheap", 2), ("unknown", None)):
        cluster = observe(make_cluster(name), gpu_node("a", 1))
        NodePool.objects.filter(cluster=cluster).update(cost_nanos_per_accelerator_hour=cost)
    assert [create(acme, f"e{n}").cluster.name for n in range(3)] == ["cheap", "dear", "unknown"]


def test_a_residency_policy_is_kept(acme: Tenant) -> None:
    observe(make_cluster("ashburn", region="us-east"), gpu_node("a"), gpu_node("b"))
    observe(make_cluster("fra-1", region="eu-central"), gpu_node("c"))
    tenant_residency_set(actor=SYSTEM, tenant_id=acme.pk, regions=["eu-central"])
    assert create(acme).cluster.name == "fra-1"
    with pytest.raises(PermissionDenied, match="residency policy"):
        create(acme, "other", region="us-east")


def test_a_model_goes_to_a_flavor_that_holds_it(acme: Tenant) -> None:
    observe(make_cluster(), gpu_node("a", product="small"), gpu_node("b"))
    GpuFlavor.objects.filter(name__startswith="small").update(memory_bytes=10**9)
    give_config(acme)
    assert spec_of(create(acme)).flavor.name == "h100-80gb-hbm3-1x"
    with pytest.raises(InvalidInput) as caught:
        create(acme, "other", flavor="small-1x")
    assert caught.value.field == "flavor"
    assert "are missing on each accelerator" in caught.value.message


def test_a_context_that_fits_no_flavor_is_refused_with_one_that_does(acme: Tenant) -> None:
    observe(make_cluster(), gpu_node("a", 1))
    give_config(acme, max_position_embeddings=1_000_000)
    with pytest.raises(InvalidInput, match=r"1,000,000 tokens needs .* Set max_model_len to (\d+)") as caught:
        create(acme)
    fitting = int(caught.value.message.split("Set max_model_len to ")[1].split(",")[0])
    assert 100_000 < fitting < 1_000_000
    assert spec_of(create(acme, arguments={"max_model_len": fitting})).arguments == {"max_model_len": fitting}


def give_config(tenant: Tenant, **changes: Any) -> None:
    """Makes the tenant's model one of 8 billion parameters."""
    from freehold.registry.models import Revision
    from tests.unit.serving.test_sizing_published import config_of

    config = {**config_of("llama-3.1-8b"), **changes}
    length = config["max_position_embeddings"]
    with system_scope("a test makes a model larger"):
        revision = Revision.objects.get(tenant=tenant)
        revision.inspection = {
            "task": "generate",
            "config": config,
            "dtypes": {"BF16": 8_030_261_248},
            "parameters": 8_030_261_248,
            "max_model_len": length,
            "context": {"longest": length},
        }
        revision.save()


@pytest.mark.usefixtures("committed_db")
def test_creations_at_once_never_take_more_than_there_is() -> None:
    """Ten at a time for five replicas in two clusters: five are made, the others are told why."""
    for name, accelerators in (("fra-1", 2), ("fra-2", 3)):
        observe(make_cluster(name), gpu_node("a", accelerators))
    tenants = [make_tenant(f"tenant-{n}") for n in range(10)]
    for tenant in tenants:
        make_revision(tenant)
    together = threading.Barrier(len(tenants))
    made: list[uuid.UUID] = []
    refused: list[str] = []

    def one(tenant: Tenant) -> None:
        try:
            together.wait(timeout=30)
            made.append(create(tenant, flavor="h100-80gb-hbm3-1x").cluster_id)
        except InvalidInput as error:
            refused.append(error.message)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=[tenant]) for tenant in tenants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert (len(made), len(refused)) == (5, 5)
    assert all("All of it is in use" in message for message in refused)
    counts = {cluster.name: made.count(cluster.pk) for cluster in Cluster.objects.all()}
    assert counts == {"fra-1": 2, "fra-2": 3}
    assert sum(reserved().values()) == 5
