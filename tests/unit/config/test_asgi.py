"""What the web process does before Django sees a request."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.config.asgi import LARGEST_BODY, application


async def call(path: str, pieces: list[bytes]) -> list[dict[str, Any]]:
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
        "server": ("127.0.0.1", 80),
    }
    sent: list[dict[str, Any]] = []
    waiting = list(pieces)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": waiting.pop(0) if waiting else b"", "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await application(scope, receive, send)
    return sent


@pytest.mark.parametrize("path", ["/api/v1/endpoints", "/api/models/a/b/preupload/main", "/nowhere"])
async def test_a_body_that_is_too_large_is_refused_before_it_is_kept(path: str) -> None:
    sent = await call(path, [b"x" * (LARGEST_BODY // 2)] * 3)
    assert sent[0]["status"] == 413


async def test_what_is_not_http_is_left_alone() -> None:
    await application({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
