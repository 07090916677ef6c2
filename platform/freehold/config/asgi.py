"""The web process: blobs go past Django (which spools whole bodies before a view sees them), the rest goes to it.

Run by granian: `granian --interface asginl freehold.config.asgi:application`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, cast

import django
from django.core.handlers.asgi import ASGIHandler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "freehold.config.settings.production")
django.setup(set_prefix=False)

from freehold.common import env, logging  # noqa: E402 - Django must be set up first
from freehold.hub.blobs import BLOBS_PREFIX, blobs  # noqa: E402

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

logging.configure(json=env.boolean("FREEHOLD_LOG_JSON", True))
_django = ASGIHandler()

# Django writes a whole body to disk before a view, or anybody's permission, is looked at.
LARGEST_BODY = 4 * 1024 * 1024
LARGEST_COMMIT = 512 * 1024 * 1024  # a hub commit carries its small files inline


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI 3."""
    if scope["type"] != "http":
        return
    if scope["path"].startswith(BLOBS_PREFIX):
        await blobs(scope, receive, send)
        return
    body = _Body(receive, LARGEST_COMMIT if _is_commit(scope["path"]) else LARGEST_BODY)
    await _django(scope, body.receive, cast("Any", send))
    if body.too_large:
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": b"The body is too large.\n"})


def _is_commit(path: str) -> bool:
    return path.startswith("/api/models/") and "/commit/" in path


class _Body:
    """A request's body up to a limit. Beyond it Django is told that the client hung up: it lets go of what it has kept
    and answers nothing."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._left = limit
        self.too_large = False

    async def receive(self) -> dict[str, Any]:
        """The next message."""
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.too_large = True
            return {"type": "http.disconnect"}
        return message
