"""The private port: `/healthz` (the process runs), `/readyz` (it should be sent requests), `/metrics`, and
`POST /drain` (leave; answered when done). It may listen on the pod's address for probes and Prometheus; /drain is for
this machine alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from freehold.gateway.errors import ApiError, Shape

if TYPE_CHECKING:
    from freehold.gateway.app import Gateway
    from freehold.gateway.departure import Left
    from freehold.gateway.exchange import Request
    from freehold.gateway.http1 import Connection
    from freehold.gateway.parent import Parent

GOING = ApiError(503, "This process has been replaced. Ask again.", retry_after=1)
_TEXT = b"text/plain; charset=utf-8"
_EXPOSITION = b"text/plain; version=0.0.4; charset=utf-8"
# Not all of 127.0.0.0/8: a service mesh's proxy brings strangers in from addresses such as 127.0.0.6.
_LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


class Private:
    """The Service of the private listener. Each process of a gateway has one: readiness and a drain are of all of them,
    metrics are its own."""

    def __init__(self, gateway: Gateway, parent: Parent) -> None:
        self._gateway = gateway
        self._parent = parent

    def screen(self, request: Request) -> tuple[ApiError, Shape] | None:
        """Bodies have no business here."""
        return ApiError(413, "No body is taken here."), Shape.OPENAI

    def handle(self, connection: Connection, request: Request) -> None:
        """Answers at once, but for a drain."""
        path = request.path.partition(b"?")[0]
        if path == b"/healthz":
            connection.respond(200, b"ok\n", content_type=_TEXT)
        elif path == b"/readyz":
            reason = self._gateway.unready() or ("" if self._parent.others == 0 else "another process is not ready")
            body = f"{reason or 'ready'}\n".encode()
            connection.respond(503 if reason else 200, body, content_type=_TEXT)
        elif path == b"/metrics":
            connection.respond(200, self._gateway.exposition(), content_type=_EXPOSITION)
        elif path == b"/drain":
            self._drain(connection, request)
        else:
            error = ApiError(404, "There are /healthz, /readyz, /metrics and, for POST, /drain.")
            connection.respond_error(error, Shape.OPENAI)

    def _drain(self, connection: Connection, request: Request) -> None:
        if connection.peer not in _LOOPBACK:
            connection.respond_error(ApiError(403, "A gateway is drained from its own machine only."), Shape.OPENAI)
        elif request.method != b"POST":
            connection.respond_error(ApiError(405, "This path takes POST only.", allow="POST"), Shape.OPENAI)
        else:
            connection.job = _Wait(connection, self._parent.drain_all())


class _Wait:
    """Answers once the gateway has drained. Who asked may hang up; the drain goes on."""

    def __init__(self, connection: Connection, drained: asyncio.Future[Left]) -> None:
        self._connection: Connection | None = connection
        drained.add_done_callback(self._answer)

    def _answer(self, drained: asyncio.Future[Left]) -> None:
        if self._connection is None:
            return
        if drained.cancelled() or drained.exception() is not None:
            self._connection.respond_error(ApiError(500, "The drain failed; the log says why."), Shape.OPENAI)
        else:
            self._connection.respond(200, msgspec.json.encode(drained.result()))

    def client_lost(self) -> None:
        self._connection = None

    def client_blocked(self) -> None:
        pass

    def client_flowing(self) -> None:
        pass

    def check(self, now: float) -> None:
        pass
