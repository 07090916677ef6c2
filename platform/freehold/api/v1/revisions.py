"""/models/{id}/revisions: the history of a model, and what inspection found in it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api import pagination
from freehold.api.schema import answers, page_of
from freehold.api.views import ApiView
from freehold.common.errors import NotFound
from freehold.db.rls import tenant_scope
from freehold.registry import selectors
from freehold.registry.models import ModelRepo, Revision
from freehold.tenancy.permissions import Operation


class RevisionOut(serializers.Serializer[Any]):
    id = serializers.CharField(source="public_id")
    commit_id = serializers.CharField()
    message = serializers.CharField()
    author = serializers.CharField()
    status = serializers.CharField(
        help_text="verified: may be deployed; verifying: being hashed; incomplete: something is missing; refused"
    )
    digest = serializers.CharField(help_text="SHA-256 over all files: what an endpoint pins")
    created_at = serializers.DateTimeField()


class FileOut(serializers.Serializer[Any]):
    path = serializers.CharField()
    size = serializers.IntegerField(help_text="bytes")
    sha256 = serializers.CharField()


class RevisionDetailOut(RevisionOut):
    description = serializers.CharField()
    inspection = serializers.DictField(help_text="architecture, task, parameters, dtypes, memory need, what is missing")
    files = FileOut(many=True)


class RevisionsView(ApiView):
    """The revisions of a model."""

    @extend_schema(
        operation_id="revision_list",
        parameters=pagination.PARAMETERS,
        responses=answers({200: page_of("RevisionPage", RevisionOut)}, 404),
    )
    def get(self, request: Request, model_id: str) -> Response:
        """Newest first, of all branches."""
        model = self._model(request, model_id)
        with tenant_scope(model.tenant_id):
            revisions = selectors.revision_list(model=model)
            return Response(pagination.page(request, revisions, lambda rows: list(RevisionOut(rows, many=True).data)))

    def _model(self, request: Request, model_id: str) -> ModelRepo:
        tenant = self.caller(request, Operation.MODEL_READ).tenant
        return selectors.model_get(tenant_id=tenant.pk, public_id=model_id)


class RevisionView(RevisionsView):
    """One revision."""

    @extend_schema(operation_id="revision_get", responses=answers({200: RevisionDetailOut}, 404))
    def get(self, request: Request, model_id: str, revision: str) -> Response:  # type: ignore[override] # one segment more
        """By commit id, branch, tag or `rev_…`."""
        model = self._model(request, model_id)
        found = revision_asked(model, revision)
        body = {
            **RevisionOut(found).data,
            "description": found.description,
            "inspection": found.inspection,
            "files": FileOut(selectors.files(revision=found), many=True).data,
        }
        return Response(body)


def revision_asked(model: ModelRepo, revision: str) -> Revision:
    """The revision of a model that a caller names by commit id, branch, tag or `rev_…`. Raises NotFound."""
    if "\x00" in revision:  # PostgreSQL has no such text
        raise NotFound("There is no such revision.")
    if not revision.startswith(f"{Revision.ID_PREFIX}_"):
        return selectors.revision_of(model=model, revision=revision)
    found = selectors.revision_get(tenant_id=model.tenant_id, public_id=revision)
    if found.repo_id != model.pk:
        raise NotFound("This model has no such revision.")
    return found
