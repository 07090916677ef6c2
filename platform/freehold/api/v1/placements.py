"""/placements: a dry run of placing an endpoint. Where would it run, and why not elsewhere?"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api import idempotency
from freehold.api.parsing import validated
from freehold.api.schema import answers
from freehold.api.v1.endpoints import PlacementIn, check_owner
from freehold.api.v1.flavors import PriceOut, price_out
from freehold.api.views import ApiView
from freehold.billing.selectors import book_currency, prices_that_matter
from freehold.common import clock
from freehold.fleet.choices import Verdict
from freehold.fleet.placement import Candidate, Plan
from freehold.serving.choices import BillingMode
from freehold.serving.placements import endpoint_placement
from freehold.tenancy.permissions import Operation

_HIDDEN = frozenset({Verdict.CLUSTER})  # clusters out of service are the operator's business


class PlaceOut(serializers.Serializer[Any]):
    region = serializers.CharField()
    flavor = serializers.CharField()
    accelerator = serializers.CharField()
    accelerators = serializers.IntegerField(help_text="that one replica occupies")
    nodes = serializers.IntegerField(help_text="that one replica spans")
    price_per_hour = PriceOut(allow_null=True, help_text="of a replica, where the billing mode is gpu_seconds")
    free_replicas = serializers.IntegerField(help_text="for which there is room now")


class CandidateOut(PlaceOut):
    verdict = serializers.ChoiceField(
        choices=[(verdict.value, verdict.value) for verdict in Verdict], help_text="fits, or what is in the way first"
    )
    reason = serializers.CharField(help_text="the same in words and numbers")


class PlacementOut(serializers.Serializer[Any]):
    placement = PlaceOut(allow_null=True, help_text="where it would run now; null: nowhere")
    reason = serializers.CharField(help_text="what POST /endpoints would answer, where that is no")
    field = serializers.CharField(allow_null=True, help_text="what to change, where it would run nowhere")
    candidates = CandidateOut(many=True, help_text="all there is, best first")


class PlacementsView(ApiView):
    """Placement, tried out."""

    @extend_schema(
        operation_id="placement_try",
        parameters=[idempotency.PARAMETER],
        request=PlacementIn,
        responses=answers({200: PlacementOut}, 404, 409, 422),
    )
    def post(self, request: Request) -> Response:
        """What POST /endpoints would decide at this moment. Nothing is created and nothing reserved."""
        caller = self.caller(request, Operation.ENDPOINT_READ)
        wanted = validated(PlacementIn, request.data)
        mode = BillingMode(wanted.pop("billing_mode"))
        check_owner(caller.tenant, wanted["model"])

        def attempt() -> Response:
            prices = prices_that_matter(mode=mode, at=clock.now())
            plan = endpoint_placement(actor=caller.actor, tenant_id=caller.tenant.pk, prices=prices, **wanted)
            return Response(PlacementOut(_plan(plan)).data)

        return idempotency.once(request, attempt)


def _plan(plan: Plan) -> dict[str, Any]:
    unit, error = book_currency(), plan.error
    return {
        "placement": None if plan.chosen is None else _candidate(plan.chosen, unit),
        "reason": error.message if error is not None else "",
        "field": None if error is None else error.field,
        "candidates": [
            _candidate(candidate, unit)
            for candidate in plan.candidates
            if candidate.verdict not in _HIDDEN and candidate.flavor.enabled
        ],
    }


def _candidate(candidate: Candidate, unit: str) -> dict[str, Any]:
    flavor = candidate.flavor
    return {
        "region": candidate.region,
        "flavor": flavor.name,
        "accelerator": flavor.accelerator,
        "accelerators": flavor.accelerators,
        "nodes": flavor.nodes,
        "price_per_hour": None if candidate.price_nanos is None else price_out(candidate.price_nanos, unit),
        "free_replicas": candidate.free_replicas,
        "verdict": candidate.verdict.value,
        "reason": candidate.reason,
    }
