"""/models: model repos. Files come in through the hub (`hf upload`); here they are made, looked at and deleted."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api import idempotency, pagination
from freehold.api.parsing import RequestBody, validated
from freehold.api.schema import answers, page_of
from freehold.api.views import ApiView
from freehold.db.rls import tenant_scope
from freehold.registry import selectors, services
from freehold.registry.models import ModelRepo
from freehold.tenancy.permissions import Operation


class ModelIn(RequestBody):
    name = serializers.CharField(max_length=96, help_text="without the tenant's slug")


class ModelOut(serializers.Serializer[Any]):
    id = serializers.CharField(source="public_id")
    name = serializers.CharField(source="full_name", help_text="`tenant/name`, as Hub clients call it")
    created_at = serializers.DateTimeField()


class RefOut(serializers.Serializer[Any]):
    kind = serializers.CharField(help_text="branch or tag")
    name = serializers.CharField()
    revision = serializers.CharField(source="revision.commit_id")


class ModelDetailOut(ModelOut):
    refs = RefOut(many=True)


class ModelsView(ApiView):
    """The models of a tenant."""

    @extend_schema(
        operation_id="model_list",
        parameters=pagination.PARAMETERS,
        responses=answers({200: page_of("ModelPage", ModelOut)}),
    )
    def get(self, request: Request) -> Response:
        """Newest first."""
        tenant = self.caller(request, Operation.MODEL_READ).tenant
        with tenant_scope(tenant.pk):
            models = selectors.model_list(tenant_id=tenant.pk)
            return Response(pagination.page(request, models, lambda rows: list(ModelOut(rows, many=True).data)))

    @extend_schema(
        operation_id="model_create",
        parameters=[idempotency.PARAMETER],
        request=ModelIn,
        responses=answers({201: ModelOut}, 409, 422),
    )
    def post(self, request: Request) -> Response:
        """An empty model, to push to with `hf upload`."""
        caller = self.caller(request, Operation.MODEL_WRITE)
        wanted = validated(ModelIn, request.data)

        def create() -> Response:
            model = services.model_create(actor=caller.actor, tenant_id=caller.tenant.pk, name=wanted["name"])
            location = {"Location": f"/api/v1/models/{model.public_id}"}
            return Response(ModelOut(model).data, status=status.HTTP_201_CREATED, headers=location)

        return idempotency.once(request, create)


class ModelView(ApiView):
    """One model."""

    @extend_schema(operation_id="model_get", responses=answers({200: ModelDetailOut}, 404))
    def get(self, request: Request, model_id: str) -> Response:
        """With its branches and tags."""
        tenant = self.caller(request, Operation.MODEL_READ).tenant
        model = selectors.model_get(tenant_id=tenant.pk, public_id=model_id)
        refs = RefOut(selectors.ref_list(model=model), many=True)
        return Response({**ModelOut(model).data, "refs": refs.data})

    @extend_schema(operation_id="model_delete", request=None, responses=answers({204: None}, 404, 409))
    def delete(self, request: Request, model_id: str) -> Response:
        """With all its revisions; 409 while an endpoint serves one of them."""
        caller = self.caller(request, Operation.MODEL_DELETE)
        services.model_delete(actor=caller.actor, tenant_id=caller.tenant.pk, model_id=ModelRepo.parse_id(model_id))
        return Response(status=status.HTTP_204_NO_CONTENT)
