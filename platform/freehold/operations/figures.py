"""The control plane in numbers of this moment: a few cheap queries and Redis commands. Read by metrics.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import redis
from django.db.models import Count, F, Max, Min, Sum

from freehold.billing.rating import HOUR
from freehold.billing.services import GRACE
from freehold.db.rls import system_scope
from freehold.fleet.choices import ClusterConditionType
from freehold.fleet.models import Cluster
from freehold.metering.models import DueHour, GatewayWatermark, UsageReject
from freehold.operations.queues import QUEUES
from freehold.operations.selectors import QueueStatus, queues_status
from freehold.serving.models import Endpoint, EndpointSpec
from freehold.wire import names

_REACHABLE = {"True": 1, "False": 0}


@dataclass(frozen=True)
class ClusterFigures:
    """One cluster.

    Attributes:
        reachable: 1 or 0; -1 where nobody has looked yet.
        observed_age_seconds: since it last answered; None where it never did.
        endpoints: by phase, without the deleted.
        replicas_desired, replicas_ready: of all its endpoints.
    """

    name: str
    region: str
    reachable: int
    observed_age_seconds: float | None
    endpoints: Mapping[str, int]
    replicas_desired: int
    replicas_ready: int


@dataclass(frozen=True)
class DatabaseFigures:
    """What PostgreSQL knows.

    Attributes:
        reconcile_overdue_seconds: how long the endpoint that waits longest has been due; 0 where none is.
        usage_committed_age_seconds: since usage of any gateway was last committed; None where none ever was.
        usage_rejects: records set aside because they could not become usage.
        unposted_hours: tenants' hours that could be in the ledger and are not.
    """

    queues: tuple[QueueStatus, ...]
    clusters: tuple[ClusterFigures, ...]
    reconcile_overdue_seconds: float
    usage_committed_age_seconds: float | None
    usage_rejects: int
    unposted_hours: int


@dataclass(frozen=True)
class RedisFigures:
    """What Redis holds: messages that wait in each queue, and entries of the usage stream."""

    queue_lengths: Mapping[str, int]
    usage_stream_length: int


def database_figures(*, now: datetime) -> DatabaseFigures:
    """Eight queries, each over an index or a small table. Raises django.db.DatabaseError."""
    queues = tuple(queues_status(now=now))
    with system_scope("the operator's numbers count over every tenant and name none"):
        alive = Endpoint.objects.filter(deleted_at=None)
        due = alive.filter(next_reconcile_at__lte=now).aggregate(first=Min("next_reconcile_at"))["first"]
        committed = GatewayWatermark.objects.aggregate(last=Max("updated_at"))["last"]
        return DatabaseFigures(
            queues=queues,
            clusters=tuple(_clusters(now)),
            reconcile_overdue_seconds=(now - due).total_seconds() if due else 0.0,
            usage_committed_age_seconds=max(0.0, (now - committed).total_seconds()) if committed else None,
            usage_rejects=UsageReject.objects.count(),
            unposted_hours=DueHour.objects.filter(hour__lte=now - HOUR - GRACE).count(),
        )


def redis_figures(client: redis.Redis) -> RedisFigures:
    """One round trip. Raises redis.RedisError."""
    pipeline = client.pipeline(transaction=False)
    for queue in QUEUES:
        pipeline.llen(queue.name)  # kombu keeps a queue in a list of its name
    pipeline.xlen(names.USAGE)
    *lengths, stream = pipeline.execute()
    return RedisFigures(
        queue_lengths={queue.name: int(length) for queue, length in zip(QUEUES, lengths, strict=True)},
        usage_stream_length=int(stream),
    )


def _clusters(now: datetime) -> list[ClusterFigures]:
    phases: dict[object, dict[str, int]] = {}
    ready: dict[object, int] = {}
    for row in (
        Endpoint.objects.filter(deleted_at=None)
        .values("cluster_id", "phase")
        .annotate(count=Count("*"), ready=Sum("ready_replicas"))
        .order_by()
    ):
        phases.setdefault(row["cluster_id"], {})[row["phase"]] = row["count"]
        ready[row["cluster_id"]] = ready.get(row["cluster_id"], 0) + row["ready"]
    desired = dict(
        EndpointSpec.objects.filter(
            endpoint__deleted_at=None,
            endpoint__deletion_requested_at=None,
            generation=F("endpoint__generation"),
        )
        .values_list("endpoint__cluster_id")
        .annotate(sum=Sum("replicas"))
        .order_by()
    )
    found = []
    for cluster in Cluster.objects.select_related("region").order_by("name"):
        condition = cluster.condition(ClusterConditionType.REACHABLE)
        observed = cluster.observed_at
        found.append(
            ClusterFigures(
                name=cluster.name,
                region=cluster.region.name,
                reachable=_REACHABLE.get(condition["status"], -1) if condition else -1,
                observed_age_seconds=max(0.0, (now - observed).total_seconds()) if observed else None,
                endpoints=phases.get(cluster.pk, {}),
                replicas_desired=desired.get(cluster.pk, 0),
                replicas_ready=ready.get(cluster.pk, 0),
            )
        )
    return found
