"""/flavors: kinds of GPU nodes on offer, what they cost, and where there is room."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api.schema import answers
from freehold.api.views import ApiView
from freehold.billing.records import FlavorPrice
from freehold.billing.selectors import flavor_prices
from freehold.common import clock
from freehold.common.money import format_nanos
from freehold.fleet.selectors import Offer, offer_list
from freehold.serving.placements import regions_allowed
from freehold.tenancy.permissions import Operation


class PriceOut(serializers.Serializer[Any]):
    amount_nanos = serializers.IntegerField(help_text="10⁻⁹ of the currency's unit")
    currency = serializers.CharField()
    display = serializers.CharField(help_text="the same for people")


class RoomOut(serializers.Serializer[Any]):
    region = serializers.CharField()
    free_replicas = serializers.IntegerField(help_text="for which there is room now; 0: none at the moment")


class FlavorOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    accelerator = serializers.CharField(help_text="product name, or cpu")
    accelerators = serializers.IntegerField(help_text="that one replica occupies")
    nodes = serializers.IntegerField(help_text="that one replica spans")
    memory_bytes = serializers.IntegerField(help_text="of one accelerator; 0: not known")
    price_per_hour = PriceOut(allow_null=True, help_text="of a replica, where the billing mode is gpu_seconds")
    regions = RoomOut(many=True)


class FlavorsOut(serializers.Serializer[Any]):
    data = FlavorOut(many=True)  # type: ignore[assignment] # DRF takes declared fields off the class


class FlavorsView(ApiView):
    """The provider's flavors, as far as the tenant may use them."""

    @extend_schema(operation_id="flavor_list", responses=answers({200: FlavorsOut}))
    def get(self, request: Request) -> Response:
        """All that are on offer, by name, free or not."""
        tenant = self.caller(request, Operation.ENDPOINT_READ).tenant
        offers = offer_list(regions_allowed=regions_allowed(tenant_id=tenant.pk))
        prices = flavor_prices(flavors=[offer.flavor.name for offer in offers], at=clock.now())
        return Response(FlavorsOut({"data": [_flavor(offer, prices) for offer in offers]}).data)


def price_out(nanos: int, currency: str) -> dict[str, Any]:
    """An amount for programs and for people."""
    return {"amount_nanos": nanos, "currency": currency, "display": format_nanos(nanos, currency)}


def _flavor(offer: Offer, prices: dict[str, FlavorPrice]) -> dict[str, Any]:
    flavor, price = offer.flavor, prices.get(offer.flavor.name)
    return {
        "name": flavor.name,
        "accelerator": flavor.accelerator,
        "accelerators": flavor.accelerators,
        "nodes": flavor.nodes,
        "memory_bytes": flavor.memory_bytes,
        "price_per_hour": None if price is None else price_out(price.nanos * flavor.accelerators, price.currency),
        "regions": [{"region": region, "free_replicas": free} for region, free in offer.free_by_region.items()],
    }
