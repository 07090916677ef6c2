"""The engine's side: connections to replicas, kept open between requests, and the choice of a replica.

Used by relay.py. A connection carries one request at a time; what arrives in one read is handed on in one piece.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from freehold.common.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from freehold.wire.records import ReplicaRecord

log = get_logger(__name__)

IDLE_SECONDS = 3.0  # vLLM's uvicorn closes idle connections after 5 s
AVOID_SECONDS = 5.0  # a replica that failed is the last choice for so long
Address = tuple[str, int]


class Listener(Protocol):
    """Who waits for the answer."""

    def upstream_head(self, status: int, event_stream: bool) -> None:
        """The head has arrived."""

    def upstream_data(self, data: bytes) -> None:
        """Bytes of the body."""

    def upstream_complete(self) -> None:
        """The answer is complete; the connection is no longer the listener's."""

    def upstream_lost(self, reason: str) -> None:
        """The connection ended before the answer did."""


class Upstream(asyncio.Protocol):
    """One connection to a replica."""

    def __init__(self, pool: Pool, address: Address) -> None:
        self._pool = pool
        self._address = address
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._head_due = False
        self._complete = False
        self._keep = False
        self._event_stream = False
        self._listener: Listener | None = None
        self._gone = False
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, listener: Listener, data: bytes) -> None:
        """Sends a request."""
        self._listener = listener
        self._complete = False
        self._event_stream = False
        self._transport.write(data)

    @property
    def usable(self) -> bool:
        """Whether a request can be sent."""
        return not self._gone and not self._transport.is_closing()

    def pause(self) -> None:
        """Reads no more: the replica's answer waits in the kernel."""
        if self.usable:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if self.usable:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Drops the connection; the engine stops generating when it sees that."""
        self._listener = None
        self._gone = True
        self._transport.abort()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self._listener is None:
            self.abort()  # an engine that speaks unasked
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"the engine's answer is not valid HTTP: {error}")
            return
        self._deliver()

    def eof_received(self) -> None:
        """The transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._pool.forget(self, self._address)
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.upstream_lost(str(exc or "the engine closed the connection"))

    def _fail(self, reason: str) -> None:
        listener = self._listener
        self.abort()
        if listener is not None:
            listener.upstream_lost(reason)

    def _deliver(self) -> None:
        listener = self._listener
        if self._head_due and listener is not None:
            self._head_due = False
            listener.upstream_head(self._parser.get_status_code(), self._event_stream)
        if self._pieces:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces = []
            if self._listener is not None:
                self._listener.upstream_data(data)
        if self._complete and self._listener is not None:
            listener, self._listener = self._listener, None
            if self._keep and self.usable:
                self._pool.give_back(self, self._address)
            else:
                self.abort()
            listener.upstream_complete()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type" and value.startswith(b"text/event-stream"):
            self._event_stream = True

    def on_headers_complete(self) -> None:
        self._head_due = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self._complete = True
            self._keep = self._parser.should_keep_alive()


class Pool:
    """All connections to all replicas, and how many requests each replica has."""

    def __init__(self, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._idle: dict[Address, list[Upstream]] = {}
        self._outstanding: dict[str, int] = {}
        self._avoid: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()

    def choose(self, replicas: Sequence[ReplicaRecord], tried: Collection[str]) -> ReplicaRecord:
        """The replica with the fewest requests in flight: one not tried yet before one that was, one that has failed a
        moment ago last."""
        now = self._loop.time()
        # Ties are broken at random; no secret hangs on it.
        start = random.randrange(len(replicas)) if len(replicas) > 1 else 0  # noqa: S311
        order = [*replicas[start:], *replicas[:start]]
        return min(
            order,
            key=lambda replica: (
                replica.id in tried,
                self._avoid.get(replica.id, 0.0) > now,
                self._outstanding.get(replica.id, 0),
            ),
        )

    def begin(self, replica: str) -> None:
        """A request goes to the replica."""
        self._outstanding[replica] = self._outstanding.get(replica, 0) + 1

    def finish(self, replica: str, *, failed: bool) -> None:
        """The request is over."""
        left = self._outstanding.get(replica, 1) - 1
        if left:
            self._outstanding[replica] = left
        else:
            self._outstanding.pop(replica, None)
        if failed:
            self._avoid[replica] = self._loop.time() + AVOID_SECONDS
        else:
            self._avoid.pop(replica, None)

    def take(self, address: Address) -> Upstream | None:
        """An open connection, None where there is none."""
        idle = self._idle.get(address)
        while idle:
            upstream = idle.pop()
            if upstream.usable:
                return upstream
        return None

    async def connect(self, address: Address) -> Upstream:
        """A new connection. Raises OSError or TimeoutError."""
        async with asyncio.timeout(self._connect_seconds):
            _, upstream = await self._loop.create_connection(lambda: Upstream(self, address), *address)
        return upstream

    def give_back(self, upstream: Upstream, address: Address) -> None:
        """Keeps a connection for the next request."""
        upstream.idle_since = self._loop.time()
        upstream.resume()
        self._idle.setdefault(address, []).append(upstream)

    def forget(self, upstream: Upstream, address: Address) -> None:
        """A connection is gone."""
        idle = self._idle.get(address)
        if idle is not None and upstream in idle:
            idle.remove(upstream)

    def sweep(self, now: float) -> None:
        """Closes what has been idle for so long that the engine is about to."""
        for address, idle in list(self._idle.items()):
            for upstream in [entry for entry in idle if now - entry.idle_since > IDLE_SECONDS]:
                idle.remove(upstream)
                upstream.abort()
            if not idle:
                del self._idle[address]
        for replica in [replica for replica, until in self._avoid.items() if until < now]:
            del self._avoid[replica]

    def close(self) -> None:
        """Drops the idle connections."""
        for idle in self._idle.values():
            for upstream in list(idle):
                upstream.abort()
        self._idle.clear()
