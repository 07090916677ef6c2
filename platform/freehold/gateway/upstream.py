"""The engine's side: connections to replicas, kept open between requests. Which replica is routing's business.

Used by relay.py. A connection carries one request at a time; what arrives in one read is handed on in one piece.

Pods come and go, and their addresses are given out again: a route may lead to an address where somebody else listens by
now. So whoever answers at a new connection is asked which models it serves before it gets a prompt, unless that very
replica has completed an answer at this address within the last PROVEN_SECONDS (a fraction of what an engine needs to
start).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

import httptools

from freehold.gateway import introduction, keepalive
from freehold.gateway.failures import NotTheReplica
from freehold.gateway.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from freehold.gateway.exchange import Listener
    from freehold.wire.records import ReplicaRecord

IDLE_SECONDS: Final = 3.0  # vLLM's uvicorn closes idle connections after 5 s
PROVEN_SECONDS: Final = 2.0


_SPENT: Final = httptools.HttpResponseParser(object())  # of connections that are gone


class Upstream:
    """One connection to a replica; an asyncio.Protocol by its methods, as http1.Connection.

    Attributes:
        authority: value of the Host header.
        idle_since: the loop's time when its last answer was complete.
    """

    __slots__ = (
        "_aligned",
        "_body",
        "_chunk_over",
        "_complete",
        "_gone",
        "_head_due",
        "_keep",
        "_listener",
        "_more",
        "_ours",
        "_parser",
        "_paused",
        "_pool",
        "_status",
        "_transport",
        "authority",
        "idle_since",
        "replica",
    )

    def __init__(self, pool: Pool, replica: ReplicaRecord) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._more: list[bytes] | None = None  # further pieces of one read
        self._chunk_over = False  # the last the parser saw was the end of a chunk
        self._aligned = False  # a chunk begins with what is read next
        self._status = 0
        self._head_due = False
        self._complete = False
        self._keep = False
        self._listener: Listener | None = None
        self._gone = False
        self._ours = False
        self._paused = False
        self.replica = replica
        self.authority = authority(replica)
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        keepalive.watch(self._transport)

    def send(self, listener: Listener, data: bytes, *, ours: bool = False) -> None:
        """Sends a request. Once it is answered the connection goes to the pool, unless it stays `ours`."""
        self._listener = listener
        self._ours = ours
        self._complete = False
        self._transport.write(data)

    @property
    def usable(self) -> bool:
        """Whether a request can be sent."""
        return not self._gone and not self._transport.is_closing()

    def pause(self) -> None:
        """Reads no more: the replica's answer waits in the kernel."""
        if not self._paused and self.usable:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if self._paused and self.usable:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Drops the connection; the engine stops generating when it sees that."""
        self._listener = None
        self._gone = True
        self._transport.abort()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        listener = self._listener
        if listener is None:
            self.abort()  # an engine that speaks unasked
            return
        if self._aligned:
            part = _chunk(data)
            if part:  # which the parser need not know of
                listener.upstream_data(part)
                return
            self._aligned = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.abort()
            listener.upstream_lost(f"the engine's answer is not valid HTTP: {error}")
            return
        # A line of a chunk's size that is not complete does not end like this.
        self._aligned = self._chunk_over and not self._complete and data.endswith(b"\r\n")
        if self._head_due:
            self._head_due = False
            listener.upstream_head(self._status)
        body = self._body
        if body:
            self._body = b""
            if self._more is not None:
                body = b"".join((body, *self._more))
                self._more = None
            if self._listener is not None:
                listener.upstream_data(body)
        if self._complete and self._listener is not None:
            self._listener = None
            if not self._keep or not self.usable:
                self.abort()
            elif not self._ours:
                self._pool.give_back(self)
            listener.upstream_complete()

    def eof_received(self) -> None:
        """The transport closes itself."""

    def pause_writing(self) -> None:
        """A large body waits for the engine in the transport: it is in memory anyway."""

    def resume_writing(self) -> None:
        """It has gone out."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._parser = _SPENT  # it and this hold each other
        self._pool.forget(self)
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.upstream_lost(str(exc or "the engine closed the connection"))

    # httptools

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._head_due = self._status >= 200

    def on_body(self, body: bytes) -> None:
        if not self._body:
            self._body = body
        elif self._more is None:
            self._more = [body]
        else:
            self._more.append(body)

    def on_chunk_header(self) -> None:
        self._chunk_over = False

    def on_chunk_complete(self) -> None:
        self._chunk_over = True

    def on_message_complete(self) -> None:
        self._chunk_over = False
        if self._status >= 200:
            self._complete = True
            self._keep = self._parser.should_keep_alive()


