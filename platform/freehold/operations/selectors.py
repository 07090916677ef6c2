"""Reads of operations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from freehold.operations.choices import QueueState
from freehold.operations.models import QueueHeartbeat
from freehold.operations.queues import QUEUES


@dataclass(frozen=True)
class QueueStatus:
    """One queue.

    Attributes:
        age_seconds: since the newest heartbeat that came through was sent; None where none ever did.
        worker: that had it.
    """

    queue: str
    state: QueueState
    age_seconds: float | None
    worker: str


def queues_status(*, now: datetime) -> list[QueueStatus]:
    """Every queue there is, in the order of operations.queues."""
    beats = {beat.queue: beat for beat in QueueHeartbeat.objects.all()}
    found = []
    for queue in QUEUES:
        beat = beats.get(queue.name)
        if beat is None:
            found.append(QueueStatus(queue.name, QueueState.NEVER, None, ""))
            continue
        age = max(0.0, (now - beat.sent_at).total_seconds())
        state = QueueState.HEALTHY if age <= queue.silence_seconds else QueueState.LATE
        found.append(QueueStatus(queue.name, state, age, beat.worker))
    return found
