"""Reads of the fleet, and placement."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import QuerySet

from freehold.common.errors import InvalidInput
from freehold.fleet.models import Cluster, GpuFlavor, NodePool


@dataclass(frozen=True)
class Placement:
    """Where an endpoint will run."""

    cluster: Cluster
    flavor: GpuFlavor


def placement_choose(*, flavor: str | None, region: str | None, replicas: int) -> Placement:
    """The cluster and flavor for `replicas` replicas: the smallest flavor that was not ruled out, in any enabled
    cluster.

    Raises InvalidInput that names what was asked for and what there is.
    """
    pools = NodePool.objects.select_related("cluster__region", "flavor").filter(cluster__enabled=True)
    if flavor is not None:
        known = sorted(GpuFlavor.objects.values_list("name", flat=True))
        if flavor not in known:
            raise InvalidInput(
                f"There is no flavor {flavor!r}. There are: {', '.join(known) or 'none'}.", field="flavor"
            )
        pools = pools.filter(flavor__name=flavor)
    if region is not None:
        pools = pools.filter(cluster__region__name=region)
    pool = (
        pools.filter(capacity__gte=max(replicas, 1))
        .order_by("flavor__accelerators", "flavor__memory_bytes", "id")
        .first()
    )
    if pool is None:
        where = f" in the region {region!r}" if region else ""
        what = f" of the flavor {flavor!r}" if flavor else ""
        raise InvalidInput(f"No cluster{where} can hold {replicas} replicas{what}. Ask for fewer.", field="replicas")
    return Placement(cluster=pool.cluster, flavor=pool.flavor)


def clusters_enabled() -> QuerySet[Cluster]:
    """Every cluster that workers drive."""
    return Cluster.objects.select_related("region").filter(enabled=True).order_by("id")
