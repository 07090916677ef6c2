"""Every error of the API as RFC 9457 `application/problem+json`. Named in settings.REST_FRAMEWORK.

    {"type": "urn:freehold:problem:conflict", "title": "Conflict", "status": 409, "code": "conflict",
     "detail": "what is wrong and what to do", "field": "name", "errors": [{"field": "name", "message": "…"}],
     "instance": "/api/v1/endpoints", "request_id": "req_…"}

`field` and `errors` are there where an input is at fault. An error nobody foresaw becomes a 500 without details; the
log has them under the request id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

from freehold.api.authentication import CHALLENGE
from freehold.common.errors import FreeholdError, InvalidInput, NotAuthenticated, NotFound, PermissionDenied
from freehold.common.logging import get_logger

if TYPE_CHECKING:
    from rest_framework.request import Request

log = get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
REQUEST_ID = "freehold.request_id"  # in request.META, set by views.ApiView
_WHOLE = "non_field_errors"  # DRF's name for what concerns the input as a whole

# DRF's codes where Freehold's tree has a word of its own for the same.
_CODES: Final[Mapping[str, type[FreeholdError]]] = {
    "not_authenticated": NotAuthenticated,
    "authentication_failed": NotAuthenticated,
    "permission_denied": PermissionDenied,
    "not_found": NotFound,
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An error as it is answered, before it is JSON."""

    status: int
    code: str
    title: str
    detail: str
    field: str | None = None
    errors: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's EXCEPTION_HANDLER: any exception → its answer."""
    request: Request = context["request"]
    problem = problem_of(error)
    if problem.status == FreeholdError.status:
        log.error("request_failed", method=request.method, path=request.path, exc_info=error)
    return response(problem, request)


def problem_of(error: Exception) -> Problem:
    """What an exception says to the caller; nothing of one that was not meant for them."""
    if isinstance(error, FreeholdError):
        return _of_freehold(error)
    if isinstance(error, exceptions.ValidationError):
        return _of_validation(error)
    if isinstance(error, exceptions.APIException):
        return _of_rest_framework(error)
    if isinstance(error, Http404):
        return _of_freehold(NotFound("There is nothing at this address."))
    if isinstance(error, DjangoPermissionDenied):
        return _of_freehold(PermissionDenied("You may not do this."))
    return _of_freehold(
        FreeholdError("Something failed on our side. Try again; if it stays, report the request_id to your provider.")
    )


def response(problem: Problem, request: Request) -> Response:
    """The answer itself."""
    body: dict[str, Any] = {
        "type": f"urn:freehold:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
    }
    if problem.field is not None:
        body["field"] = problem.field
    if problem.errors:
        body["errors"] = [{"field": name, "message": message} for name, message in problem.errors]
    body["instance"] = request.path
    body["request_id"] = request.META.get(REQUEST_ID, "")
    return Response(body, status=problem.status, headers=dict(problem.headers), content_type=CONTENT_TYPE)


def _of_freehold(error: FreeholdError) -> Problem:
    return Problem(
        status=error.status,
        code=error.code,
        title=error.title,
        detail=error.message,
        field=error.field,
        errors=((error.field, error.message),) if error.field is not None else (),
        headers=(("WWW-Authenticate", CHALLENGE),) if error.status == NotAuthenticated.status else (),
    )


def _of_validation(error: exceptions.ValidationError) -> Problem:
    found = tuple(_messages(error.detail))
    name, message = found[0]
    return Problem(
        status=InvalidInput.status,
        code=InvalidInput.code,
        title=InvalidInput.title,
        detail=f"{name}: {message}" if name else message,
        field=name or None,
        errors=found,
    )


def _messages(detail: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """DRF's nested lists and dictionaries → (dotted field, message)."""
    if isinstance(detail, Mapping):
        for name, value in detail.items():
            inner = path if name == _WHOLE else f"{path}.{name}".strip(".")
            yield from _messages(value, inner)
    elif isinstance(detail, list):
        for index, value in enumerate(detail):
            nested = isinstance(value, Mapping | list)
            yield from _messages(value, f"{path}.{index}".strip(".") if nested else path)
    else:
        yield path, str(detail)


def _of_rest_framework(error: exceptions.APIException) -> Problem:
    headers: dict[str, str] = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if (wait := getattr(error, "wait", None)) is not None:
        headers["Retry-After"] = str(int(wait))
    known = _CODES.get(error.default_code)
    title = known.title if known is not None else error.default_code.replace("_", " ").capitalize()
    detail = str(error.detail)
    if isinstance(error, exceptions.NotAuthenticated):
        detail = "There is no API key with this request. Send `Authorization: Bearer fh_…`."
    return Problem(
        status=error.status_code,
        code=known.code if known is not None else error.default_code,
        title=title,
        detail=detail,
        headers=tuple(headers.items()),
    )
