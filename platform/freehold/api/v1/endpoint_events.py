"""/endpoints/{id}/events: what workers did to an endpoint and why, and what its conditions became."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api import pagination
from freehold.api.schema import answers, page_of
from freehold.api.views import ApiView
from freehold.db.rls import tenant_scope
from freehold.serving import selectors
from freehold.serving.events import event_list
from freehold.serving.models import Endpoint
from freehold.tenancy.permissions import Operation


class EndpointEventOut(serializers.Serializer[Any]):
    id = serializers.CharField(source="public_id")
    type = serializers.CharField(help_text="Normal or Warning")
    reason = serializers.CharField(help_text="one word for programs")
    message = serializers.CharField(help_text="what happened, and why")
    count = serializers.IntegerField(help_text="how often, within an hour of each other")
    first_at = serializers.DateTimeField(source="created_at")
    last_at = serializers.DateTimeField(source="at")
    generation = serializers.IntegerField(help_text="of the spec that the worker looked at")


class EndpointEventsView(ApiView):
    """The events of one endpoint."""

    @extend_schema(
        operation_id="endpoint_events",
        parameters=pagination.PARAMETERS,
        responses=answers({200: page_of("EndpointEventPage", EndpointEventOut)}, 404),
    )
    def get(self, request: Request, endpoint_id: str) -> Response:
        """Those that began last come first. Kept for 30 days."""
        tenant = self.caller(request, Operation.ENDPOINT_READ).tenant
        key = Endpoint.parse_id(endpoint_id)
        with tenant_scope(tenant.pk):
            endpoint = selectors.endpoint_get(tenant_id=tenant.pk, endpoint_id=key)
            events = event_list(endpoint_id=endpoint.pk)
            return Response(pagination.page(request, events, lambda rows: list(EndpointEventOut(rows, many=True).data)))
