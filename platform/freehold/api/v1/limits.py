"""Rate limits as fields of what has them: keys and endpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rest_framework import serializers

from freehold.api.parsing import RequestBody
from freehold.tenancy.limits import LARGEST


def limit_field(help_text: str) -> serializers.IntegerField:
    """A limit that may be left out, and null for none."""
    return serializers.IntegerField(
        min_value=1, max_value=LARGEST, required=False, allow_null=True, help_text=f"{help_text}; null: no limit"
    )


class LimitsIn(RequestBody):
    requests_per_minute = limit_field("requests admitted in a minute")
    tokens_per_minute = limit_field("prompt and completion tokens in a minute; the worst case is reserved")
    concurrency = limit_field("requests in flight at once")


class LimitsOut(serializers.Serializer[Any]):
    requests_per_minute = serializers.IntegerField(allow_null=True)
    tokens_per_minute = serializers.IntegerField(allow_null=True)
    concurrency = serializers.IntegerField(allow_null=True)


def taken(wanted: dict[str, Any], names: Iterable[str]) -> dict[str, int | None]:
    """Takes the limits that were sent out of a validated body."""
    return {name: wanted.pop(name) for name in names if name in wanted}
