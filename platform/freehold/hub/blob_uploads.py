"""Content on its way in: a whole file or a part by PUT, the end of a file in parts by POST. Used by blobs.py.

What is there already is answered at once, without reading it: a client that resumes has no notion of skipping parts and
sends them all. It is told 200 and the connection is closed, which huggingface_hub (httpx) takes for an answer though it
has not sent everything.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from mmap import mmap
from typing import TYPE_CHECKING, Any, Final

from freehold.common.errors import InvalidInput, NotFound, Unavailable
from freehold.db.connections import release
from freehold.hub.messages import Receive, Scope, Send, answer, header, incoming, on_disk
from freehold.registry import services
from freehold.registry.content_links import UploadLink, upload_verify
from freehold.registry.storage import object_store
from freehold.registry.storage.base import MOST_PARTS, Part
from freehold.tenancy.actors import system

if TYPE_CHECKING:
    from freehold.registry.models import Upload
    from freehold.registry.storage.base import Multipart, ObjectStore, Writer

_BUFFER: Final = 1024 * 1024
_WAIT_SECONDS: Final = 75.0  # for somebody else who sends the same part, and is taken for dead after IDLE_SECONDS
_POLL_SECONDS: Final = 0.2
_AGAIN_SECONDS: Final = 10.0
_REMEMBERED: Final = 1000
_NAMES_BYTES: Final = 4 * 1024 * 1024
_COMPLETING_AT_ONCE: Final = 4  # each may hash for a while, in a thread
_ACTOR = system("hub.blobs")  # links carry no key; the upload says who began it

_answered_early: dict[tuple[uuid.UUID, int], float] = {}  # time.monotonic(); only touched on the event loop, as below
_completing: dict[uuid.UUID, asyncio.Task[None]] = {}
_turns = asyncio.Semaphore(_COMPLETING_AT_ONCE)


async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    """PUT of a whole content, or of a part of one."""
    link = upload_verify(path=scope["path"])
    found = await asyncio.to_thread(_upload_of, link)
    if found is None:
        await _answer_early(link, link.sha256, receive, send)
    elif link.part:
        await _upload_part(link, found.multipart, scope, receive, send)
    else:
        await _upload_whole(found, scope, receive, send)


def _upload_of(link: UploadLink) -> Upload | None:
    """None where its content is there already. Runs in a thread, whose connection it gives back."""
    try:
        return services.upload_get(tenant_id=link.tenant_id, upload_id=link.upload_id)
    except NotFound:
        entry = services.content_find(tenant_id=link.tenant_id, sha256=link.sha256)
        if entry is None:
            raise
        return None
    finally:
        release()


async def _upload_whole(wanted: Upload, scope: Scope, receive: Receive, send: Send) -> None:
    _check_length(scope, wanted.size)
    writer = await on_disk(object_store().writer, wanted.tenant_id, sha256=wanted.sha256, size=wanted.size)
    await _receive_into(writer, receive)
    await asyncio.to_thread(_received, wanted)
    await answer(send, 200, headers=[_etag(wanted.sha256)])


def _received(wanted: Upload) -> None:
    """Runs in a thread, whose connection it gives back."""
    try:
        services.upload_received(actor=_ACTOR, upload=wanted)
    finally:
        release()


async def _upload_part(link: UploadLink, multipart: Multipart, scope: Scope, receive: Receive, send: Send) -> None:
    _check_length(scope, multipart.length(link.part))
    store = object_store()
    try:
        writer = await _turn(store, multipart, link.part)
    except NotFound:
        # Somebody else who sends the same may have ended the transfer since we looked.
        if await on_disk(store.size, link.tenant_id, link.sha256) != link.size:
            raise
        await _answer_early(link, link.sha256, receive, send)
        return
    if isinstance(writer, Part):
        await _answer_early(link, writer.etag, receive, send)
        return
    etag = await _receive_into(writer, receive)
    await answer(send, 200, headers=[_etag(etag)])


async def _turn(store: ObjectStore, multipart: Multipart, number: int) -> Writer | Part:
    """A writer of the part, or the part where it is there. Waits for whoever is sending it now."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        there = next((part for part in await on_disk(store.parts, multipart) if part.number == number), None)
        if there is not None:
            return there
        try:
            return await on_disk(store.part_writer, multipart, number=number)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(_POLL_SECONDS)


