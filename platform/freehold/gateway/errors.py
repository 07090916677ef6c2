"""What a client is told when it goes wrong, in the two shapes that its SDK understands.

OpenAI:    {"error": {"message", "type", "param", "code"}}
Anthropic: {"type": "error", "error": {"type", "message"}}
"""

from __future__ import annotations

from enum import Enum

import msgspec


class Shape(Enum):
    """Whose errors and stream ends a route speaks."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_OPENAI_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """An answer other than 200. `message` says what is wrong and what to do; it never holds a secret or a prompt.

    Attributes:
        status: HTTP status.
        code: stable word for programs, or None.
        param: the field at fault, or None.
        retry_after: seconds after which trying again makes sense, or None.
        allow: methods, for a 405.
        extra: header lines for this answer alone, each with its CRLF.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
        allow: str | None = None,
        extra: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.allow = allow
        self.extra = extra

    @property
    def type(self) -> str:
        """OpenAI's `type`."""
        return _OPENAI_TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    def body(self, shape: Shape) -> bytes:
        """The JSON that is answered."""
        if shape is Shape.ANTHROPIC:
            kind = _ANTHROPIC_TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
            return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": self.message}})
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})

    def headers(self) -> bytes:
        """Extra header lines."""
        lines = self.extra
        if self.retry_after is not None:
            lines += b"retry-after: %d\r\n" % self.retry_after
        if self.allow is not None:
            lines += b"allow: " + self.allow.encode() + b"\r\n"
        return lines


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400."""
    return ApiError(400, message, param=param, code=code)


def frame(shape: Shape, message: str, code: str, sequence: int = 0) -> bytes:
    """An error inside a stream that has begun: the SDKs raise on it, and no end of success follows."""
    if shape is Shape.ANTHROPIC:
        event = {"type": "error", "error": {"type": "api_error", "message": message}}
        return b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n"
    if shape is Shape.RESPONSES:
        failure = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": sequence}
        return b"event: error\ndata: " + msgspec.json.encode(failure) + b"\n\n"
    error = {"message": message, "type": "server_error", "param": None, "code": code}
    return b"data: " + msgspec.json.encode({"error": error}) + b"\n\n"
