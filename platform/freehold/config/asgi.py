"""The web process: blobs and exports go past Django (which spools whole bodies before a view sees them), the rest goes
to it.

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
from freehold.config.bodies import Body  # noqa: E402
from freehold.hub.blobs import BLOBS_PREFIX, blobs  # noqa: E402
from freehold.hub.exports import exports  # noqa: E402
from freehold.registry.export_links import EXPORTS_PREFIX  # noqa: E402

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

logging.configure(json=env.boolean("FREEHOLD_LOG_JSON", True))
_django = ASGIHandler()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI 3."""
    if scope["type"] != "http":
        return
    if scope["path"].startswith(BLOBS_PREFIX):
        await blobs(scope, receive, send)
        return
    if scope["path"].startswith(EXPORTS_PREFIX):
        await exports(scope, receive, send)
        return
    body = Body(scope, receive)
    try:
        await _django(scope, body.receive, cast("Any", send))
    finally:
        await body.finish(send)
