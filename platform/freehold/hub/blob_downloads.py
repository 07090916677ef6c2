"""Content on its way out, by signed link: a whole file by granian's pathsend, a range in pieces. Used by blobs.py.

Clients are sent to a store of its own (S3) by resolve.py; only where it has no URL for them do they come here.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import quote

from freehold.common.errors import NotFound
from freehold.hub.messages import Gone, Headers, Receive, Scope, Send, header, on_disk, start
from freehold.hub.ranges import NotSatisfiable, parse_range
from freehold.registry.content_links import BlobLink, download_verify
from freehold.registry.storage import object_store

if TYPE_CHECKING:
    from pathlib import Path

_PIECE: Final = 256 * 1024
_PATHSEND: Final = "http.response.pathsend"


async def download(scope: Scope, receive: Receive, send: Send) -> None:
    """GET and HEAD. Raises NotFound where the content is gone."""
    link = download_verify(path=scope["path"])
    store = object_store()
    path = store.path(link.tenant_id, link.sha256)
    if await on_disk(store.size, link.tenant_id, link.sha256) != link.size:
        raise NotFound("This content is gone.")
    try:
        window = _window(scope, link)
    except NotSatisfiable:
        await start(send, 416, [*_headers(link, 0), (b"content-range", f"bytes */{link.size}".encode())])
        await send({"type": "http.response.body", "body": b""})
        return
    first, last = window or (0, link.size - 1)
    headers = _headers(link, last - first + 1)
    if window is not None:
        headers.append((b"content-range", f"bytes {first}-{last}/{link.size}".encode()))
    status = 200 if window is None else 206
    if scope["method"] == "HEAD" or link.size == 0:
        await start(send, status, headers)
        await send({"type": "http.response.body", "body": b""})
    elif window is None and path is not None and _PATHSEND in (scope.get("extensions") or {}):
        await start(send, status, headers)
        await send({"type": _PATHSEND, "path": str(path)})
    else:
        stream = await on_disk(_opened, link, path, first)
        try:
            await start(send, status, headers)
            await _send_pieces(receive, send, stream, last - first + 1)
        finally:
            await asyncio.shield(on_disk(stream.close))


def _window(scope: Scope, link: BlobLink) -> tuple[int, int] | None:
    """The first and the last byte that are wanted, or None for all. Only GET has ranges (RFC 9110, 14.2)."""
    condition = header(scope, b"if-range")
    if scope["method"] != "GET" or (condition and condition != f'"{link.sha256}"'):
        return None
    return parse_range(header(scope, b"range"), link.size)


def _opened(link: BlobLink, path: Path | None, first: int) -> BinaryIO:
    try:
        stream: BinaryIO = path.open("rb", buffering=0) if path else object_store().open(link.tenant_id, link.sha256)
    except FileNotFoundError:
        raise NotFound("This content is gone.") from None
    stream.seek(first)
    return stream


async def _send_pieces(receive: Receive, send: Send, stream: BinaryIO, left: int) -> None:
    """Reads a piece while the one before is sent. Stops once the client hangs up."""
    gone = asyncio.create_task(_hung_up(receive))
    reading = asyncio.create_task(on_disk(stream.read, min(_PIECE, left)))
    try:
        while left > 0:
            piece = await asyncio.shield(reading)
            if not piece:  # the length is promised: an answer that ends early shows the client that something is wrong
                raise OSError(errno.EIO, f"The content ended {left} bytes early")
            if gone.done():
                raise Gone
            left -= len(piece)
            if left > 0:
                reading = asyncio.create_task(on_disk(stream.read, min(_PIECE, left)))
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
    finally:
        gone.cancel()
        await asyncio.wait([reading])


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _headers(link: BlobLink, length: int) -> Headers:
    """A customer's content comes from the console's own origin, so a browser must never render it."""
    disposition = f"attachment; filename*=UTF-8''{quote(link.filename or link.sha256, safe='')}"
    return [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", str(length).encode()),
        (b"content-disposition", disposition.encode()),
        (b"content-security-policy", b"sandbox; default-src 'none'"),
        (b"x-content-type-options", b"nosniff"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cache-control", b"private, no-transform"),
        (b"accept-ranges", b"bytes"),
        (b"etag", f'"{link.sha256}"'.encode()),
    ]
