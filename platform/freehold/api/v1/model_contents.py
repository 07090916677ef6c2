"""/models/{id}/tensors and /models/{id}/archive: what lies inside of a revision, and all of it to take along.

The revision is a parameter (`?revision=`), because names of branches may hold slashes.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponseRedirect
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api.parsing import validated
from freehold.api.schema import answers
from freehold.api.v1.revisions import revision_asked
from freehold.api.views import ApiView
from freehold.registry import selectors
from freehold.registry.export_links import export_sign
from freehold.registry.models import Revision
from freehold.registry.tensors import tensor_page
from freehold.tenancy.permissions import Operation


class RevisionQuery(serializers.Serializer[Any]):
    revision = serializers.CharField(default="main", max_length=250, help_text="branch, tag, commit id or `rev_…`")


class TensorQuery(RevisionQuery):
    q = serializers.CharField(default="", max_length=200, allow_blank=True, help_text="part of the tensor's name")
    file = serializers.CharField(default="", max_length=1024, allow_blank=True, help_text="only of this weight file")
    offset = serializers.IntegerField(default=0, min_value=0)
    limit = serializers.IntegerField(default=200, min_value=1, max_value=5000)


class TensorOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    dtype = serializers.CharField(help_text="as safetensors writes it: BF16, F8_E4M3, I32, …")
    shape = serializers.ListField(child=serializers.IntegerField())
    bytes = serializers.IntegerField()
    file = serializers.CharField()


class TensorsOut(serializers.Serializer[Any]):
    data = TensorOut(many=True)  # type: ignore[assignment] # DRF takes declared fields off the class
    total = serializers.IntegerField(help_text="tensors that match")
    total_bytes = serializers.IntegerField(help_text="of those that match")
    next_offset = serializers.IntegerField(allow_null=True)


class TensorsView(ApiView):
    """Every tensor of a revision."""

    @extend_schema(operation_id="tensor_list", parameters=[TensorQuery], responses=answers({200: TensorsOut}, 404))
    def get(self, request: Request, model_id: str) -> Response:
        """By file and offset. A revision never changes, so pages stay whole by themselves."""
        query = validated(TensorQuery, request.query_params)
        revision = _revision(self, request, model_id, query["revision"])
        page = tensor_page(
            revision=revision,
            contains=query["q"],
            file=query["file"],
            offset=query["offset"],
            limit=query["limit"],
        )
        end = query["offset"] + query["limit"]
        body = {
            "data": page.tensors,
            "total": page.total,
            "total_bytes": page.total_bytes,
            "next_offset": end if end < page.total else None,
        }
        return Response(TensorsOut(body).data)


class ArchiveView(ApiView):
    """A revision as one tar."""

    @extend_schema(
        operation_id="revision_archive",
        parameters=[RevisionQuery],
        responses=answers({302: OpenApiTypes.BINARY}, 404),
    )
    def get(self, request: Request, model_id: str) -> HttpResponseBase:
        """Redirects to a link that is valid for a day and whose download can be resumed (Range)."""
        query = validated(RevisionQuery, request.query_params)
        revision = _revision(self, request, model_id, query["revision"])
        return HttpResponseRedirect(export_sign(origin=settings.PUBLIC_URL, revision=revision))


def _revision(view: ApiView, request: Request, model_id: str, revision: str) -> Revision:
    tenant = view.caller(request, Operation.MODEL_READ).tenant
    return revision_asked(selectors.model_get(tenant_id=tenant.pk, public_id=model_id), revision)
