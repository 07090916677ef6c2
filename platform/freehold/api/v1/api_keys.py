"""/api-keys: make, list, limit and revoke API keys."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api import idempotency, pagination
from freehold.api.parsing import validated
from freehold.api.schema import answers, page_of
from freehold.api.v1.limits import LimitsIn, LimitsOut, taken
from freehold.api.views import ApiView
from freehold.common.errors import InvalidInput
from freehold.db.rls import tenant_scope
from freehold.tenancy import selectors, services
from freehold.tenancy.choices import Role
from freehold.tenancy.limits import FIELDS
from freehold.tenancy.models import ApiKey
from freehold.tenancy.permissions import Operation


class ApiKeyIn(LimitsIn):
    name = serializers.CharField(max_length=100, help_text="says where the key is used")
    role = serializers.ChoiceField(choices=[(role.value, role.value) for role in Role])
    models_allowed = serializers.ListField(
        child=serializers.CharField(max_length=200),
        required=False,
        allow_null=True,
        max_length=100,
        help_text="public model names it may call; null: all",
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class ApiKeyPatch(LimitsIn):
    """Fields that are left out stay as they are."""


class ApiKeyOut(LimitsOut):
    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    role = serializers.CharField()
    hint = serializers.CharField(help_text="how the secret begins")
    models_allowed = serializers.ListField(child=serializers.CharField(), allow_null=True)
    created_by = serializers.CharField(help_text="`usr_…`, `key_…` or a process of the provider")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="on the REST API and the hub; to five minutes")


class NewApiKeyOut(ApiKeyOut):
    secret = serializers.CharField(help_text="shown this once")


class ApiKeysView(ApiView):
    """The keys of a tenant."""

    @extend_schema(
        operation_id="api_key_list",
        parameters=pagination.PARAMETERS,
        responses=answers({200: page_of("ApiKeyPage", ApiKeyOut)}),
    )
    def get(self, request: Request) -> Response:
        """Newest first, revoked ones included."""
        tenant = self.caller(request, Operation.KEY_READ).tenant
        with tenant_scope(tenant.pk):
            keys = selectors.api_key_list(tenant_id=tenant.pk)
            return Response(pagination.page(request, keys, lambda rows: list(ApiKeyOut(rows, many=True).data)))

    @extend_schema(
        operation_id="api_key_create",
        parameters=[idempotency.PARAMETER],
        request=ApiKeyIn,
        responses=answers({201: NewApiKeyOut}, 409, 422),
    )
    def post(self, request: Request) -> Response:
        """A new key. It can do no more than the key that makes it."""
        caller = self.caller(request, Operation.KEY_MANAGE)
        wanted = validated(ApiKeyIn, request.data)
        wanted["role"] = Role(wanted["role"])
        wanted["limits"] = taken(wanted, FIELDS)

        def create() -> Response:
            new = services.api_key_create(actor=caller.actor, tenant_id=caller.tenant.pk, **wanted)
            body = {**ApiKeyOut(new.key).data, "secret": new.secret}
            return Response(body, status=status.HTTP_201_CREATED)

        return idempotency.once(request, create)


class ApiKeyView(ApiView):
    """One key."""

    @extend_schema(operation_id="api_key_update", request=ApiKeyPatch, responses=answers({200: ApiKeyOut}, 404, 409))
    def patch(self, request: Request, key_id: str) -> Response:
        """Other limits; gateways keep to them within a second. All else stays: for another role, make another key."""
        caller = self.caller(request, Operation.KEY_MANAGE)
        limits = taken(validated(ApiKeyPatch, request.data), FIELDS)
        if not limits:
            raise InvalidInput(f"Nothing to change. Send some of: {', '.join(FIELDS)}.")
        key = services.api_key_limits_set(
            actor=caller.actor, tenant_id=caller.tenant.pk, key_id=ApiKey.parse_id(key_id), limits=limits
        )
        return Response(ApiKeyOut(key).data)

    @extend_schema(operation_id="api_key_revoke", request=None, responses=answers({204: None}, 404))
    def delete(self, request: Request, key_id: str) -> Response:
        """Revokes the key for good; gateways refuse it within a second. A second time changes nothing."""
        caller = self.caller(request, Operation.KEY_MANAGE)
        services.api_key_revoke(actor=caller.actor, tenant_id=caller.tenant.pk, key_id=ApiKey.parse_id(key_id))
        return Response(status=status.HTTP_204_NO_CONTENT)
