"""Moves the bytes of blobs, outside Django's handler, which would spool a whole body before anyone sees it.

An ASGI application that config/asgi.py puts in front of Django. Memory is bounded whatever the size: bytes are gathered
into one buffer, which a thread hashes and writes while the next one fills.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from freehold.common.errors import FreeholdError, InvalidInput, NotFound
from freehold.common.logging import get_logger
from freehold.hub.links import BLOBS_PREFIX as BLOBS_PREFIX
from freehold.hub.links import BlobLink, Direction, link_verify
from freehold.hub.ranges import NotSatisfiable, parse_range
from freehold.registry.storage import BlobWriter, object_store

if TYPE_CHECKING:
    from pathlib import Path

log = get_logger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_BUFFER = 1024 * 1024
_IDLE_SECONDS = 120  # an upload that stands still for longer is taken for dead
_PATHSEND = "http.response.pathsend"


class _Gone(Exception):
    """The client hung up; there is nobody left to answer."""


async def blobs(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI 3, for paths under BLOBS_PREFIX."""
    try:
        if scope["method"] == "PUT":
            await _upload(scope, receive, send)
        elif scope["method"] in {"GET", "HEAD"}:
            await _download(scope, send)
        else:
            await _answer(send, 405, "Blobs know GET, HEAD and PUT.")
    except FreeholdError as error:
        await _answer(send, error.status, error.message)
    except (_Gone, TimeoutError):
        log.info("blob_upload_cut")
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        log.error("object_store_full", error=str(error))
        await _answer(send, 507, "The object store is full. Tell your provider, then upload again.")


async def _upload(scope: Scope, receive: Receive, send: Send) -> None:
    link = link_verify(path=scope["path"], direction=Direction.UPLOAD)
    length = _header(scope, b"content-length")
    if not length.isdigit() or int(length) != link.size:
        raise InvalidInput(f"Content-Length must be {link.size}, the size this link was made for.")
    store = object_store()
    writer = await asyncio.to_thread(store.writer, link.tenant_id, sha256=link.sha256, size=link.size)
    try:
        await _receive_into(writer, receive)
        await asyncio.to_thread(writer.commit)
    finally:
        await asyncio.shield(asyncio.to_thread(writer.abort))
    await _answer(send, 200, "", etag=link.sha256)


async def _receive_into(writer: BlobWriter, receive: Receive) -> None:
    buffer = bytearray()
    writing: asyncio.Task[None] | None = None
    more = True
    try:
        while more:
            async with asyncio.timeout(_IDLE_SECONDS):
                message = await receive()
            if message["type"] != "http.request":
                raise _Gone
            buffer += message.get("body", b"")
            more = message.get("more_body", False)
            if len(buffer) >= _BUFFER or not more:
                if writing is not None:
                    await writing
                writing = asyncio.create_task(asyncio.to_thread(writer.write, buffer))
                buffer = bytearray()
    finally:
        if writing is not None:
            await writing


async def _download(scope: Scope, send: Send) -> None:
    link = link_verify(path=scope["path"], direction=Direction.DOWNLOAD)
    path = object_store().path(link.tenant_id, link.sha256)
    if not await asyncio.to_thread(path.exists):
        raise NotFound("This content is gone.")
    try:
        window = _window(scope, link)
    except NotSatisfiable:
        await _start(send, 416, [*_headers(link, 0), (b"content-range", f"bytes */{link.size}".encode())])
        await send({"type": "http.response.body", "body": b""})
        return
    first, last = window or (0, link.size - 1)
    headers = _headers(link, last - first + 1)
    if window is not None:
        headers.append((b"content-range", f"bytes {first}-{last}/{link.size}".encode()))
    await _start(send, 200 if window is None else 206, headers)
    if scope["method"] == "HEAD":
        await send({"type": "http.response.body", "body": b""})
    elif window is None and _PATHSEND in (scope.get("extensions") or {}):
        await send({"type": _PATHSEND, "path": str(path)})
    else:
        await _send_bytes(send, path, first, last)


def _window(scope: Scope, link: BlobLink) -> tuple[int, int] | None:
    condition = _header(scope, b"if-range")
    if condition and condition.strip('"') != link.sha256:
        return None
    return parse_range(_header(scope, b"range"), link.size)


async def _send_bytes(send: Send, path: Path, first: int, last: int) -> None:
    stream = await asyncio.to_thread(path.open, "rb")
    try:
        await asyncio.to_thread(stream.seek, first)
        left = last - first + 1
        while left > 0:
            chunk = await asyncio.to_thread(stream.read, min(_BUFFER, left))
            if not chunk:
                raise OSError(errno.EIO, f"{path.name} ended {left} bytes early")
            left -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
        if last < first:
            await send({"type": "http.response.body", "body": b""})
    finally:
        await asyncio.to_thread(stream.close)


def _headers(link: BlobLink, length: int) -> list[tuple[bytes, bytes]]:
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


async def _answer(send: Send, status: int, message: str, *, etag: str = "") -> None:
    body = json.dumps({"error": message} if message else {}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if etag:
        headers.append((b"etag", f'"{etag}"'.encode()))
    await _start(send, status, headers)
    await send({"type": "http.response.body", "body": body})


async def _start(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


def _header(scope: Scope, name: bytes) -> str:
    return next((bytes(value).decode("latin-1") for key, value in scope["headers"] if bytes(key).lower() == name), "")
