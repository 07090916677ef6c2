"""Every queue of the workers, in one place, free of Django: beat sends a heartbeat through each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from freehold.wire import hints

BEAT_SECONDS: Final = 15.0


@dataclass(frozen=True)
class Queue:
    """One queue of Celery's.

    Attributes:
        silence_seconds: without a heartbeat for longer, nobody works it off. A heartbeat waits its turn like any other
            task, so this is several beats more than the longest that all of a worker's threads may be busy.
    """

    name: str
    silence_seconds: float


# A turn of an import may take 20 minutes (workers/jobs/imports.py), and all threads may have one at once.
QUEUES: Final = (Queue(hints.DEFAULT, 60.0 + 240.0), Queue(hints.TRANSFERS, 60.0 + 1_200.0))
