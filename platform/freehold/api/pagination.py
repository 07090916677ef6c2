"""Cursor pagination: pages stay whole while rows come and go, and the last page costs what the first one does.

Every list is newest first by UUIDv7; a cursor is the id of the last row shown, and opaque to callers.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from freehold.api.parsing import validated
from freehold.common.errors import InvalidInput
from freehold.db.models import BaseModel

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
PARAMETERS = [
    OpenApiParameter("limit", OpenApiTypes.INT, description=f"1 to {MAX_LIMIT}, {DEFAULT_LIMIT} unless given"),
    OpenApiParameter("cursor", OpenApiTypes.STR, description="`next_cursor` of the page before"),
]

Row = TypeVar("Row", bound=BaseModel)


class _Query(serializers.Serializer[Any]):
    limit = serializers.IntegerField(min_value=1, max_value=MAX_LIMIT, default=DEFAULT_LIMIT)
    cursor = serializers.CharField(default="", allow_blank=True)


def page(request: Request, rows: QuerySet[Row], represent: Callable[[list[Row]], list[Any]]) -> dict[str, Any]:
    """{"data", "has_more", "next_cursor"} of the page that the request asks for.

    `rows` are ordered by descending id; read inside the caller's scope. Raises ValidationError, InvalidInput.
    """
    query = validated(_Query, request.query_params)
    limit = query["limit"]
    if query["cursor"]:
        rows = rows.filter(pk__lt=_decode(query["cursor"]))
    found = list(rows[: limit + 1])
    shown, has_more = found[:limit], len(found) > limit
    return {
        "data": represent(shown),
        "has_more": has_more,
        "next_cursor": _encode(shown[-1].id) if has_more else None,
    }


def _encode(key: uuid.UUID) -> str:
    return base64.urlsafe_b64encode(key.bytes).rstrip(b"=").decode()


def _decode(cursor: str) -> uuid.UUID:
    try:
        return uuid.UUID(bytes=base64.b64decode(cursor.encode() + b"==", altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise InvalidInput(
            "That is not a cursor. Send the `next_cursor` of the page before, unchanged, or none.", field="cursor"
        ) from None
