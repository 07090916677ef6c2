"""The audit trail in the operator's admin: to read and search."""

from __future__ import annotations

from django.contrib import admin

from freehold.audit.models import AuditEvent
from freehold.db.admin import ReadOnlyAdmin


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("occurred_at", "actor_kind", "actor_label", "action", "object_id", "tenant_id", "sequence")
    list_filter = ("action", "actor_kind")
    search_fields = ("actor_label", "actor_id", "object_id", "action", "tenant_id")
    ordering = ("-occurred_at", "-sequence")
    exclude = ("previous_hash", "hash")
