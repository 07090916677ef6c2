"""What may come in: bounded JSON, and serializers that refuse fields they do not know."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import IO, Any

from rest_framework import exceptions, parsers, serializers

MAX_BODY = 1024 * 1024  # bytes; weights come in through the hub


class BodyTooLarge(exceptions.APIException):
    """The request's body is larger than any the API has a use for."""

    status_code = 413
    default_code = "body_too_large"
    default_detail = f"A request body has at most {MAX_BODY} bytes."


class LengthRequired(exceptions.APIException):
    """A body of unstated length, which DRF would take for none at all (RFC 9110, section 15.5.12)."""

    status_code = 411
    default_code = "length_required"
    default_detail = "Send the body with a Content-Length, not in chunks."


class BoundedJSONParser(parsers.JSONParser):
    """JSON of at most MAX_BODY bytes: DRF's own reads whatever is sent, to the end and to any depth."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Raises BodyTooLarge, ParseError."""
        content = stream.read(MAX_BODY + 1)
        if len(content) > MAX_BODY:
            raise BodyTooLarge
        try:
            return super().parse(io.BytesIO(content), media_type, dict(parser_context or {}))
        except RecursionError:
            raise exceptions.ParseError("The JSON is nested too deeply.") from None


class RequestBody(serializers.Serializer[Any]):
    """Base of every request body: an undeclared field is refused by name, so that a typo never passes silently."""

    def to_internal_value(self, data: Any) -> Any:
        """Raises ValidationError naming the unknown fields."""
        if isinstance(data, Mapping):
            unknown = [str(name) for name in data if name not in self.fields]
            if unknown:
                known = ", ".join(name for name, field in self.fields.items() if not field.read_only)
                raise serializers.ValidationError(
                    {name: [f"There is no such field. There are: {known}."] for name in unknown}
                )
        return super().to_internal_value(data)


def validated(body: type[serializers.Serializer[Any]], data: Any) -> dict[str, Any]:
    """`data` checked against a serializer. Raises ValidationError."""
    serializer = body(data=data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)
