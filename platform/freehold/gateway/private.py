"""The private port: `/healthz` (the process runs), `/readyz` (it should be sent requests), `/metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold.gateway.errors import ApiError, Shape

if TYPE_CHECKING:
    from freehold.gateway.app import Gateway
    from freehold.gateway.exchange import Request
    from freehold.gateway.http1 import Connection

_TEXT = b"text/plain; charset=utf-8"
_EXPOSITION = b"text/plain; version=0.0.4; charset=utf-8"


class Private:
    """The Service of the private listener."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def screen(self, request: Request) -> tuple[ApiError, Shape] | None:
        """Bodies have no business here."""
        return ApiError(413, "No body is taken here."), Shape.OPENAI

    def handle(self, connection: Connection, request: Request) -> None:
        """Answers at once."""
        path = request.path.partition(b"?")[0]
        if path == b"/healthz":
            connection.respond(200, b"ok\n", content_type=_TEXT)
        elif path == b"/readyz":
            reason = self._gateway.unready()
            body = f"{reason or 'ready'}\n".encode()
            connection.respond(503 if reason else 200, body, content_type=_TEXT)
        elif path == b"/metrics":
            connection.respond(200, self._gateway.exposition(), content_type=_EXPOSITION)
        else:
            connection.respond_error(ApiError(404, "There are /healthz, /readyz and /metrics."), Shape.OPENAI)
