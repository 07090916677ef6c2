"""Reads of the fleet, and what placement decides by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from django.db.models import QuerySet

from freehold.fleet import placement
from freehold.fleet.choices import Verdict
from freehold.fleet.models import Cluster, GpuFlavor, NodePool, Region, Reservation
from freehold.fleet.placement import FlavorFacts, Plan, PoolFacts, Reserved, Wish


@dataclass(frozen=True)
class Placement:
    """Where an endpoint will run."""

    cluster: Cluster
    flavor: GpuFlavor


@dataclass(frozen=True)
class Offer:
    """A flavor that is on offer, and in which regions: name → replicas of one endpoint for which there is room now."""

    flavor: FlavorFacts
    free_by_region: Mapping[str, int]


def offer_list(*, regions_allowed: Collection[str] = ()) -> list[Offer]:
    """What can be asked for, by name, whether or not there is room; a cluster that does not answer has none."""
    offered = (Verdict.FITS, Verdict.CAPACITY, Verdict.UNREACHABLE)
    flavors: dict[str, FlavorFacts] = {}
    free: dict[str, dict[str, int]] = defaultdict(dict)
    for each in placement_plan(wish=Wish(replicas=1, regions_allowed=regions_allowed)).candidates:
        forbidden = regions_allowed and each.region not in regions_allowed
        if each.verdict in offered and each.flavor.enabled and not forbidden:
            room = 0 if each.verdict is Verdict.UNREACHABLE else each.free_replicas
            flavors[each.flavor.name] = each.flavor
            free[each.flavor.name][each.region] = max(room, free[each.flavor.name].get(each.region, 0))
    return [Offer(flavors[name], dict(sorted(free[name].items()))) for name in sorted(flavors)]


def placement_plan(*, wish: Wish, holder: str = "") -> Plan:
    """What is to be said of every pool, and which is chosen. Reserves nothing.

    `holder` is who is being placed again: the room it has now counts as free.
    """
    pools = NodePool.objects.select_related("cluster__region", "flavor").order_by("id")
    reserved = Reservation.objects.select_related("flavor").exclude(holder=holder).filter(replicas__gt=0)
    return placement.plan(
        [_pool(pool) for pool in pools],
        [
            Reserved(cluster_id=room.cluster_id, flavor=flavor_facts(room.flavor), replicas=room.replicas)
            for room in reserved
        ],
        wish,
        regions=frozenset(Region.objects.values_list("name", flat=True)),
        flavors=frozenset(GpuFlavor.objects.filter(enabled=True).values_list("name", flat=True)),
    )


def placement_choose(
    *,
    flavor: str | None,
    region: str | None,
    replicas: int,
    regions_allowed: Collection[str] = (),
    too_small: Mapping[str, str] | None = None,
    prices: Mapping[str, int] | None = None,
) -> Placement:
    """The cluster and flavor that would be chosen now (reservations.py keeps the room).

    Raises InvalidInput or PermissionDenied that names what was asked for and what there is.
    """
    wish = Wish(
        replicas=replicas,
        flavor=flavor,
        region=region,
        regions_allowed=regions_allowed,
        too_small=too_small or {},
        prices=prices or {},
    )
    best = placement_plan(wish=wish).best()
    return Placement(
        cluster=Cluster.objects.select_related("region").get(pk=best.cluster_id),
        flavor=GpuFlavor.objects.get(pk=best.flavor.id),
    )


def clusters_enabled() -> QuerySet[Cluster]:
    """Every cluster that workers drive."""
    return Cluster.objects.select_related("region").filter(enabled=True).order_by("id")


def regions_with_clusters() -> QuerySet[Region]:
    """Regions where something runs, by name."""
    return Region.objects.filter(clusters__enabled=True).distinct().order_by("name")


def flavor_facts(flavor: GpuFlavor) -> FlavorFacts:
    """A flavor as placement sees it."""
    return FlavorFacts(
        id=flavor.pk,
        name=flavor.name,
        accelerator=flavor.accelerator,
        accelerators=flavor.accelerators,
        nodes=flavor.nodes,
        memory_bytes=flavor.memory_bytes,
        resource=flavor.resource,
        node_labels=flavor.node_labels,
        enabled=flavor.enabled,
    )


def _pool(pool: NodePool) -> PoolFacts:
    cluster = pool.cluster
    return PoolFacts(
        region=cluster.region.name,
        cluster_id=cluster.pk,
        cluster=cluster.name,
        flavor=flavor_facts(pool.flavor),
        capacity=pool.capacity,
        by_node=tuple(pool.accelerators_by_node) if pool.discovered else None,
        enabled=cluster.enabled,
        is_reachable=cluster.is_reachable,
        has_leader_worker_sets=cluster.has_leader_worker_sets,
        cost_nanos=pool.cost_nanos_per_accelerator_hour,
    )
