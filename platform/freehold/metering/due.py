"""Which hours wait to be rated. Metering marks them in the transaction that changes the usage; billing takes them in
the transaction that posts them. All functions need a scope opened by the caller."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from datetime import datetime

from freehold.common.ids import uuid7
from freehold.metering.models import DueHour
from freehold.metering.records import DueHourKey


def hours_mark(hours: Iterable[DueHourKey]) -> None:
    """Makes these hours due.

    A row that is there already is updated, not left alone: the update takes its lock, so that whoever posts this hour
    meanwhile either sees our usage or leaves the mark standing. Always in the same order, so that two cannot deadlock.
    """
    ordered = sorted(hours, key=lambda key: (key.tenant_id, key.hour))
    DueHour.objects.bulk_create(
        [DueHour(id=uuid7(), tenant_id=key.tenant_id, hour=key.hour) for key in ordered],
        update_conflicts=True,
        unique_fields=["tenant", "hour"],
        update_fields=["touched_at"],
    )


def hours_due(*, before: datetime, limit: int) -> list[DueHourKey]:
    """Due hours that begin at or before `before`, oldest first."""
    rows = DueHour.objects.filter(hour__lte=before).order_by("hour", "tenant_id")[:limit]
    return [DueHourKey(tenant_id=row.tenant_id, hour=row.hour) for row in rows]


def hours_due_of(*, tenant_ids: Collection[uuid.UUID]) -> list[DueHourKey]:
    """All due hours of these tenants, that of the present included; by tenant, oldest first."""
    rows = DueHour.objects.filter(tenant_id__in=tenant_ids).order_by("tenant_id", "hour")
    return [DueHourKey(tenant_id=tenant_id, hour=hour) for tenant_id, hour in rows.values_list("tenant_id", "hour")]


def hour_take(*, tenant_id: uuid.UUID, hour: datetime) -> bool:
    """Takes one mark away, holding it until the transaction ends. False: gone, or somebody else has it."""
    row = DueHour.objects.select_for_update(skip_locked=True).filter(tenant_id=tenant_id, hour=hour).first()
    if row is None:
        return False
    row.delete()
    return True
