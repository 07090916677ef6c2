"""What happened to an endpoint, for its owner: steps of workers with their reasons, conditions that changed.

Written with the status, in its transaction (claims.py); read by the API and the console; purged by a worker.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import QuerySet

from freehold.common import clock
from freehold.db.rls import system_scope
from freehold.serving.choices import ConditionType
from freehold.serving.conditions import Event
from freehold.serving.models import Endpoint, EndpointEvent

KEPT: Final = timedelta(days=30)
KEPT_OF_ONE: Final = 200  # of one endpoint, whatever their age
AGAIN_WITHIN: Final = timedelta(hours=1)  # the same thing within this is counted
_MESSAGE_CHARACTERS: Final = 4_000
_RECENT: Final = 50

# A condition that came to have this status is told; of the others only their end is.
_TOLD: Final = {
    (ConditionType.READY.value, "True"): "Normal",
    (ConditionType.READY.value, "False"): "Warning",
    (ConditionType.READY.value, "Unknown"): "Warning",
    (ConditionType.FAILING.value, "True"): "Warning",
    (ConditionType.UNSCHEDULABLE.value, "True"): "Warning",
    (ConditionType.UNSCHEDULABLE.value, "False"): "Normal",
}


_WANTED: Final = "Stopped"  # by its owner


def condition_events(before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]) -> list[Event]:
    """What changed from one list of stored conditions to the next. A first condition that says nothing is amiss, or
    that nothing is ready yet, is no news."""
    old = {condition["type"]: condition for condition in before}
    found = []
    for condition in after:
        was = old.get(condition["type"])
        kind = _TOLD.get((condition["type"], condition["status"]))
        same = was is not None and (was["status"], was["reason"]) == (condition["status"], condition["reason"])
        if kind is None or same or (was is None and condition["status"] == "False"):
            continue
        if condition["reason"] == _WANTED:
            kind = "Normal"
        found.append(Event(kind, condition["reason"], condition["message"] or f"{condition['type']} no longer."))
    return found


def events_record(*, endpoint: Endpoint, events: Iterable[Event], at: datetime) -> None:
    """Writes events of one endpoint; called in the transaction, and the scope, of whoever saw them."""
    wanted = list(events)
    if not wanted:
        return
    recent = {
        (event.type, event.reason, _headline(event.message)): event
        for event in EndpointEvent.objects.filter(endpoint=endpoint, at__gt=at - AGAIN_WITHIN).order_by("-at")[:_RECENT]
    }
    fresh = []
    for event in wanted:
        message = event.message[:_MESSAGE_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}")
        known = recent.get((event.type, event.reason, _headline(message)))
        if known is not None:
            EndpointEvent.objects.filter(pk=known.pk).update(count=known.count + 1, at=at, message=message)
            continue
        fresh.append(
            EndpointEvent(
                tenant_id=endpoint.tenant_id,
                endpoint=endpoint,
                type=event.type,
                reason=event.reason,
                message=message,
                at=at,
                generation=endpoint.generation,
            )
        )
    EndpointEvent.objects.bulk_create(fresh)
    if fresh:
        newest = EndpointEvent.objects.filter(endpoint=endpoint).order_by("-id").values("pk")
        EndpointEvent.objects.filter(endpoint=endpoint).exclude(pk__in=newest[:KEPT_OF_ONE]).delete()


def _headline(message: str) -> str:
    """What makes two events the same: log lines that follow differ each time."""
    return message.partition("\n")[0]


def event_list(*, endpoint_id: uuid.UUID) -> QuerySet[EndpointEvent]:
    """An endpoint's events; those that began last come first. Read inside the caller's scope."""
    return EndpointEvent.objects.filter(endpoint_id=endpoint_id).order_by("-id")


def events_purge() -> int:
    """Drops what is older than KEPT. Returns how many. Called by a worker."""
    with system_scope("workers purge the old events of every tenant's endpoints"):
        count, _ = EndpointEvent.objects.filter(at__lt=clock.now() - KEPT).delete()
    return count
