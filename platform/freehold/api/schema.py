"""Parts of the OpenAPI description that every resource uses."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiResponse, inline_serializer
from rest_framework import serializers

from freehold.api.problem import CONTENT_TYPE


class FieldErrorOut(serializers.Serializer[Any]):
    field = serializers.CharField()
    message = serializers.CharField()


class ProblemOut(serializers.Serializer[Any]):
    """RFC 9457; `code` is stable and for programs, `detail` is for people."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    field = serializers.CharField(required=False)
    errors = FieldErrorOut(many=True, required=False)  # type: ignore[assignment] # DRF takes declared fields off the class
    instance = serializers.CharField()
    request_id = serializers.CharField()


_TITLES = {
    400: "Bad input; `errors` names the fields",
    401: "No valid API key",
    403: "The key's role does not allow this",
    404: "No such object, or another tenant's",
    409: "In conflict with what is there",
    422: "Well-formed, and refused",
    503: "Try again later",
}


def answers(success: dict[int, Any], *problems: int) -> dict[Any, Any]:
    """The responses of one operation: what it answers when it works, and the problems that can be."""
    described: dict[Any, Any] = dict(success)
    for status in sorted({400, 401, 403, *problems}):
        described[status, CONTENT_TYPE] = OpenApiResponse(ProblemOut, description=_TITLES[status])
    return described


def page_of(name: str, item: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    """The serializer of a page of `item`, for the description alone."""
    return inline_serializer(
        name,
        {
            "data": item(many=True),
            "has_more": serializers.BooleanField(),
            "next_cursor": serializers.CharField(allow_null=True),
        },
    )
