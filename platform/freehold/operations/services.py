"""Writes of operations. System writes: workers make them, nobody's request does, so they take no actor and are not
audited."""

from __future__ import annotations

from datetime import datetime

from django.db.models import F
from django.db.models.functions import Greatest

from freehold.operations.models import QueueHeartbeat


def queue_heartbeat_record(*, queue: str, sent_at: datetime, consumed_at: datetime, worker: str) -> bool:
    """Notes that a heartbeat came through. Returns whether it is news: one that is not newer than what is known (a
    second beat, a task delivered twice, one that was held up) changes nothing."""
    made = QueueHeartbeat(queue=queue, sent_at=sent_at, consumed_at=consumed_at, worker=worker)
    newer = QueueHeartbeat.objects.filter(queue=queue, sent_at__lt=sent_at)
    if newer.update(sent_at=sent_at, consumed_at=Greatest(F("consumed_at"), consumed_at), worker=worker):
        return True
    if QueueHeartbeat.objects.filter(queue=queue).exists():
        return False
    QueueHeartbeat.objects.bulk_create([made], ignore_conflicts=True)  # two workers may be the first
    newer.update(sent_at=sent_at, consumed_at=Greatest(F("consumed_at"), consumed_at), worker=worker)
    return True
