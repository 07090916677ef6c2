"""Nodes become flavors and pools; what endpoints are billed by is never changed."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.common.errors import InvalidInput
from freehold.fleet import services
from freehold.fleet.models import Cluster, GpuFlavor, NodePool
from tests.factories.clusters import GPU, H100, gpu_node, make_cluster, observe
from tests.factories.tenants import SYSTEM

pytestmark = pytest.mark.django_db

LABELS = {"nvidia.com/gpu.product": H100}


def capacities(cluster: Cluster) -> dict[str, int]:
    return {pool.flavor.name: pool.capacity for pool in cluster.pools.select_related("flavor")}


def a_flavor(**fields: Any) -> GpuFlavor:
    values = {"name": "mine", "accelerator": "H100", "resource": GPU, "node_labels": LABELS, **fields}
    return services.flavor_create(actor=SYSTEM, **values)


def test_flavors_and_pools_are_made_of_what_is_found() -> None:
    cluster = observe(make_cluster(), gpu_node("a"), gpu_node("b", others=2))
    assert capacities(cluster) == {
        "h100-80gb-hbm3-1x": 14, "h100-80gb-hbm3-2x": 7, "h100-80gb-hbm3-4x": 3, "h100-80gb-hbm3-8x": 1,
    }  # fmt: skip
    flavor = GpuFlavor.objects.get(name="h100-80gb-hbm3-8x")
    assert (flavor.accelerators, flavor.memory_bytes, flavor.resource) == (8, 81559 * 1024**2, GPU)
    pool = NodePool.objects.get(flavor=flavor)
    assert pool.discovered
    assert (pool.nodes, pool.accelerators_allocatable, pool.accelerators_used_by_others) == (2, 16, 2)
    assert pool.accelerators_by_node == [8, 6]


def test_looking_again_changes_nothing() -> None:
    cluster = observe(make_cluster(), gpu_node("a"))
    before = list(GpuFlavor.objects.order_by("pk").values())
    observe(cluster, gpu_node("a"))
    observe(make_cluster("fra-2"), gpu_node("other"))
    assert list(GpuFlavor.objects.order_by("pk").values()) == before


def test_nodes_that_vanish_take_their_room_along_and_leave_the_pool() -> None:
    cluster = observe(make_cluster(), gpu_node("a"), gpu_node("b"))
    NodePool.objects.update(cost_nanos_per_accelerator_hour=7)
    observe(cluster, gpu_node("a", 4))
    assert capacities(cluster)["h100-80gb-hbm3-8x"] == 0
    assert capacities(cluster)["h100-80gb-hbm3-4x"] == 1
    observe(cluster)
    assert set(capacities(cluster).values()) == {0}
    observe(cluster, gpu_node("a"))
    assert capacities(cluster)["h100-80gb-hbm3-8x"] == 1
    assert set(NodePool.objects.values_list("cost_nanos_per_accelerator_hour", flat=True)) == {7}


def test_a_flavor_that_matches_is_used_whatever_it_is_called() -> None:
    mine = a_flavor(accelerators=8, memory_bytes=80 * 10**9)
    cluster = observe(make_cluster(), gpu_node("a"))
    assert capacities(cluster)["mine"] == 1
    assert "h100-80gb-hbm3-8x" not in capacities(cluster)
    mine.refresh_from_db()
    assert mine.memory_bytes == 80 * 10**9


def test_a_disabled_flavor_is_not_brought_back() -> None:
    cluster = observe(make_cluster(), gpu_node("a"))
    GpuFlavor.objects.filter(accelerators=2).update(enabled=False)
    observe(cluster, gpu_node("a"))
    assert list(GpuFlavor.objects.filter(accelerators=2).values_list("enabled", flat=True)) == [False]


def test_a_name_that_is_taken_by_something_else_gets_a_stable_suffix() -> None:
    a_flavor(name="h100-80gb-hbm3-1x", accelerator="cpu", resource="", node_labels={})
    cluster = observe(make_cluster(), gpu_node("a", 1))
    observe(cluster, gpu_node("a", 1))
    (name,) = capacities(cluster)
    assert name.startswith("h100-80gb-hbm3-")
    assert name != "h100-80gb-hbm3-1x"
    assert GpuFlavor.objects.count() == 2


def test_what_the_operator_set_stays_and_can_be_given_back() -> None:
    cluster = observe(make_cluster(), gpu_node("a"))
    flavor = GpuFlavor.objects.get(name="h100-80gb-hbm3-8x")
    pool = services.node_pool_set(actor=SYSTEM, cluster=cluster, flavor=flavor, capacity=0)
    observe(cluster, gpu_node("a"))
    assert capacities(cluster)["h100-80gb-hbm3-8x"] == 0
    NodePool.objects.filter(pk=pool.pk).update(discovered=True)
    observe(cluster, gpu_node("a"))
    assert capacities(cluster)["h100-80gb-hbm3-8x"] == 1


def test_a_flavor_over_two_nodes_is_the_operators_and_needs_leader_worker_sets() -> None:
    a_flavor(accelerators=16, nodes=2)
    nodes = [gpu_node(name) for name in "abcde"]
    cluster = observe(make_cluster(), *nodes)
    assert capacities(cluster)["mine"] == 0
    observe(cluster, *nodes, has_leader_worker_sets=True)
    assert capacities(cluster)["mine"] == 2
    observe(cluster, *nodes[:3], gpu_node("x", others=1), has_leader_worker_sets=True)
    assert capacities(cluster)["mine"] == 1, "whole free nodes"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"accelerators": 0}, "accelerators"),
        ({"accelerators": 9, "nodes": 2}, "nodes"),
        ({"nodes": 0}, "nodes"),
        ({"resource": "gpu"}, "resource"),
        ({"node_labels": {"a b": "c"}}, "node_labels"),
        ({"node_labels": {"a": 1}}, "node_labels"),
    ],
)
def test_a_flavor_that_cannot_be_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        a_flavor(**fields)
    assert caught.value.field == field
