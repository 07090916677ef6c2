"""AuditEvent: one row a write. It outlives what it speaks of, so it holds ids and no foreign keys."""

from __future__ import annotations

from django.db import models

from freehold.db.models import BaseModel


class AuditEvent(BaseModel):
    """One thing somebody did. A trigger refuses UPDATE and DELETE.

    `hash` is SHA-256 over the previous event's hash in the same chain and this event's content: a row that was
    altered or removed behind the application's back breaks the chain. A chain is a tenant's, or the platform's
    (tenant_id null).
    """

    ID_PREFIX = "evt"

    tenant_id = models.UUIDField(null=True)
    sequence = models.BigIntegerField()
    occurred_at = models.DateTimeField()
    actor_kind = models.TextField()
    actor_id = models.TextField()
    actor_label = models.TextField()
    action = models.TextField()
    object_id = models.TextField()
    detail = models.JSONField(default=dict)
    previous_hash = models.BinaryField(max_length=32)
    hash = models.BinaryField(max_length=32)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant_id", "sequence"], name="audit_event_chain", nulls_distinct=False),
        ]

    def __str__(self) -> str:
        return f"{self.actor_label} {self.action} {self.object_id}"
