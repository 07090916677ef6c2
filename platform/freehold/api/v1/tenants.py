"""/tenants/me: the tenant that the key acts for, and where its things are."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api.schema import answers
from freehold.api.views import ApiView
from freehold.billing.selectors import price_book_in_force
from freehold.common import clock
from freehold.tenancy.permissions import Operation


class TenantOut(serializers.Serializer[Any]):
    id = serializers.CharField()
    slug = serializers.CharField(help_text="first half of the tenant's public model names")
    name = serializers.CharField()
    role = serializers.CharField(help_text="of the calling key")
    currency = serializers.CharField(help_text="ISO 4217, of all prices")
    api_url = serializers.CharField()
    hub_url = serializers.CharField(help_text="HF_ENDPOINT for huggingface_hub")
    gateway_url = serializers.CharField(help_text="of the OpenAI and Anthropic APIs; OpenAI SDKs want /v1 behind it")
    created_at = serializers.DateTimeField()


class TenantMeView(ApiView):
    """The caller's own tenant; there is no way to another's."""

    @extend_schema(operation_id="tenant_me", responses=answers({200: TenantOut}))
    def get(self, request: Request) -> Response:
        """Who am I?"""
        caller = self.caller(request, Operation.TENANT_READ)
        book = price_book_in_force(at=clock.now())
        tenant = caller.tenant
        facts = {
            "id": tenant.public_id,
            "slug": tenant.slug,
            "name": tenant.name,
            "role": caller.actor.role,
            "currency": settings.CURRENCY if book is None else book.currency,
            "api_url": f"{settings.PUBLIC_URL}/api/v1",
            "hub_url": settings.PUBLIC_URL,
            "gateway_url": settings.GATEWAY_URL,
            "created_at": tenant.created_at,
        }
        return Response(TenantOut(facts).data)
