"""What every view of the API shares: a request id, bounded JSON, who calls and what they may."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import structlog
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.views import SpectacularAPIView
from rest_framework.views import APIView

from freehold.api.authentication import Principal, principal_of
from freehold.api.parsing import BoundedJSONParser, LengthRequired
from freehold.api.problem import REQUEST_ID
from freehold.common import ids
from freehold.common.errors import NotFound
from freehold.tenancy.permissions import Operation, require

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from rest_framework.request import Request


class RequestIdView(APIView):
    """Gives each request an id of our own: in the answer, in problems and in the log. A client's is not taken over."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """As APIView's."""
        request_id = ids.encode("req", ids.uuid7())
        request.META[REQUEST_ID] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                response = super().dispatch(request, *args, **kwargs)
            finally:
                structlog.contextvars.unbind_contextvars("tenant")
        response["X-Request-Id"] = request_id
        return response


class ApiView(RequestIdView):
    """Base of the resources."""

    parser_classes = [BoundedJSONParser]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """As APIView's. Raises LengthRequired."""
        super().initial(request, *args, **kwargs)
        if request.method in {"POST", "PATCH"} and not request.META.get("CONTENT_LENGTH"):
            raise LengthRequired

    def caller(self, request: Request, operation: Operation) -> Principal:
        """Who calls, if the permission table lets them do this in their tenant. Write services ask again."""
        principal = principal_of(request)
        structlog.contextvars.bind_contextvars(tenant=principal.tenant.public_id)
        require(principal.actor, operation, tenant_id=principal.tenant.pk)
        return principal


class _Once(SchemaGenerator):
    """Describes the API once a process: the description is the same for everybody, and long in the making."""

    def get_schema(self, request: Request | None = None, public: bool = False) -> dict[str, Any]:
        """As SchemaGenerator's."""
        return _description()


@cache
def _description() -> dict[str, Any]:
    described: dict[str, Any] = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    return described


class SchemaView(SpectacularAPIView, RequestIdView):
    """The OpenAPI description, to whoever asks; `?format=json` or YAML."""

    generator_class = _Once


class NothingView(RequestIdView):
    """Any other address under /api/v1/: a problem, not Django's HTML page."""

    authentication_classes = []
    permission_classes = []
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Whatever the method."""
        raise NotFound("There is nothing at this address. GET /api/v1/schema describes what there is.")
