"""/usage: what was used and what it costs so far, priced as the ledger will price it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api.parsing import validated
from freehold.api.schema import answers
from freehold.api.views import ApiView
from freehold.billing.records import UsageLine
from freehold.billing.selectors import usage_and_cost
from freehold.common import clock, ids
from freehold.common.errors import InvalidInput, NotFound
from freehold.common.money import format_nanos
from freehold.db.rls import tenant_scope
from freehold.serving.models import Endpoint
from freehold.tenancy.models import Tenant
from freehold.tenancy.permissions import Operation

MAX_PERIOD = timedelta(days=366)


class UsageQuery(serializers.Serializer[Any]):
    start = serializers.DateTimeField(required=False, help_text="ISO 8601; the beginning of the month unless given")
    end = serializers.DateTimeField(required=False, help_text="exclusive; the end of start's month unless given")
    endpoint = serializers.CharField(required=False, help_text="`ep_…`: only this one")


class CostOut(serializers.Serializer[Any]):
    amount_nanos = serializers.IntegerField(help_text="10⁻⁹ of the currency's unit; exact")
    currency = serializers.CharField()
    display = serializers.CharField(help_text="the same for people")


class UsageTotalOut(serializers.Serializer[Any]):
    requests = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField(help_text="part of prompt_tokens")
    completion_tokens = serializers.IntegerField()
    accelerator_seconds = serializers.IntegerField(help_text="of endpoints paid for by gpu_seconds")
    cost = CostOut()


class UsageLineOut(UsageTotalOut):
    endpoint = serializers.CharField()
    model = serializers.CharField(help_text="public model name")


class UsageOut(serializers.Serializer[Any]):
    data = UsageLineOut(many=True)  # type: ignore[assignment] # DRF takes declared fields off the class
    total = UsageTotalOut()
    start = serializers.DateTimeField(help_text="widened to the full hour")
    end = serializers.DateTimeField(help_text="widened to the full hour")


class UsageView(ApiView):
    """Usage by endpoint, and in total."""

    @extend_schema(operation_id="usage_get", parameters=[UsageQuery], responses=answers({200: UsageOut}, 404))
    def get(self, request: Request) -> Response:
        """A line an endpoint that was used in the period, deleted ones included."""
        tenant = self.caller(request, Operation.USAGE_READ).tenant
        query = validated(UsageQuery, request.query_params)
        start, end = _period(query.get("start"), query.get("end"))
        endpoint_id = None
        if "endpoint" in query:
            endpoint_id = Endpoint.parse_id(query["endpoint"])
        with tenant_scope(tenant.pk):
            names = _names(tenant)
        if endpoint_id is not None and endpoint_id not in names:
            raise NotFound("There is no such endpoint.", field="endpoint")
        statement = usage_and_cost(tenant_id=tenant.pk, start=start, end=end, endpoint_id=endpoint_id)
        body = {
            "data": [_line(line, names) for line in statement.lines],
            "total": _sums(statement.total),
            "start": statement.start,
            "end": statement.end,
        }
        return Response(UsageOut(body).data)


def _period(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    try:
        start = start or _month(end - timedelta(seconds=1) if end else clock.now())
        end = end or _month(_month(start) + timedelta(days=32))
    except OverflowError:
        raise InvalidInput("There is no such time.", field="start") from None
    if end <= start:
        raise InvalidInput("The period ends before it begins.", field="end")
    if end - start > MAX_PERIOD:
        raise InvalidInput(f"A period has at most {MAX_PERIOD.days} days. Ask for several.", field="start")
    return start, end


def _month(moment: datetime) -> datetime:
    """The beginning of the month that `moment` lies in."""
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _names(tenant: Tenant) -> dict[Any, str]:
    """Public model names of all endpoints there ever were: usage outlives them."""
    rows = Endpoint.objects.filter(tenant=tenant).values_list("pk", "name")
    return {key: f"{tenant.slug}/{name}" for key, name in rows}


def _line(line: UsageLine, names: dict[Any, str]) -> dict[str, Any]:
    endpoint = "" if line.endpoint_id is None else ids.encode(Endpoint.ID_PREFIX, line.endpoint_id)
    return {"endpoint": endpoint, "model": names.get(line.endpoint_id) or line.model, **_sums(line)}


def _sums(line: UsageLine) -> dict[str, Any]:
    return {
        "requests": line.requests,
        "prompt_tokens": line.prompt_tokens,
        "cached_tokens": line.cached_tokens,
        "completion_tokens": line.completion_tokens,
        "accelerator_seconds": line.accelerator_seconds,
        "cost": {
            "amount_nanos": line.amount_nanos,
            "currency": line.currency,
            "display": format_nanos(line.amount_nanos, line.currency),
        },
    }
