"""/models/{id}/sizing: which flavors hold a revision at a context length and concurrency, explained step by step."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api.parsing import validated
from freehold.api.schema import answers
from freehold.api.v1.model_contents import RevisionQuery
from freehold.api.v1.revisions import revision_asked
from freehold.api.views import ApiView
from freehold.registry import selectors
from freehold.serving.fits import revision_fits
from freehold.tenancy.permissions import Operation


class SizingQuery(RevisionQuery):
    context = serializers.IntegerField(  # type: ignore[assignment] # DRF takes declared fields off the class
        required=False, min_value=1, max_value=2**31, help_text="tokens of prompt and answer together (max_model_len)"
    )
    concurrency = serializers.IntegerField(default=1, min_value=1, max_value=2**31, help_text="requests of that length")
    kv_cache_dtype = serializers.ChoiceField(default="auto", choices=["auto", "fp8"])


class StepOut(serializers.Serializer[Any]):
    label = serializers.CharField()  # type: ignore[assignment] # DRF takes declared fields off the class
    formula = serializers.CharField()
    value = serializers.FloatField()
    unit = serializers.CharField()
    note = serializers.CharField()
    estimate = serializers.BooleanField(help_text="a rule of thumb, not the engine's own arithmetic")
    text = serializers.CharField(help_text="the whole line")


class MemoryOut(serializers.Serializer[Any]):
    """Bytes on the accelerator that holds most."""

    weights = serializers.IntegerField()
    activations = serializers.IntegerField()
    overhead = serializers.IntegerField()
    kv_cache = serializers.IntegerField(help_text="left for it")
    limit = serializers.IntegerField()


class FitOut(serializers.Serializer[Any]):
    flavor = serializers.CharField(source="flavor.name")
    accelerator = serializers.CharField(source="flavor.accelerator")
    fits = serializers.BooleanField()
    verdict = serializers.CharField(help_text="fits, or what is in the way: context, weights, kv_cache, concurrency")
    reason = serializers.CharField()
    nodes = serializers.IntegerField()
    accelerators = serializers.IntegerField(help_text="that one replica occupies")
    tensor_parallel_size = serializers.IntegerField()
    pipeline_parallel_size = serializers.IntegerField()
    replicas = serializers.IntegerField(allow_null=True, help_text="that together hold the concurrency")
    attention = serializers.CharField()
    kv_token_bytes = serializers.IntegerField()
    kv_tokens = serializers.IntegerField(allow_null=True, help_text="vLLM's GPU KV cache size")
    max_concurrency = serializers.FloatField(allow_null=True, help_text="vLLM's Maximum concurrency")
    exact = serializers.BooleanField(help_text="false: the architecture is not known, and this is an upper bound")
    memory = MemoryOut()
    steps = StepOut(many=True)
    notes = serializers.ListField(child=serializers.CharField())


class SizingOut(serializers.Serializer[Any]):
    context_length = serializers.IntegerField()
    concurrency = serializers.IntegerField()
    fits = FitOut(many=True, help_text="best first")
    unsized = serializers.ListField(child=serializers.CharField(), help_text="flavors of unknown memory")


class SizingView(ApiView):
    """Will it fit?"""

    @extend_schema(
        operation_id="revision_sizing", parameters=[SizingQuery], responses=answers({200: SizingOut}, 404, 409, 422)
    )
    def get(self, request: Request, model_id: str) -> Response:
        """Every flavor of the provider, with the calculation line by line (docs/sizing.md)."""
        tenant = self.caller(request, Operation.MODEL_READ).tenant
        query = validated(SizingQuery, request.query_params)
        revision = revision_asked(selectors.model_get(tenant_id=tenant.pk, public_id=model_id), query["revision"])
        found = revision_fits(
            revision=revision,
            context_length=query.get("context"),
            concurrency=query["concurrency"],
            kv_cache_dtype=query["kv_cache_dtype"],
        )
        body = {
            "context_length": found.context_length,
            "concurrency": found.concurrency,
            "fits": [fit.to_dict() for fit in found.fits],
            "unsized": found.unsized,
        }
        return Response(SizingOut(body).data)
