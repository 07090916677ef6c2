"""/endpoints: served models. A write changes what is desired; `phase` and `conditions` say how far it is."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api import idempotency, pagination
from freehold.api.parsing import RequestBody, validated
from freehold.api.schema import answers, page_of
from freehold.api.v1.limits import LimitsIn, LimitsOut, limit_field, taken
from freehold.api.views import ApiView
from freehold.billing.selectors import prices_that_matter
from freehold.common import clock
from freehold.common.errors import InvalidInput, NotFound
from freehold.db.rls import tenant_scope
from freehold.serving import selectors, services
from freehold.serving.choices import BillingMode
from freehold.serving.models import Endpoint
from freehold.tenancy.models import Tenant
from freehold.tenancy.permissions import Operation


class PlacementIn(RequestBody):
    model = serializers.CharField(max_length=200, help_text="`tenant/name`")
    revision = serializers.CharField(
        max_length=200, default="main", help_text="branch, tag or commit; the commit it means now is pinned"
    )
    billing_mode = serializers.ChoiceField(
        choices=[(mode.value, mode.value) for mode in BillingMode], default=BillingMode.TOKENS.value
    )
    replicas = serializers.IntegerField(default=1, min_value=0, max_value=services.MAX_REPLICAS)
    flavor = serializers.CharField(
        max_length=40, required=False, allow_null=True, help_text="kind of GPU node; without, one that holds the model"
    )
    region = serializers.CharField(
        max_length=40, required=False, allow_null=True, help_text="without, any that the tenant may use"
    )
    arguments = serializers.DictField(
        child=serializers.JSONField(), required=False, help_text="vLLM's, such as max_model_len"
    )


class EndpointLimitsIn(LimitsIn):
    default_max_tokens = limit_field("completion tokens of a request that names no maximum")


class EndpointIn(EndpointLimitsIn, PlacementIn):
    name = serializers.CharField(max_length=60, help_text="second half of the public model name")


class EndpointPatch(EndpointLimitsIn):
    """Fields that are left out stay as they are."""

    replicas = serializers.IntegerField(
        min_value=0, max_value=services.MAX_REPLICAS, required=False, help_text="0 stops it"
    )


class ConditionOut(serializers.Serializer[Any]):
    type = serializers.CharField(help_text="Ready, Progressing or Failing")
    status = serializers.CharField(help_text="True, False or Unknown")
    reason = serializers.CharField(help_text="one word for programs")
    message = serializers.CharField(help_text="what is the matter and what to do")
    last_transition_at = serializers.DateTimeField()


class ReplicaOut(serializers.Serializer[Any]):
    id = serializers.CharField()
    state = serializers.CharField()
    since = serializers.DateTimeField()


class EndpointOut(LimitsOut):
    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    model_name = serializers.CharField(help_text="`tenant/endpoint`: what applications send as `model`")
    model = serializers.CharField(source="spec.revision.repo.full_name")
    revision = serializers.CharField(source="spec.revision.commit_id", help_text="the pinned commit")
    billing_mode = serializers.CharField()
    kind = serializers.CharField(help_text="dedicated or serverless")
    replicas = serializers.IntegerField(source="spec.replicas", help_text="wanted")
    ready_replicas = serializers.IntegerField()
    generation = serializers.IntegerField()
    observed_generation = serializers.IntegerField(help_text="the generation that phase and conditions speak of")
    phase = serializers.CharField()
    conditions = ConditionOut(many=True)
    replica_list = ReplicaOut(many=True, source="replicas_observed")
    flavor = serializers.CharField(source="spec.flavor.name")
    region = serializers.CharField(source="cluster.region.name")
    arguments = serializers.DictField(source="spec.arguments")
    default_max_tokens = serializers.IntegerField(allow_null=True)
    weight_digest = serializers.CharField(source="spec.revision.digest")
    engine_digest = serializers.CharField(source="spec.engine_digest")
    created_at = serializers.DateTimeField()


class EndpointsView(ApiView):
    """The endpoints of a tenant."""

    @extend_schema(
        operation_id="endpoint_list",
        parameters=pagination.PARAMETERS,
        responses=answers({200: page_of("EndpointPage", EndpointOut)}),
    )
    def get(self, request: Request) -> Response:
        """Newest first."""
        tenant = self.caller(request, Operation.ENDPOINT_READ).tenant
        with tenant_scope(tenant.pk):
            endpoints = selectors.endpoint_list(tenant_id=tenant.pk)
            return Response(pagination.page(request, endpoints, lambda rows: list(EndpointOut(rows, many=True).data)))

    @extend_schema(
        operation_id="endpoint_create",
        parameters=[idempotency.PARAMETER],
        request=EndpointIn,
        responses=answers({201: EndpointOut}, 404, 409, 422),
    )
    def post(self, request: Request) -> Response:
        """Serve a model. The answer comes at once; poll the endpoint until its phase is Ready."""
        caller = self.caller(request, Operation.ENDPOINT_WRITE)
        wanted = validated(EndpointIn, request.data)
        wanted["billing_mode"] = BillingMode(wanted["billing_mode"])
        wanted["limits"] = taken(wanted, services.LIMITS)
        wanted["prices"] = prices_that_matter(mode=wanted["billing_mode"], at=clock.now())
        check_owner(caller.tenant, wanted["model"])

        def create() -> Response:
            made = services.endpoint_create(actor=caller.actor, tenant_id=caller.tenant.pk, **wanted)
            endpoint = selectors.endpoint_get(tenant_id=caller.tenant.pk, endpoint_id=made.pk)
            location = {"Location": f"/api/v1/endpoints/{endpoint.public_id}"}
            return Response(EndpointOut(endpoint).data, status=status.HTTP_201_CREATED, headers=location)

        return idempotency.once(request, create)


class EndpointView(ApiView):
    """One endpoint."""

    @extend_schema(operation_id="endpoint_get", responses=answers({200: EndpointOut}, 404))
    def get(self, request: Request, endpoint_id: str) -> Response:
        """Desired and observed state."""
        tenant = self.caller(request, Operation.ENDPOINT_READ).tenant
        key = Endpoint.parse_id(endpoint_id)
        with tenant_scope(tenant.pk):
            return Response(EndpointOut(selectors.endpoint_get(tenant_id=tenant.pk, endpoint_id=key)).data)

    @extend_schema(
        operation_id="endpoint_update", request=EndpointPatch, responses=answers({200: EndpointOut}, 404, 409)
    )
    def patch(self, request: Request, endpoint_id: str) -> Response:
        """Another number of replicas, which is a new generation; other limits, which are none: gateways keep to them
        within a second. All else is pinned: for another model or arguments, make another endpoint."""
        caller = self.caller(request, Operation.ENDPOINT_WRITE)
        wanted = validated(EndpointPatch, request.data)
        if not wanted:
            raise InvalidInput(f"Nothing to change. Send some of: {', '.join(('replicas', *services.LIMITS))}.")
        limits = taken(wanted, services.LIMITS)
        tenant_id, key = caller.tenant.pk, Endpoint.parse_id(endpoint_id)
        with tenant_scope(tenant_id):
            if limits:
                services.endpoint_limits_set(actor=caller.actor, tenant_id=tenant_id, endpoint_id=key, limits=limits)
            if "replicas" in wanted:
                services.endpoint_scale(
                    actor=caller.actor, tenant_id=tenant_id, endpoint_id=key, replicas=wanted["replicas"]
                )
            return Response(EndpointOut(selectors.endpoint_get(tenant_id=tenant_id, endpoint_id=key)).data)

    @extend_schema(operation_id="endpoint_delete", request=None, responses=answers({202: EndpointOut}, 404))
    def delete(self, request: Request, endpoint_id: str) -> Response:
        """Routes go at once, then the replicas, then the endpoint itself: a later GET answers 404."""
        caller = self.caller(request, Operation.ENDPOINT_WRITE)
        tenant_id, key = caller.tenant.pk, Endpoint.parse_id(endpoint_id)
        with tenant_scope(tenant_id):
            services.endpoint_delete(actor=caller.actor, tenant_id=tenant_id, endpoint_id=key)
            endpoint = selectors.endpoint_get(tenant_id=tenant_id, endpoint_id=key)
            return Response(EndpointOut(endpoint).data, status=status.HTTP_202_ACCEPTED)


def check_owner(tenant: Tenant, model: str) -> None:
    """Another tenant's model is as missing as one that never was."""
    slug, slash, _ = model.partition("/")
    if slash and slug != tenant.slug:
        raise NotFound(f"There is no model {model!r}. Yours are called {tenant.slug}/<name>.", field="model")
