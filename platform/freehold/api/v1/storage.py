"""/storage: what a tenant keeps and may keep, where it goes, and how room is had back without deleting a model."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api import idempotency
from freehold.api.parsing import RequestBody, validated
from freehold.api.schema import answers
from freehold.api.views import ApiView
from freehold.registry import accounts, discards, occupancy
from freehold.registry.models import Upload
from freehold.tenancy.permissions import Operation

_IDLE_HOURS = int(discards.IDLE.total_seconds()) // 3600


class StorageQuery(serializers.Serializer[Any]):
    models = serializers.IntegerField(
        default=20, min_value=0, max_value=1000, help_text="how many models to list, the largest first"
    )


class UploadOut(serializers.Serializer[Any]):
    id = serializers.CharField(source="upload.public_id")
    sha256 = serializers.CharField(source="upload.sha256", help_text="empty where it is known only at the end")
    path = serializers.CharField(help_text="of the file, where an import brings it; else empty")
    size = serializers.IntegerField(source="upload.size", help_text="bytes that are reserved for it")
    received_bytes = serializers.IntegerField(
        allow_null=True, help_text="null where it comes in one piece: then nothing is kept until it is whole"
    )
    created_by = serializers.CharField(source="upload.created_by")
    created_at = serializers.DateTimeField(source="upload.created_at")
    expires_at = serializers.DateTimeField(source="upload.expires_at", help_text="until then it can be continued")


class ModelStorageOut(serializers.Serializer[Any]):
    id = serializers.CharField(source="repo.public_id")
    name = serializers.CharField(source="repo.full_name")
    bytes = serializers.IntegerField(help_text="of all its revisions; content that they share counts once")
    unique_bytes = serializers.IntegerField(help_text="of content that no other model holds: deleting it frees them")


class StorageOut(serializers.Serializer[Any]):
    used_bytes = serializers.IntegerField(help_text="what counts against the quota: stored and reserved")
    stored_bytes = serializers.IntegerField(help_text="content that several models share counts once")
    reserved_bytes = serializers.IntegerField(help_text="for uploads under way")
    quota_bytes = serializers.IntegerField(allow_null=True, help_text="null for no limit")
    free_bytes = serializers.IntegerField(allow_null=True, help_text="null for no limit")
    unreferenced_bytes = serializers.IntegerField(
        help_text="stored, but of no revision: of refused commits, or of uploads whose commit is still to come"
    )
    unreferenced_until = serializers.DateTimeField(
        allow_null=True, help_text="when the last of that is removed, if no commit names it"
    )
    uploads = UploadOut(many=True, help_text=f"under way, the largest first, at most {occupancy.UPLOADS_SHOWN}")
    models = ModelStorageOut(many=True)


class CleanupIn(RequestBody):
    idle_hours = serializers.IntegerField(
        default=_IDLE_HOURS,
        min_value=0,
        max_value=24 * 365,
        help_text="leave alone what somebody has asked for since; 0: also what is being uploaded at this moment",
    )


class CleanupOut(serializers.Serializer[Any]):
    contents = serializers.IntegerField(help_text="that no revision refers to")
    uploads = serializers.IntegerField(help_text="that were not continued")
    freed_bytes = serializers.IntegerField(help_text="what was reserved is free at once, the rest within minutes")


class StorageView(ApiView):
    """A tenant's storage."""

    @extend_schema(operation_id="storage_get", parameters=[StorageQuery], responses=answers({200: StorageOut}))
    def get(self, request: Request) -> Response:
        """What is used, by what, and how much is free."""
        tenant_id = self.caller(request, Operation.MODEL_READ).tenant.pk
        most = validated(StorageQuery, request.query_params)["models"]
        usage = accounts.storage_usage(tenant_id=tenant_id)
        unreferenced = occupancy.storage_unreferenced(tenant_id=tenant_id)
        body = {
            "used_bytes": usage.used_bytes,
            "stored_bytes": usage.stored_bytes,
            "reserved_bytes": usage.reserved_bytes,
            "quota_bytes": usage.quota_bytes,
            "free_bytes": usage.free_bytes,
            "unreferenced_bytes": unreferenced.bytes,
            "unreferenced_until": unreferenced.kept_until,
            "uploads": occupancy.uploads_under_way(tenant_id=tenant_id),
            "models": occupancy.storage_by_model(tenant_id=tenant_id, most=most) if most else [],
        }
        return Response(StorageOut(body).data)


class StorageUploadView(ApiView):
    """One upload under way."""

    @extend_schema(operation_id="storage_upload_cancel", request=None, responses=answers({204: None}, 404))
    def delete(self, request: Request, upload_id: str) -> Response:
        """Ends it: what has come is thrown away, and its room is free at once."""
        caller = self.caller(request, Operation.MODEL_WRITE)
        key = Upload.parse_id(upload_id)
        discards.upload_cancel(actor=caller.actor, tenant_id=caller.tenant.pk, upload_id=key)
        return Response(status=status.HTTP_204_NO_CONTENT)


class StorageCleanupView(ApiView):
    """What no model uses."""

    @extend_schema(
        operation_id="storage_cleanup",
        parameters=[idempotency.PARAMETER],
        request=CleanupIn,
        responses=answers({202: CleanupOut}),
    )
    def post(self, request: Request) -> Response:
        """Removes what refused commits and abandoned uploads have left, before its time. No model loses anything."""
        caller = self.caller(request, Operation.MODEL_WRITE)
        idle = timedelta(hours=validated(CleanupIn, request.data)["idle_hours"])

        def discard() -> Response:
            found = discards.content_discard(actor=caller.actor, tenant_id=caller.tenant.pk, idle=idle)
            return Response(CleanupOut(found).data, status=status.HTTP_202_ACCEPTED)

        return idempotency.once(request, discard)
