"""What the ASGI applications beside Django say: their types, short answers, bodies as they come. Used by blobs.py and
its two halves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

IDLE_SECONDS: Final = 60.0  # a body that stands still for longer is taken for dead

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Of their own, so that moving bytes and asking the database do not wait for each other.
_disk = ThreadPoolExecutor(16, thread_name_prefix="blobs")


class Gone(Exception):
    """The client hung up; there is nobody left to answer."""


async def on_disk(call: Callable[_P, _R], *arguments: _P.args, **options: _P.kwargs) -> _R:
    """Runs what blocks on the object store in one of its threads."""
    return await asyncio.get_running_loop().run_in_executor(_disk, partial(call, *arguments, **options))


async def incoming(receive: Receive) -> AsyncIterator[bytes]:
    """A request's body in pieces. Raises Gone, and TimeoutError once nothing has come for IDLE_SECONDS."""
    more = True
    while more:
        async with asyncio.timeout(IDLE_SECONDS):
            message = await receive()
        if message["type"] != "http.request":
            raise Gone
        more = message.get("more_body", False)
        if body := message.get("body", b""):
            yield body


async def start(send: Send, status: int, headers: Headers) -> None:
    """Begins an answer."""
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def answer(send: Send, status: int, message: str = "", *, headers: Headers | None = None) -> None:
    """A whole answer in the Hub's shape: `{"error": …}`, or `{}` where there is no message."""
    body = json.dumps({"error": message} if message else {}).encode()
    common = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    await start(send, status, [*common, *(headers or [])])
    await send({"type": "http.response.body", "body": body})


def header(scope: Scope, name: bytes) -> str:
    """A request's header by its lower-case name; empty where there is none."""
    return next((bytes(value).decode("latin-1") for key, value in scope["headers"] if bytes(key).lower() == name), "")
