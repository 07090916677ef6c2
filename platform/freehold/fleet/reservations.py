"""Room in clusters, given and taken back. Called by serving in the transaction that writes an endpoint's spec.

Two creations at once cannot take the same room: whoever places locks the cluster's row first, and then looks again.
"""

from __future__ import annotations

from typing import Final

from django.db import transaction

from freehold.common.errors import Unavailable
from freehold.fleet.models import Cluster, GpuFlavor, Reservation
from freehold.fleet.placement import Candidate, Wish
from freehold.fleet.selectors import Placement, placement_plan

_ATTEMPTS: Final = 5


class _Moved(Exception):
    """While the lock was waited for, another cluster became the better one."""


def reservation_take(*, holder: str, wish: Wish) -> Placement:
    """Chooses a place for `holder` and keeps the room; what it had before is given back in the same step.

    Runs in the caller's transaction, whose end releases the cluster. Raises InvalidInput or PermissionDenied with what
    is in the way, Unavailable where others are faster again and again.
    """
    for _ in range(_ATTEMPTS):
        best = placement_plan(wish=wish, holder=holder).best()
        try:
            with transaction.atomic():  # a savepoint: going back to it lets go of the lock
                return _take(holder, wish, best)
        except _Moved:
            continue
    raise Unavailable("Others are taking the same room at this moment. Try again.")


def reservation_shrink(*, holder: str, replicas: int) -> None:
    """Gives a part of the room back; never refused, wherever the cluster is."""
    Reservation.objects.filter(holder=holder, replicas__gt=replicas).update(replicas=replicas)


def reservation_release(*, holder: str) -> None:
    """Gives the room back; nothing where there is none."""
    Reservation.objects.filter(holder=holder).delete()


def _take(holder: str, wish: Wish, best: Candidate) -> Placement:
    cluster = (
        Cluster.objects.select_for_update(no_key=True, of=("self",)).select_related("region").get(pk=best.cluster_id)
    )
    again = placement_plan(wish=wish, holder=holder).best()
    if again.cluster_id != cluster.pk:
        raise _Moved
    flavor = GpuFlavor.objects.get(pk=again.flavor.id)
    Reservation.objects.update_or_create(
        holder=holder, defaults={"cluster": cluster, "flavor": flavor, "replicas": wish.replicas}
    )
    return Placement(cluster=cluster, flavor=flavor)
