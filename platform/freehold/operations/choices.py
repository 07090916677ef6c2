"""Closed lists of operations, free of Django."""

from __future__ import annotations

from enum import StrEnum


class QueueState(StrEnum):
    """Whether a queue is worked off."""

    HEALTHY = "healthy"
    LATE = "late"  # the newest heartbeat that came through is too old
    NEVER = "never"  # none ever came through
