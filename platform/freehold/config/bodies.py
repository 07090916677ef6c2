"""How much of a request's body reaches Django, which writes it to disk before it looks at anybody's permission. Used by
asgi.py.

Everybody may send 4 MB. More is for hub commits alone (they carry small files inline), once the API key that comes with
the request has proved that it may write, and for a few at once.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from django.db import Error
from psycopg_pool import PoolTimeout

from freehold.common.errors import FreeholdError
from freehold.db.connections import release
from freehold.tenancy.permissions import Operation, allows
from freehold.tenancy.selectors import api_key_authenticate

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LARGEST_BODY = 4 * 1024 * 1024
LARGEST_COMMIT = 512 * 1024 * 1024
LARGE_AT_ONCE = 4
LARGE_AT_ONCE_OF_A_TENANT = 2  # one tenant's slow uploads leave room for the others
IDLE_SECONDS = 60.0

_large: Counter[uuid.UUID] = Counter()  # large bodies in flight, by tenant; only touched on the event loop

_TOO_LARGE = (413, "The body is too large.\n")
_BUSY = (503, "Too many large commits are being received right now. Commit again in a moment.\n")
_IDLE = (408, "Nothing has come for a while. Send the request again.\n")


class Body:
    """A request's body, received within its limits.

    Beyond them Django is told that the client hung up: it lets go of what it has kept and answers nothing. `finish`
    then answers in its place; it must be called once Django is done.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope, self._receive = scope, receive
        self._received, self._limit, self._whole = 0, LARGEST_BODY, False
        self._tenant: uuid.UUID | None = None
        self._refusal: tuple[int, str] | None = None

    async def receive(self) -> Message:
        """The next message. Waits without limit once the body is whole: then it is the client's hanging up."""
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                message = await self._receive()
        except TimeoutError:
            return self._refuse(_IDLE)
        self._whole = not message.get("more_body", False)
        self._received += len(message.get("body", b""))
        if self._received > self._limit:
            refusal = await self._grow() if self._limit == LARGEST_BODY else _TOO_LARGE
            if refusal is not None:
                return self._refuse(refusal)
        return message

    async def finish(self, send: Send) -> None:
        """Makes room for the next large body, and answers where this one was refused."""
        if self._tenant is not None:
            _large[self._tenant] -= 1
            self._tenant = None
        if self._refusal is None:
            return
        status, words = self._refusal
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        if status == _BUSY[0]:
            headers.append((b"retry-after", b"10"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": words.encode()})

    def _refuse(self, refusal: tuple[int, str]) -> Message:
        self._refusal = refusal
        return {"type": "http.disconnect"}

    async def _grow(self) -> tuple[int, str] | None:
        """Raises the limit for whoever may commit; else why not."""
        secret = _bearer(self._scope)
        tenant = await asyncio.to_thread(committer, secret) if secret and _is_commit(self._scope) else None
        if tenant is None or self._received > LARGEST_COMMIT:
            return _TOO_LARGE
        if _large.total() >= LARGE_AT_ONCE or _large[tenant] >= LARGE_AT_ONCE_OF_A_TENANT:
            return _BUSY
        _large[tenant] += 1
        self._tenant, self._limit = tenant, LARGEST_COMMIT
        return None


def committer(secret: str) -> uuid.UUID | None:
    """The tenant in which an API key may write models, or None. Runs in a thread, whose connection it gives back."""
    try:
        actor, tenant = api_key_authenticate(secret=secret)
    except (FreeholdError, Error, PoolTimeout):
        return None  # without a proof there is no room; the view says what is wrong with a smaller body
    finally:
        release()
    return tenant.pk if allows(actor, Operation.MODEL_WRITE, tenant_id=tenant.pk) else None


def _is_commit(scope: Scope) -> bool:
    path = str(scope["path"])
    return scope["method"] == "POST" and path.startswith("/api/models/") and "/commit/" in path


def _bearer(scope: Scope) -> str:
    header = next((value for name, value in scope["headers"] if name.lower() == b"authorization"), b"")
    scheme, _, secret = header.decode("latin-1").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""