def _chunk(data: bytes) -> bytes:
    """What is in a chunk (RFC 9112, section 7.1) where the data are exactly one, without extensions; else nothing. A
    frame of a stream mostly comes as one."""
    size = 0
    at = 0
    end = len(data)
    while at < 7 and at < end:
        digit = data[at]
        if 48 <= digit <= 57:
            size = size * 16 + digit - 48
        elif 97 <= digit <= 102:
            size = size * 16 + digit - 87
        elif 65 <= digit <= 70:
            size = size * 16 + digit - 55
        else:
            break
        at += 1
    start = at + 2
    if not at or not size or end != start + size + 2 or data[at:start] != b"\r\n" or not data.endswith(b"\r\n"):
        return b""
    return data[start : start + size]


class Pool:
    """All connections to all replicas.

    Args:
        connect_seconds: to reach a replica and to hear what it serves.
    """

    def __init__(self, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._idle: dict[str, list[Upstream]] = {}  # by replica
        self._proven: dict[str, float] = {}  # replica → when it was last known to be who it should be
        self._loop = asyncio.get_running_loop()

    def take(self, replica: ReplicaRecord) -> Upstream | None:
        """An open connection to this replica, None where there is none."""
        idle = self._idle.get(replica.id)
        while idle:
            upstream = idle.pop()
            if upstream.usable:
                if upstream.replica is replica or upstream.replica == replica:
                    return upstream
                upstream.abort()  # the replica has another address now
        return None

    async def connect(self, replica: ReplicaRecord, served_model_name: str) -> Upstream:
        """A new connection, to an engine that serves this model. Raises OSError or TimeoutError."""
        async with asyncio.timeout(self._connect_seconds):
            upstream = Upstream(self, replica)
            factory = cast("Callable[[], asyncio.Protocol]", lambda: upstream)
            await self._loop.create_connection(factory, replica.host, replica.port)
            if self._loop.time() - self._proven.get(replica.id, 0.0) > PROVEN_SECONDS:
                try:
                    await _introduce(upstream, served_model_name)
                except BaseException:  # also a deadline: nobody else would close it
                    upstream.abort()
                    raise
                self._proven[replica.id] = self._loop.time()
        return upstream

    def give_back(self, upstream: Upstream) -> None:
        """Keeps a connection, whose answer is complete, for the next request."""
        name = upstream.replica.id
        upstream.idle_since = self._proven[name] = self._loop.time()
        upstream.resume()
        idle = self._idle.get(name)
        if idle is None:
            self._idle[name] = [upstream]
        else:
            idle.append(upstream)

    def forget(self, upstream: Upstream) -> None:
        """A connection is gone."""
        idle = self._idle.get(upstream.replica.id)
        if idle is not None and upstream in idle:
            idle.remove(upstream)

    def sweep(self, now: float) -> None:
        """Closes what has been idle for so long that the engine is about to."""
        for replica, idle in list(self._idle.items()):
            for upstream in [entry for entry in idle if now - entry.idle_since > IDLE_SECONDS]:
                idle.remove(upstream)
                upstream.abort()
            if not idle:
                del self._idle[replica]
        for replica in [replica for replica, at in self._proven.items() if now - at > PROVEN_SECONDS]:
            del self._proven[replica]

    def close(self) -> None:
        """Drops the idle connections."""
        for idle in self._idle.values():
            for upstream in list(idle):
                upstream.abort()
        self._idle.clear()


async def _introduce(upstream: Upstream, served_model_name: str) -> None:
    """Raises NotTheReplica, or OSError where no answer comes. The connection carries the next request then."""
    reply = Reply(introduction.LARGEST)
    upstream.send(reply, b"GET /v1/models HTTP/1.1\r\nhost: %s\r\n\r\n" % upstream.authority, ours=True)
    await reply.come()
    if reply.status != 200 or served_model_name not in introduction.served(reply.body):
        raise NotTheReplica(f"{upstream.replica.host}:{upstream.replica.port} does not serve this model")
    if not upstream.usable:
        raise ConnectionResetError("the engine closed the connection after it had said what it serves")


def authority(replica: ReplicaRecord) -> bytes:
    """Value of a Host header (RFC 9112, section 3.2)."""
    host = f"[{replica.host}]" if ":" in replica.host else replica.host
    return f"{host}:{replica.port}".encode()
