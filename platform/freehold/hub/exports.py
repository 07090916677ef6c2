"""Streams a revision as a tar, outside Django, in bounded memory; a cut download goes on by Range.

An ASGI application that config/asgi.py puts in front of Django. Whoever holds a signed link may load that one revision:
made by the REST API (…/revisions/{revision}/archive) and the console.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any
from urllib.parse import quote

from freehold.common.errors import FreeholdError, PermissionDenied
from freehold.common.logging import get_logger
from freehold.db.connections import release
from freehold.hub.ranges import NotSatisfiable, parse_range
from freehold.registry import selectors
from freehold.registry.archive import Archive, Slice, archive_of
from freehold.registry.export_links import export_verify
from freehold.registry.storage import object_store

log = get_logger(__name__)

_CHUNK = 1024 * 1024

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def exports(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI 3, for paths under EXPORTS_PREFIX."""
    try:
        if scope["method"] not in {"GET", "HEAD"}:
            await _answer(send, 405, "Exports know GET and HEAD.")
            return
        tenant_id, archive = await asyncio.to_thread(_archive, scope["path"])
        await _serve(scope, receive, send, tenant_id, archive)
    except FreeholdError as error:
        await _answer(send, error.status, error.message)


def _archive(path: str) -> tuple[uuid.UUID, Archive]:
    """Runs in a thread, whose connection it gives back."""
    link = export_verify(path=path)
    try:
        found = selectors.revision_by_key(tenant_id=link.tenant_id, revision_id=link.revision_id)
        if found.repo.tenant.suspended_at is not None:
            raise PermissionDenied(f"The tenant {found.repo.tenant.slug} is suspended.")
        return found.tenant_id, archive_of(found, selectors.files(revision=found))
    finally:
        release()


async def _serve(scope: Scope, receive: Receive, send: Send, tenant_id: uuid.UUID, archive: Archive) -> None:
    condition = _header(scope, b"if-range")
    wanted = "" if condition and condition.strip('"') != archive.etag else _header(scope, b"range")
    try:
        window = parse_range(wanted, archive.size)
    except NotSatisfiable:
        await _start(send, archive, 416, 0, [(b"content-range", f"bytes */{archive.size}".encode())])
        await send({"type": "http.response.body", "body": b""})
        return
    first, last = window or (0, archive.size - 1)
    extra = []
    if window is not None:
        extra.append((b"content-range", f"bytes {first}-{last}/{archive.size}".encode()))
    await _start(send, archive, 200 if window is None else 206, last - first + 1, extra)
    if scope["method"] == "HEAD":
        await send({"type": "http.response.body", "body": b""})
        return
    gone = asyncio.create_task(_hung_up(receive))
    try:
        for piece in archive.window(first, last):
            if gone.done():
                return
            await _send(send, tenant_id, piece, gone)
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()


async def _send(send: Send, tenant_id: uuid.UUID, piece: Slice, gone: asyncio.Task[None]) -> None:
    segment = piece.segment
    if not segment.sha256:
        body = segment.content[piece.offset : piece.offset + piece.length]
        await send({"type": "http.response.body", "body": body, "more_body": True})
        return
    try:
        stream = await asyncio.to_thread(object_store().open, tenant_id, segment.sha256)
    except FileNotFoundError:
        # The length is promised, and the answer begun: one that ends early shows the client that something is wrong.
        log.error("export_content_gone", sha256=segment.sha256, path=segment.path)
        raise
    with closing(stream):
        await asyncio.to_thread(stream.seek, piece.offset)
        left = piece.length
        while left and not gone.done():
            chunk = await asyncio.to_thread(stream.read, min(_CHUNK, left))
            if not chunk:
                log.error("export_cut_short", sha256=segment.sha256, missing=left)
                raise OSError(f"{segment.sha256} ended {left} bytes early")
            left -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _start(send: Send, archive: Archive, status: int, length: int, extra: list[tuple[bytes, bytes]]) -> None:
    disposition = f"attachment; filename*=UTF-8''{quote(archive.name, safe='')}"
    headers = [
        (b"content-type", b"application/x-tar"),
        (b"content-length", str(length).encode()),
        (b"content-disposition", disposition.encode()),
        (b"content-security-policy", b"sandbox; default-src 'none'"),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"private, no-transform"),
        (b"accept-ranges", b"bytes"),
        (b"etag", f'"{archive.etag}"'.encode()),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _answer(send: Send, status: int, message: str) -> None:
    body = message.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _header(scope: Scope, name: bytes) -> str:
    return next((bytes(value).decode("latin-1") for key, value in scope["headers"] if bytes(key).lower() == name), "")
