"""Heartbeats in the operator's admin: to look at."""

from __future__ import annotations

from django.contrib import admin

from freehold.common import clock
from freehold.db.admin import ReadOnlyAdmin
from freehold.operations.models import QueueHeartbeat
from freehold.operations.selectors import queues_status


@admin.register(QueueHeartbeat)
class QueueHeartbeatAdmin(ReadOnlyAdmin):
    list_display = ("queue", "state", "sent_at", "consumed_at", "worker")
    ordering = ("queue",)

    @admin.display(description="state")
    def state(self, obj: QueueHeartbeat) -> str:
        """Whether the queue is worked off; empty for a queue that there is no more."""
        states = {status.queue: status.state.value for status in queues_status(now=clock.now())}
        return states.get(obj.queue, "")
