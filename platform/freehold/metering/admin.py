"""Metering in the operator's admin: to look at. Nobody edits what was measured."""

from __future__ import annotations

from django.contrib import admin

from freehold.db.admin import ReadOnlyAdmin
from freehold.metering.models import DueHour, GatewayWatermark, ReplicaInterval, UsageEvent, UsageReject


@admin.register(UsageEvent)
class UsageEventAdmin(ReadOnlyAdmin):
    list_display = (
        "occurred_at", "tenant", "model", "outcome", "prompt_tokens", "cached_tokens", "completion_tokens", "estimated",
        "duration_ms", "region",
    )  # fmt: skip
    list_filter = ("outcome", "billing_mode", "region", "estimated", "occurred_at")
    list_select_related = ("tenant",)
    search_fields = ("model", "tenant__slug", "api_key_id")
    ordering = ("-occurred_at", "event_id")


@admin.register(GatewayWatermark)
class GatewayWatermarkAdmin(ReadOnlyAdmin):
    list_display = ("gateway", "epoch", "sequence", "updated_at")
    search_fields = ("gateway", "epoch")
    ordering = ("gateway", "epoch")


@admin.register(UsageReject)
class UsageRejectAdmin(ReadOnlyAdmin):
    """`raw` is not shown: it is bytes, and may be anybody's."""

    list_display = ("created_at", "gateway", "epoch", "sequence", "reason", "digest")
    search_fields = ("gateway", "reason", "digest")
    ordering = ("-id",)
    exclude = ("raw",)


@admin.register(ReplicaInterval)
class ReplicaIntervalAdmin(ReadOnlyAdmin):
    list_display = ("replica_id", "tenant", "state", "billing_mode", "flavor", "accelerators", "started_at", "ended_at")
    list_filter = ("state", "billing_mode", "flavor")
    list_select_related = ("tenant",)
    search_fields = ("replica_id", "endpoint_id", "tenant__slug")
    ordering = ("-started_at",)


@admin.register(DueHour)
class DueHourAdmin(ReadOnlyAdmin):
    list_display = ("hour", "tenant", "touched_at")
    list_select_related = ("tenant",)
    search_fields = ("tenant__slug",)
    ordering = ("hour",)
