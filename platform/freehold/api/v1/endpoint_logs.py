"""/endpoints/{id}/logs: the tail of the replicas' output, through Redis; no transaction is open meanwhile."""

from __future__ import annotations

import time
from typing import Any

import redis
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from freehold.api.parsing import validated
from freehold.api.schema import answers
from freehold.api.views import ApiView
from freehold.common.errors import Unavailable
from freehold.common.logging import get_logger
from freehold.db.connections import release
from freehold.db.rls import tenant_scope
from freehold.serving import selectors
from freehold.serving.models import Endpoint
from freehold.tenancy.permissions import Operation
from freehold.wire import connection, logs

log = get_logger(__name__)

FIRST_LINES_SECONDS = 1.5  # a watcher that has just been asked needs a moment
_LOOK_EVERY_SECONDS = 0.05


class LogQuery(serializers.Serializer[Any]):
    after = serializers.RegexField(
        r"^\d{1,19}-\d{1,19}$", required=False, help_text="`next_after` of the call before: only newer lines"
    )
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=200)


class LogLineOut(serializers.Serializer[Any]):
    replica = serializers.CharField()
    text = serializers.CharField()
    position = serializers.CharField()


class LogsOut(serializers.Serializer[Any]):
    data = LogLineOut(many=True)  # type: ignore[assignment] # DRF takes declared fields off the class
    next_after = serializers.CharField(allow_null=True)


class EndpointLogsView(ApiView):
    """The newest lines, then those after a position."""

    @extend_schema(operation_id="endpoint_logs", parameters=[LogQuery], responses=answers({200: LogsOut}, 404, 503))
    def get(self, request: Request, endpoint_id: str) -> Response:
        """Oldest first. Lines are kept for minutes; call again with `after` while somebody looks."""
        tenant = self.caller(request, Operation.ENDPOINT_READ).tenant
        query = validated(LogQuery, request.query_params)
        key = Endpoint.parse_id(endpoint_id)
        with tenant_scope(tenant.pk):
            endpoint = selectors.endpoint_get(tenant_id=tenant.pk, endpoint_id=key).public_id
        release()  # the wait below needs none, and others do
        after: str | None = query.get("after")
        try:
            lines = _lines(connection.client(), endpoint, after, query["limit"])
        except redis.RedisError as error:
            log.warning("logs_not_read", endpoint=endpoint, error=str(error))
            raise Unavailable("Logs cannot be read right now. Try again in a moment.") from None
        body = {"data": lines, "next_after": lines[-1].position if lines else after}
        return Response(LogsOut(body).data)


def _lines(client: redis.Redis, endpoint: str, after: str | None, limit: int) -> list[logs.LogLine]:
    """Waits for the first lines only: whoever reads on comes again anyway."""
    logs.want(client, endpoint)
    deadline = time.monotonic() + FIRST_LINES_SECONDS
    while True:
        lines = logs.read(client, endpoint, after=after, count=limit)
        if lines or after is not None or time.monotonic() >= deadline:
            return lines
        time.sleep(_LOOK_EVERY_SECONDS)
