"""Tables of operations. Nothing here belongs to a tenant."""

from __future__ import annotations

from django.db import models


class QueueHeartbeat(models.Model):
    """The newest heartbeat that went the whole way: beat, Redis, a worker of this queue, PostgreSQL.

    Attributes:
        sent_at: when beat sent it.
        consumed_at: when a worker had it; never earlier than an older heartbeat's.
        worker: Celery's name of that worker.
    """

    queue = models.TextField(primary_key=True)
    sent_at = models.DateTimeField()
    consumed_at = models.DateTimeField()
    worker = models.TextField(blank=True)

    def __str__(self) -> str:
        return f"{self.queue} {self.sent_at:%Y-%m-%d %H:%M:%S}"
