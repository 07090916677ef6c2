"""Reads of metering: sums of usage and running time. Each needs a scope opened by the caller: a tenant's, or the
system's with `tenant_id` given all the same."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncHour

from freehold.metering.choices import BillingMode, ReplicaState
from freehold.metering.models import ReplicaInterval, UsageEvent
from freehold.metering.records import DueHourKey, Running, UsageSum, UsageTotal

_HOUR = timedelta(hours=1)


def usage_sums(
    *, tenant_id: uuid.UUID, start: datetime, end: datetime, endpoint_id: uuid.UUID | None = None
) -> list[UsageSum]:
    """Usage in [start, end) by endpoint, model, billing mode and UTC hour, oldest hour first."""
    rows = (
        _events(tenant_id, start, end, endpoint_id)
        .annotate(hour=TruncHour("occurred_at", tzinfo=UTC))
        .values("tenant_id", "endpoint_id", "model", "billing_mode", "hour")
        .annotate(
            requests=Count("*"),
            prompt=Sum("prompt_tokens"),
            cached=Sum("cached_tokens"),
            completion=Sum("completion_tokens"),
        )
        .order_by("hour", "endpoint_id", "model")
    )
    return [
        UsageSum(
            tenant_id=row["tenant_id"],
            endpoint_id=row["endpoint_id"],
            model=row["model"],
            billing_mode=row["billing_mode"],
            hour=row["hour"],
            requests=row["requests"],
            prompt_tokens=int(row["prompt"]),
            cached_tokens=int(row["cached"]),
            completion_tokens=int(row["completion"]),
        )
        for row in rows
    ]


def usage_total(
    *, tenant_id: uuid.UUID, start: datetime, end: datetime, endpoint_id: uuid.UUID | None = None
) -> UsageTotal:
    """Usage in [start, end), whatever the billing mode."""
    row = _events(tenant_id, start, end, endpoint_id).aggregate(
        requests=Count("*"),
        prompt=Coalesce(Sum("prompt_tokens"), 0),
        cached=Coalesce(Sum("cached_tokens"), 0),
        completion=Coalesce(Sum("completion_tokens"), 0),
    )
    return UsageTotal(
        requests=row["requests"],
        prompt_tokens=int(row["prompt"]),
        cached_tokens=int(row["cached"]),
        completion_tokens=int(row["completion"]),
    )


def replicas_running(
    *, tenant_id: uuid.UUID, start: datetime, end: datetime, as_of: datetime, endpoint_id: uuid.UUID | None = None
) -> list[Running]:
    """When replicas of gpu_seconds endpoints were ready, cut to [start, end); one that still is: until `as_of`."""
    rows = ReplicaInterval.objects.filter(
        Q(ended_at=None) | Q(ended_at__gt=start),
        tenant_id=tenant_id,
        billing_mode=BillingMode.GPU_SECONDS.value,
        state=ReplicaState.READY.value,
        started_at__lt=end,
    )
    if endpoint_id is not None:
        rows = rows.filter(endpoint_id=endpoint_id)
    return [
        Running(
            tenant_id=row.tenant_id,
            endpoint_id=row.endpoint_id,
            billing_mode=row.billing_mode,
            flavor=row.flavor,
            accelerators=row.accelerators,
            started_at=max(row.started_at, start),
            ended_at=ended,
        )
        for row in rows.order_by("started_at", "id")
        if (ended := min(row.ended_at or as_of, end)) > max(row.started_at, start)
    ]


def replicas_run_on(*, tenant_id: uuid.UUID, at: datetime) -> bool:
    """Whether a billed replica is ready at `at`: the hour that begins then has running time, too."""
    return ReplicaInterval.objects.filter(
        Q(ended_at=None) | Q(ended_at__gt=at),
        tenant_id=tenant_id,
        billing_mode=BillingMode.GPU_SECONDS.value,
        state=ReplicaState.READY.value,
        started_at__lte=at,
    ).exists()


def hours_used(*, start: datetime, end: datetime) -> set[DueHourKey]:
    """Every tenant's UTC hours with usage or billed running time in [start, end). Needs the system's scope."""
    first = start.replace(minute=0, second=0, microsecond=0)
    rows = (
        UsageEvent.objects.filter(occurred_at__gte=first, occurred_at__lt=end)
        .annotate(hour=TruncHour("occurred_at", tzinfo=UTC))
        .values_list("tenant_id", "hour")
        .distinct()
    )
    hours = {DueHourKey(tenant_id=tenant_id, hour=hour) for tenant_id, hour in rows}
    intervals = ReplicaInterval.objects.filter(
        Q(ended_at=None) | Q(ended_at__gt=first),
        billing_mode=BillingMode.GPU_SECONDS.value,
        state=ReplicaState.READY.value,
        started_at__lt=end,
    )
    for tenant_id, started_at, ended_at in intervals.values_list("tenant_id", "started_at", "ended_at"):
        hour = max(started_at, first).replace(minute=0, second=0, microsecond=0)
        while hour < min(ended_at or end, end):
            hours.add(DueHourKey(tenant_id=tenant_id, hour=hour))
            hour += _HOUR
    return hours


def _events(
    tenant_id: uuid.UUID, start: datetime, end: datetime, endpoint_id: uuid.UUID | None
) -> QuerySet[UsageEvent]:
    events = UsageEvent.objects.filter(tenant_id=tenant_id, occurred_at__gte=start, occurred_at__lt=end)
    return events if endpoint_id is None else events.filter(endpoint_id=endpoint_id)
