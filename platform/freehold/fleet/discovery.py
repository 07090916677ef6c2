"""From a cluster's nodes to kinds of accelerators and what room there is. Called by observations.py.

Labels are those that the vendors' own tools set: NVIDIA's GPU feature discovery and MIG manager, AMD's node labeller.
Pure: no Django.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from freehold.fleet.facts import NodeFacts
from freehold.fleet.naming import flavor_name

NVIDIA: Final = "nvidia.com/gpu"
AMD: Final = "amd.com/gpu"
_MIG: Final = re.compile(r"nvidia\.com/(mig-\d+g\.(\d+)gb[a-z0-9.]*)")
_NVIDIA_PRODUCT: Final = "nvidia.com/gpu.product"
_AMD_PRODUCT: Final = "amd.com/gpu.product-name"
_MIB: Final = 1024**2
_GB: Final = 10**9


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of accelerator in a cluster.

    Attributes:
        product: as its label says; an own name for a MIG slice.
        node_labels: that tell its nodes from others.
        memory_bytes: of one.
        most: on one node.
        is_slice: of a MIG device: slices cannot work together, so a replica takes one.
    """

    resource: str
    product: str
    node_labels: Mapping[str, str]
    memory_bytes: int
    most: int
    is_slice: bool = False

    @property
    def counts(self) -> tuple[int, ...]:
        """How many a replica may take: powers of two (tensor parallelism divides attention heads)."""
        return tuple(2**n for n in range(self.most.bit_length()) if not self.is_slice or n == 0)

    def name(self, count: int) -> str:
        """Of the flavor with so many of them."""
        return flavor_name(self.product, count)


@dataclass(frozen=True)
class Found:
    """`skipped` says in words which accelerators are left out, and why."""

    kinds: tuple[Kind, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a cluster's nodes have of one kind.

    Attributes:
        nodes: that have the accelerator, in use or not.
        allocatable, used_by_others: accelerators of nodes that pods can be scheduled to.
        by_node: allocatable − used by others, largest first, without zeros.
    """

    nodes: int
    allocatable: int
    used_by_others: int
    by_node: tuple[int, ...]

    def capacity(self, *, per_node: int, nodes: int) -> int:
        """Replicas that fit, each over `nodes` nodes with `per_node` accelerators on each."""
        return sum(free // per_node for free in self.by_node) // nodes


def discover(nodes: Iterable[NodeFacts]) -> Found:
    """The kinds of accelerators, by resource and product."""
    most: dict[tuple[str, str], Kind] = {}
    skipped: set[str] = set()
    for node in sorted(nodes, key=lambda node: node.name):
        for resource, count in sorted(node.allocatable.items()):
            if count < 1:
                continue
            kind = _kind(node, resource, count)
            if isinstance(kind, str):
                skipped.add(kind)
            elif kind is not None:
                key = (kind.resource, kind.product)
                if key not in most or most[key].most < kind.most:
                    most[key] = kind
    return Found(kinds=tuple(most[key] for key in sorted(most)), skipped=tuple(sorted(skipped)))


def room(nodes: Iterable[NodeFacts], *, resource: str, node_labels: Mapping[str, str]) -> Room:
    """What the nodes with those labels have of a resource."""
    total = allocatable = used = 0
    free = []
    for node in nodes:
        has = node.allocatable.get(resource, 0)
        if has < 1 or any(node.labels.get(name) != value for name, value in node_labels.items()):
            continue
        total += 1
        if node.schedulable:
            taken = min(has, node.used_by_others.get(resource, 0))
            allocatable, used = allocatable + has, used + taken
            free.append(has - taken)
    by_node = tuple(sorted((count for count in free if count), reverse=True))
    return Room(nodes=total, allocatable=allocatable, used_by_others=used, by_node=by_node)


def kinds_summary(found: Found, nodes: Iterable[NodeFacts]) -> str:
    """One sentence for the operator: what there is, and what is left out."""
    totals: dict[str, int] = defaultdict(int)
    everywhere = tuple(nodes)
    for kind in found.kinds:
        totals[kind.product] += room(everywhere, resource=kind.resource, node_labels=kind.node_labels).allocatable
    there = ", ".join(f"{count} × {product}" for product, count in sorted(totals.items()))
    return " ".join([f"Found: {there}." if there else "No accelerators were found.", *found.skipped])


def _kind(node: NodeFacts, resource: str, count: int) -> Kind | str | None:
    """What a node's resource is; text: why it is left out; None: not an accelerator that we know."""
    if resource.startswith("nvidia.com/"):
        return _nvidia(node.labels, resource, count)
    if resource == AMD:
        return _amd(node.labels, count)
    return None


def _nvidia(labels: Mapping[str, str], resource: str, count: int) -> Kind | str | None:
    product = labels.get(_NVIDIA_PRODUCT, "")
    shared = resource.endswith(".shared") or product.endswith("-SHARED")
    replicas = labels.get(f"{resource}.replicas", "1")
    if shared or (replicas.isdigit() and int(replicas) > 1):
        return (
            f"{product or resource} is left out: it is shared by time-slicing or MPS, which does not keep tenants "
            "apart. Use MIG."
        )
    if slice_ := _MIG.fullmatch(resource):
        profile, gigabytes = slice_[1], int(slice_[2])
        # GPU feature discovery says a slice's memory; its name does in decimal gigabytes, a little less than it is.
        memory = _number(labels.get(f"{resource}.memory")) * _MIB or gigabytes * _GB
        return Kind(
            resource=resource,
            product=f"{product}-{profile}" if product else profile,
            node_labels={_NVIDIA_PRODUCT: product} if product else {},
            memory_bytes=memory,
            most=count,
            is_slice=True,
        )
    if resource != NVIDIA:
        return None
    memory = _number(labels.get("nvidia.com/gpu.memory")) * _MIB
    if not product or not memory:
        return (
            f"Nodes with {NVIDIA} but without the labels {_NVIDIA_PRODUCT} and nvidia.com/gpu.memory are left out: "
            "install NVIDIA's GPU feature discovery."
        )
    return Kind(
        resource=resource,
        product=product,
        node_labels={_NVIDIA_PRODUCT: product},
        memory_bytes=memory,
        most=count,
        is_slice="-MIG-" in product,
    )


def _amd(labels: Mapping[str, str], count: int) -> Kind | str:
    product, vram = labels.get(_AMD_PRODUCT, ""), re.fullmatch(r"(\d+)([GM])i?B?", labels.get("amd.com/gpu.vram", ""))
    if not product or vram is None:
        return (
            f"Nodes with {AMD} but without the labels {_AMD_PRODUCT} and amd.com/gpu.vram are left out: "
            "install AMD's GPU node labeller."
        )
    unit = _MIB if vram[2] == "M" else 1024 * _MIB
    return Kind(
        resource=AMD,
        product=product,
        node_labels={_AMD_PRODUCT: product},
        memory_bytes=int(vram[1]) * unit,
        most=count,
    )


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() and len(text) < 10 else 0
