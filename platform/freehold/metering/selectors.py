"""Reads of metering: sums of usage and running time. Each needs a scope opened by the caller: a tenant's, or the
system's with `tenant_id` given all the same."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncHour

from freehold.metering.choices import BillingMode, ReplicaState
from freehold.metering.models import ReplicaInterval, UsageEvent, UsageHour
from freehold.metering.records import DueHourKey, Running, UsageSum, UsageTotal

_HOUR = timedelta(hours=1)
_MOMENT = timedelta(microseconds=1)  # PostgreSQL's resolution


def usage_sums(
    *, tenant_id: uuid.UUID, start: datetime, end: datetime, endpoint_id: uuid.UUID | None = None
) -> list[UsageSum]:
    """Usage in [start, end) by endpoint, model, billing mode and UTC hour, oldest hour first.

    Full hours cost a few rows each, whatever was used in them; only what is left at both ends is summed up event by
    event.
    """
    first, last = _hour_of(start + _HOUR - _MOMENT), _hour_of(end)
    if first > last:  # within one hour
        first = last = end
    parts = [
        _event_sums(tenant_id, start, min(first, end), endpoint_id),
        _hour_sums(tenant_id, first, last, endpoint_id),
        _event_sums(tenant_id, max(last, start), end, endpoint_id),
    ]
    return [used for part in parts for used in part]


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _hour_sums(tenant_id: uuid.UUID, start: datetime, end: datetime, endpoint_id: uuid.UUID | None) -> list[UsageSum]:
    if start >= end:
        return []
    hours = UsageHour.objects.filter(tenant_id=tenant_id, hour__gte=start, hour__lt=end)
    if endpoint_id is not None:
        hours = hours.filter(endpoint_id=endpoint_id)
    rows = hours.annotate(
        prompt=F("prompt_tokens"), cached=F("cached_tokens"), completion=F("completion_tokens")
    ).values("tenant_id", "endpoint_id", "model", "billing_mode", "hour", "requests", "prompt", "cached", "completion")
    return _sums(rows.order_by("hour", "endpoint_id", "model", "billing_mode"))


def _event_sums(tenant_id: uuid.UUID, start: datetime, end: datetime, endpoint_id: uuid.UUID | None) -> list[UsageSum]:
    if start >= end:
        return []
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
    )
    return _sums(rows.order_by("hour", "endpoint_id", "model", "billing_mode"))


def _sums(rows: Iterable[Mapping[str, Any]]) -> list[UsageSum]:
    return [
        UsageSum(
            tenant_id=row["tenant_id"],
            endpoint_id=row["endpoint_id"],
            model=row["model"],
            billing_mode=row["billing_mode"],
            hour=row["hour"],
            requests=int(row["requests"]),
            prompt_tokens=int(row["prompt"]),
            cached_tokens=int(row["cached"]),
            completion_tokens=int(row["completion"]),
        )
        for row in rows
    ]


def hours_usage(*, hours: Collection[DueHourKey]) -> list[UsageSum]:
    """Usage of these hours, of many tenants at once."""
    with connection.cursor() as cursor:
        cursor.execute(_HOURS_USAGE, [[key.tenant_id for key in hours], [key.hour for key in hours]])
        names = [column.name for column in cursor.description or ()]
        return _sums(dict(zip(names, row, strict=True)) for row in cursor.fetchall())


_HOURS_USAGE = """
    SELECT tenant_id, endpoint_id, model, billing_mode, hour, requests,
        prompt_tokens AS prompt, cached_tokens AS cached, completion_tokens AS completion
    FROM metering_usagehour
    JOIN unnest(%s::uuid[], %s::timestamptz[]) AS asked (tenant_id, hour) USING (tenant_id, hour)
"""


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
    for tenant_id, started_at, ended_at in _billed_running(first, end).values_list(
        "tenant_id", "started_at", "ended_at"
    ):
        hours |= _hours_between(tenant_id, max(started_at, first), min(ended_at or end, end))
    return hours


def hours_running(*, since: Mapping[uuid.UUID, datetime], end: datetime) -> set[DueHourKey]:
    """Hours with billed running time of these tenants, each from its own moment until `end`."""
    if not since:
        return set()
    intervals = _billed_running(min(since.values()), end).filter(tenant_id__in=list(since))
    hours: set[DueHourKey] = set()
    for tenant_id, started_at, ended_at in intervals.values_list("tenant_id", "started_at", "ended_at"):
        hours |= _hours_between(tenant_id, max(started_at, since[tenant_id]), min(ended_at or end, end))
    return hours


def _billed_running(start: datetime, end: datetime) -> QuerySet[ReplicaInterval]:
    return ReplicaInterval.objects.filter(
        Q(ended_at=None) | Q(ended_at__gt=start),
        billing_mode=BillingMode.GPU_SECONDS.value,
        state=ReplicaState.READY.value,
        started_at__lt=end,
    )


def _hours_between(tenant_id: uuid.UUID, start: datetime, end: datetime) -> set[DueHourKey]:
    hours = set()
    hour = _hour_of(start)
    while hour < end:
        hours.add(DueHourKey(tenant_id=tenant_id, hour=hour))
        hour += _HOUR
    return hours


def _events(
    tenant_id: uuid.UUID, start: datetime, end: datetime, endpoint_id: uuid.UUID | None
) -> QuerySet[UsageEvent]:
    events = UsageEvent.objects.filter(tenant_id=tenant_id, occurred_at__gte=start, occurred_at__lt=end)
    return events if endpoint_id is None else events.filter(endpoint_id=endpoint_id)
