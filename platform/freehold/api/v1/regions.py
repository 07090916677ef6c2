"""/regions: where models can run."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api.schema import answers
from freehold.api.views import ApiView
from freehold.fleet.selectors import regions_with_clusters
from freehold.serving.placements import regions_allowed
from freehold.tenancy.permissions import Operation


class RegionOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    display_name = serializers.CharField()
    allowed = serializers.BooleanField(help_text="by the tenant's residency policy")


class RegionsOut(serializers.Serializer[Any]):
    data = RegionOut(many=True)  # type: ignore[assignment] # DRF takes declared fields off the class


class RegionsView(ApiView):
    """The provider's regions."""

    @extend_schema(operation_id="region_list", responses=answers({200: RegionsOut}))
    def get(self, request: Request) -> Response:
        """All of them, by name."""
        tenant = self.caller(request, Operation.ENDPOINT_READ).tenant
        allowed = regions_allowed(tenant_id=tenant.pk)
        regions = [
            {
                "name": region.name,
                "display_name": region.display_name,
                "allowed": not allowed or region.name in allowed,
            }
            for region in regions_with_clusters()
        ]
        return Response(RegionsOut({"data": regions}).data)