async def _answer_early(link: UploadLink, etag: str, receive: Receive, send: Send) -> None:
    """Closing may cost the client the answer (RFC 9112, 9.6: the reset overtakes it). So when the same comes again
    right away, it is read to its end."""
    key, now = (link.upload_id, link.part), time.monotonic()
    if now - _answered_early.pop(key, -_AGAIN_SECONDS) < _AGAIN_SECONDS:
        async for _ in incoming(receive):
            pass
        await answer(send, 200, headers=[_etag(etag)])
        return
    while len(_answered_early) >= _REMEMBERED:
        del _answered_early[next(iter(_answered_early))]
    _answered_early[key] = now
    await answer(send, 200, headers=[_etag(etag), (b"connection", b"close")])


async def _receive_into(writer: Writer, receive: Receive) -> str:
    """Writes the body and commits it; returns its etag. A thread writes one buffer while the other fills."""
    filling, idle = memoryview(mmap(-1, _BUFFER)), memoryview(mmap(-1, _BUFFER))  # at a page: see LocalPartWriter
    filled = 0
    writing: asyncio.Task[None] | None = None
    try:
        async for piece in incoming(receive):
            rest = memoryview(piece)
            while rest:
                count = min(len(rest), _BUFFER - filled)
                filling[filled : filled + count] = rest[:count]
                filled, rest = filled + count, rest[count:]
                if filled == _BUFFER:
                    if writing is not None:
                        await asyncio.shield(writing)
                    writing = asyncio.create_task(on_disk(writer.write, filling))
                    filling, idle, filled = idle, filling, 0
        if writing is not None:
            await asyncio.shield(writing)
        await on_disk(writer.write, filling[:filled])
        return await on_disk(writer.commit)
    finally:
        if writing is not None:  # the file must not be closed under a thread that writes
            await asyncio.wait([writing])
        await asyncio.shield(on_disk(writer.abort))


async def complete(scope: Scope, receive: Receive, send: Send) -> None:
    """POST of the parts' names: puts them together. Who asks again meanwhile waits for the same."""
    link = upload_verify(path=scope["path"])
    if link.part:
        raise InvalidInput("This link is for one part: PUT it.")
    parts = _parts(await _document(receive), link)
    if await asyncio.to_thread(_upload_of, link) is not None:
        task = _completing.get(link.upload_id)
        if task is None:
            task = asyncio.create_task(_complete(link, parts))
            _completing[link.upload_id] = task
            task.add_done_callback(lambda done: _completed(link.upload_id, done))
        await asyncio.shield(task)
    await answer(send, 200)


async def _complete(link: UploadLink, parts: list[Part]) -> None:
    async with _turns:
        await asyncio.to_thread(_complete_in_thread, link, parts)


def _complete_in_thread(link: UploadLink, parts: list[Part]) -> None:
    try:
        services.upload_complete(actor=_ACTOR, tenant_id=link.tenant_id, upload_id=link.upload_id, parts=parts)
    finally:
        release()


def _completed(upload_id: uuid.UUID, task: asyncio.Task[None]) -> None:
    del _completing[upload_id]
    if not task.cancelled():
        task.exception()  # whoever waits has it; they may all have hung up


async def _document(receive: Receive) -> Any:
    body = bytearray()
    async for piece in incoming(receive):
        body += piece
        if len(body) > _NAMES_BYTES:
            raise InvalidInput("The list of parts is too long.")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput("The request's body is not JSON.") from None


def _parts(document: Any, link: UploadLink) -> list[Part]:
    """`{"oid": …, "parts": [{"partNumber": …, "etag": …}]}`, as huggingface_hub sends it."""
    if not isinstance(document, dict) or document.get("oid") != link.sha256:
        raise InvalidInput(f"This link is for the content {link.sha256}.", field="oid")
    named = document.get("parts")
    if not isinstance(named, list) or len(named) > MOST_PARTS:
        raise InvalidInput(f"parts must be a list of at most {MOST_PARTS}.", field="parts")
    parts = []
    for item in named:
        number, etag = (item.get("partNumber"), item.get("etag")) if isinstance(item, dict) else (None, None)
        if type(number) is not int or not isinstance(etag, str):
            raise InvalidInput("Each part needs a partNumber and an etag.", field="parts")
        parts.append(Part(number=number, size=0, etag=etag.strip('"')))
    return sorted(parts, key=lambda part: part.number)


def _check_length(scope: Scope, size: int) -> None:
    length = header(scope, b"content-length")
    if not length.isdigit() or int(length) != size:
        raise InvalidInput(
            f"Content-Length must be {size}, which is what this link is for. Did the file change meanwhile? Upload it "
            "again."
        )


def _etag(etag: str) -> tuple[bytes, bytes]:
    return b"etag", f'"{etag}"'.encode()
