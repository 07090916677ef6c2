"""/catalog: the open-weight models that the operator offers, with licence, size and how to serve them. To read only."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api import pagination
from freehold.api.parsing import validated
from freehold.api.schema import answers, page_of
from freehold.api.views import ApiView
from freehold.serving.catalog import selectors
from freehold.serving.catalog.document import Kind
from freehold.serving.models import CatalogModel
from freehold.tenancy.permissions import Operation

PARAMETERS = [
    *pagination.PARAMETERS,
    OpenApiParameter("kind", OpenApiTypes.STR, enum=[kind.value for kind in Kind]),
    OpenApiParameter("family", OpenApiTypes.STR, description="such as `qwen3`"),
    OpenApiParameter("q", OpenApiTypes.STR, description="anywhere in the upstream id, title or family"),
]


class _Filters(serializers.Serializer[Any]):
    kind = serializers.ChoiceField([kind.value for kind in Kind], default="")
    family = serializers.CharField(max_length=40, default="", allow_blank=True)
    q = serializers.CharField(max_length=200, default="", allow_blank=True)


class LicenceOut(serializers.Serializer[Any]):
    id = serializers.CharField(help_text="SPDX, or `LicenseRef-…` for terms of the publisher's own")
    name = serializers.CharField()
    url = serializers.CharField()
    commercial_use = serializers.CharField(help_text="yes, no or conditional")
    note = serializers.CharField(default=None, help_text="the conditions")


class ParametersOut(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    active = serializers.IntegerField(default=None, help_text="for one token, of a mixture of experts")


class WeightsOut(serializers.Serializer[Any]):
    bytes = serializers.IntegerField(default=None)
    basis = serializers.CharField(default=None, help_text="published, or computed from the parameters")
    dtype = serializers.CharField()
    format = serializers.CharField()
    quantization = serializers.CharField(default=None)


class SourceOut(serializers.Serializer[Any]):
    url = serializers.CharField()

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """With `for`, a word that no attribute can be named by: the fields taken from that source."""
        return {**super().get_fields(), "for": serializers.ListField(child=serializers.CharField())}


class RecommendedFlavorOut(serializers.Serializer[Any]):
    accelerator = serializers.CharField()
    accelerators = serializers.IntegerField(help_text="for one replica")
    tensor_parallel_size = serializers.IntegerField(default=1)
    pipeline_parallel_size = serializers.IntegerField(default=1)
    data_parallel_size = serializers.IntegerField(default=1)
    enable_expert_parallel = serializers.BooleanField(default=False)
    max_model_len = serializers.IntegerField(default=None, help_text="what fits, where it is less than the model holds")
    basis = serializers.CharField(help_text="published, or computed from the weights")
    note = serializers.CharField(default=None)


class CatalogModelOut(serializers.Serializer[Any]):
    id = serializers.CharField()
    upstream_id = serializers.CharField(help_text="`organization/name`, what an import fetches")
    title = serializers.CharField()
    family = serializers.CharField()
    kind = serializers.CharField()
    publisher = serializers.CharField()
    origin = serializers.CharField(help_text="the publisher's country, ISO 3166-1 alpha-2")
    licence = LicenceOut()
    gated = serializers.BooleanField(help_text="an import needs a token of the upstream hub")
    modalities = serializers.ListField(child=serializers.CharField())
    parameters = ParametersOut()
    weights = WeightsOut()
    context_length = serializers.IntegerField(help_text="tokens")
    released = serializers.CharField(default=None, help_text="YYYY-MM-DD")
    position = serializers.IntegerField(help_text="in the operator's order")


class CatalogModelDetailOut(CatalogModelOut):
    custom_code = serializers.BooleanField(
        default=None, help_text="upstream names code of its own, which is refused here"
    )
    languages = serializers.ListField(child=serializers.CharField(), default=list)
    upstream_revision = serializers.CharField(
        default=None, help_text="the commit that an import fetches; null: the newest"
    )
    exclude = serializers.ListField(child=serializers.CharField(), default=list, help_text="globs an import leaves out")
    arguments = serializers.DictField(help_text="vLLM's flags with underscores")
    recommended_flavors = RecommendedFlavorOut(many=True, default=list)
    min_vllm = serializers.CharField(default=None)
    sources = SourceOut(many=True)
    note = serializers.CharField(default=None)
    updated_at = serializers.DateTimeField()


def _flat(model: CatalogModel) -> dict[str, Any]:
    """The entry as the file has it, under our own id."""
    own = {"id": model.public_id, "upstream_id": model.upstream_id}
    return {**model.document, **own, "position": model.position, "updated_at": model.updated_at}


class CatalogView(ApiView):
    """The models on offer."""

    @extend_schema(
        operation_id="catalog_list",
        parameters=PARAMETERS,
        responses=answers({200: page_of("CatalogPage", CatalogModelOut)}),
    )
    def get(self, request: Request) -> Response:
        """Newest first; what came with one load is in the operator's order."""
        self.caller(request, Operation.MODEL_READ)
        filters = validated(_Filters, request.query_params)
        models = selectors.catalog_list(kind=filters["kind"], family=filters["family"], query=filters["q"])
        return Response(
            pagination.page(
                request, models, lambda rows: list(CatalogModelOut([_flat(row) for row in rows], many=True).data)
            )
        )


class CatalogModelView(ApiView):
    """One model on offer."""

    @extend_schema(operation_id="catalog_get", responses=answers({200: CatalogModelDetailOut}, 404))
    def get(self, request: Request, organization: str, name: str) -> Response:
        """By its upstream id."""
        self.caller(request, Operation.MODEL_READ)
        model = selectors.catalog_get(upstream_id=f"{organization}/{name}")
        return Response(CatalogModelDetailOut(_flat(model)).data)
