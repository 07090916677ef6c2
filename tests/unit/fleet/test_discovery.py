"""From nodes to kinds of accelerators, flavors' names and room."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.fleet.discovery import Kind, discover, kinds_summary, room
from freehold.fleet.facts import NodeFacts
from freehold.fleet.naming import MAX, flavor_name

H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559"}


def node(name: str = "n1", *, gpus: int = 8, labels: dict[str, str] | None = None, **facts: Any) -> NodeFacts:
    values: dict[str, Any] = {"allocatable": {"nvidia.com/gpu": gpus}, **facts}
    return NodeFacts(name=name, labels=H100 if labels is None else labels, **values)


def only(*nodes: NodeFacts) -> Kind:
    (kind,) = discover(nodes).kinds
    return kind


def names(kind: Kind) -> list[str]:
    return [kind.name(count) for count in kind.counts]


def test_nodes_of_one_product_are_one_kind_in_powers_of_two() -> None:
    kind = only(node("a"), node("b", gpus=4))
    assert (kind.resource, kind.memory_bytes) == ("nvidia.com/gpu", 81559 * 1024**2)
    assert kind.node_labels == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert names(kind) == ["h100-80gb-hbm3-1x", "h100-80gb-hbm3-2x", "h100-80gb-hbm3-4x", "h100-80gb-hbm3-8x"]


def test_six_accelerators_make_flavors_up_to_four() -> None:
    assert only(node(gpus=6)).counts == (1, 2, 4)


def test_mig_slices_of_a_mixed_strategy_are_told_apart_by_their_resource() -> None:
    labels = {**H100, "nvidia.com/mig-3g.40gb.memory": "40448"}
    found = discover([node(labels=labels, allocatable={"nvidia.com/mig-1g.10gb": 4, "nvidia.com/mig-3g.40gb": 1})])
    small, large = found.kinds
    assert (small.resource, small.counts) == ("nvidia.com/mig-1g.10gb", (1,))
    assert small.memory_bytes == 10 * 10**9, "from its name"
    assert large.memory_bytes == 40448 * 1024**2, "from its label"
    assert names(small) == ["h100-80gb-hbm3-mig-1g-10gb-1x"]


def test_mig_slices_of_a_single_strategy_are_told_apart_by_their_product() -> None:
    labels = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "nvidia.com/gpu.memory": "4864"}
    kind = only(node(gpus=7, labels=labels))
    assert (kind.resource, kind.counts, kind.memory_bytes) == ("nvidia.com/gpu", (1,), 4864 * 1024**2)
    assert names(kind) == ["a100-sxm4-40gb-mig-1g-5gb-1x"]


def test_amd_is_found_by_its_own_labels() -> None:
    labels = {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "192G"}
    kind = only(node(labels=labels, allocatable={"amd.com/gpu": 8}))
    assert (kind.memory_bytes, names(kind)[-1]) == (192 * 1024**3, "mi300x-oam-8x")
    assert kind.node_labels == {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}


@pytest.mark.parametrize(
    ("labels", "allocatable"),
    [
        ({**H100, "nvidia.com/gpu.product": "Tesla-T4-SHARED"}, {"nvidia.com/gpu": 8}),
        ({**H100, "nvidia.com/gpu.replicas": "4"}, {"nvidia.com/gpu": 8}),
        (H100, {"nvidia.com/gpu.shared": 8}),
        ({**H100, "nvidia.com/mig-1g.10gb.replicas": "2"}, {"nvidia.com/mig-1g.10gb": 8}),
    ],
)
def test_shared_accelerators_are_left_out_with_the_reason(labels: dict[str, str], allocatable: dict[str, int]) -> None:
    nodes = [node(labels=labels, allocatable=allocatable)]
    found = discover(nodes)
    assert found.kinds == ()
    assert "time-slicing" in kinds_summary(found, nodes)


@pytest.mark.parametrize(
    ("labels", "allocatable", "missing"),
    [
        ({}, {"nvidia.com/gpu": 8}, "GPU feature discovery"),
        ({"nvidia.com/gpu.product": "x", "nvidia.com/gpu.memory": "lots"}, {"nvidia.com/gpu": 8}, "gpu.memory"),
        ({}, {"amd.com/gpu": 8}, "node labeller"),
    ],
)
def test_what_nobody_described_is_left_out_with_what_to_install(
    labels: dict[str, str], allocatable: dict[str, int], missing: str
) -> None:
    found = discover([node(labels=labels, allocatable=allocatable)])
    assert found.kinds == ()
    assert missing in found.skipped[0]


def test_other_resources_are_none_of_our_business() -> None:
    assert discover([node(allocatable={"hugepages-2Mi": 10, "rdma/hca": 4, "nvidia.com/gpu": 0})]).kinds == ()


def test_room_is_what_others_leave_on_nodes_that_take_pods() -> None:
    nodes = [
        node("a", used_by_others={"nvidia.com/gpu": 3}),
        node("b"),
        node("c", schedulable=False),
        node("d", used_by_others={"nvidia.com/gpu": 8}),
        node("e", labels={"nvidia.com/gpu.product": "other"}),
    ]
    found = room(nodes, resource="nvidia.com/gpu", node_labels={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"})
    assert (found.nodes, found.allocatable, found.used_by_others, found.by_node) == (4, 24, 11, (8, 5))
    assert found.capacity(per_node=4, nodes=1) == 3
    assert found.capacity(per_node=8, nodes=1) == 1
    assert found.capacity(per_node=4, nodes=2) == 1
    assert found.capacity(per_node=8, nodes=2) == 0


def test_the_summary_says_what_there_is() -> None:
    nodes = [node("a"), node("b", gpus=4)]
    assert kinds_summary(discover(nodes), nodes) == "Found: 12 × NVIDIA-H100-80GB-HBM3."
    assert kinds_summary(discover([]), []) == "No accelerators were found."


@given(st.text(max_size=80), st.integers(1, 128), st.text(max_size=10))
def test_a_name_is_always_a_slug_that_fits(product: str, count: int, distinguish: str) -> None:
    name = flavor_name(product, count, distinguish=distinguish)
    assert len(name) <= MAX
    assert name.strip("abcdefghijklmnopqrstuvwxyz0123456789-") == ""
    assert name.endswith(f"-{count}x")
    assert name == flavor_name(product, count, distinguish=distinguish)
