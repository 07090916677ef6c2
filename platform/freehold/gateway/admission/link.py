"""One connection to Redis for scripts: commands go out as they come, replies come back in that order, by callback.

A request waits for its reservation, so this is on the hot path: no coroutine and no task a command, one constant prefix
a script. redis.asyncio takes 100 µs for a command, this 3. A reply that is late ends the connection: whoever waits is
told at once, and the caller starts anew with absolute values (session.py), so that it does not matter what Redis did
with what was under way.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import hiredis
from redis.connection import SSLConnection, parse_url

from freehold.gateway.failures import LinkLost

if TYPE_CHECKING:
    from collections.abc import Callable

REPLY_SECONDS: Final = 0.25
CONNECT_SECONDS: Final = 2.0
_GRACE_SECONDS: Final = 0.005  # we may be late ourselves: the reply then lies in the socket already
_NOTHING: Final = object()


class Script:
    """A Lua script that takes and returns one msgpack blob.

    Attributes:
        source: what EVAL sends.
        head: everything of an EVALSHA before the blob's length.
    """

    __slots__ = ("full", "head", "source")

    def __init__(self, source: str) -> None:
        self.source = source.encode()
        sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()
        self.head = b"*4\r\n$7\r\nEVALSHA\r\n$40\r\n" + sha + b"\r\n$1\r\n0\r\n$"
        self.full = b"*4\r\n$4\r\nEVAL\r\n$%d\r\n" % len(self.source) + self.source + b"\r\n$1\r\n0\r\n$"


class _Call:
    """What was sent and is not answered yet. `done` gets the reply, or the exception that took its place."""

    __slots__ = ("blob", "done", "script", "sent")

    def __init__(self, sent: float, done: Callable[[Any], None], script: Script | None, blob: bytes) -> None:
        self.sent = sent
        self.done = done
        self.script = script
        self.blob = blob


class Link:
    """A connection that was opened by `connect`; an asyncio.Protocol by its methods, as http1.Connection.

    Args:
        lost: called once when it ends, after everything that was under way has been given LinkLost.

    Attributes:
        alive: whether commands can be sent.
    """

    def __init__(self, lost: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost = lost
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._calls: deque[_Call] = deque()
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None
        self._suspect: _Call | None = None
        self.alive = False

    # Sending

    def evaluate(self, script: Script, blob: bytes, done: Callable[[Any], None]) -> None:
        """Runs a script; `done` gets its reply, a hiredis.ReplyError, or LinkLost."""
        self._send((script.head, b"%d\r\n" % len(blob), blob, b"\r\n"), _Call(self._loop.time(), done, script, blob))

    async def command(self, *words: str) -> Any:
        """Runs one command. Raises hiredis.ReplyError, LinkLost."""
        future: asyncio.Future[Any] = self._loop.create_future()
        packed = hiredis.pack_command(words)  # type: ignore[arg-type] # its stub means words of any number
        self._send((packed,), _Call(self._loop.time(), _into(future), None, b""))
        return await future

    async def run(self, script: Script, blob: bytes) -> Any:
        """`evaluate` for those who can wait."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self.evaluate(script, blob, _into(future))
        return await future

    async def idle(self) -> None:
        """Returns once nothing is under way."""
        while self._calls:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)

    def _send(self, data: tuple[bytes, ...], call: _Call) -> None:
        if self._transport is None or not self.alive:
            call.done(LinkLost("There is no connection to Redis."))
            return
        self._calls.append(call)
        self._transport.write(b"".join(data))
        if self._watch is None:
            self._watch = self._loop.call_later(REPLY_SECONDS, self._check)

    def _send_whole(self, call: _Call) -> None:
        """Redis does not have the script (it was restarted): sends it."""
        if self._transport is None or call.script is None:
            return
        call.sent = self._loop.time()
        self._calls.append(call)
        self._transport.write(b"".join((call.script.full, b"%d\r\n" % len(call.blob), call.blob, b"\r\n")))

    def _check(self) -> None:
        """Is the oldest reply late?"""
        self._watch = None
        if not self._calls:
            return
        oldest = self._calls[0]
        left = oldest.sent + REPLY_SECONDS - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._check)
        elif self._suspect is not oldest:
            self._suspect = oldest
            self._watch = self._loop.call_later(_GRACE_SECONDS, self._check)
        else:
            self.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self.alive = True

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        reader, calls = self._reader, self._calls
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _NOTHING:
                if not calls:
                    return  # closed by what a reply has led to
                call = calls.popleft()
                if type(reply) is hiredis.ReplyError and str(reply).startswith("NOSCRIPT"):
                    self._send_whole(call)
                else:
                    call.done(reply)
        except hiredis.ProtocolError:
            self.close()
        if not calls and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self._end()

    def eof_received(self) -> None:
        """Part of asyncio.Protocol. The transport closes itself."""

    def pause_writing(self) -> None:
        """Part of asyncio.Protocol. Nothing is held back: whoever waits gives up by the clock."""

    def resume_writing(self) -> None:
        """Part of asyncio.Protocol."""

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.abort()
        self._end()

    def _end(self) -> None:
        if not self.alive:
            return
        self.alive = False
        if self._watch is not None:
            self._watch.cancel()
        calls, self._calls = self._calls, deque()
        for call in calls:
            call.done(LinkLost("The connection to Redis is lost."))
        if self._idle is not None:
            self._idle.set_result(None)
            self._idle = None
        self._lost()


def _into(future: asyncio.Future[Any]) -> Callable[[Any], None]:
    def done(reply: Any) -> None:
        if future.done():
            return
        if isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    return done


async def connect(url: str, lost: Callable[[], None]) -> Link:
    """A link that is authenticated and has its database selected.

    Args:
        url: redis://, rediss:// or unix://, with the options that redis-py knows.

    Raises OSError where there is nobody within CONNECT_SECONDS, hiredis.ReplyError where the password is wrong.
    """
    options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    loop = asyncio.get_running_loop()
    link = Link(lost)
    factory = cast("Callable[[], asyncio.Protocol]", lambda: link)
    async with asyncio.timeout(CONNECT_SECONDS):
        if path := options.get("path"):
            await loop.create_unix_connection(factory, path)
        else:
            host = options.get("host", "localhost")
            secure = options.get("connection_class") is SSLConnection
            await loop.create_connection(
                factory,
                host,
                options.get("port", 6379),
                ssl=_tls(options) if secure else None,
                server_hostname=host if secure else None,
            )
        try:
            if password := options.get("password"):
                name = options.get("username")
                await link.command("AUTH", *((name,) if name else ()), password)
            if database := options.get("db"):
                await link.command("SELECT", str(database))
        except BaseException:  # also a deadline: nobody else would close it
            link.close()
            raise
    return link


def _tls(options: dict[str, Any]) -> ssl.SSLContext:
    """Verifies the server as redis-py would by the same options."""
    context = ssl.create_default_context(
        cafile=options.get("ssl_ca_certs"), capath=options.get("ssl_ca_path"), cadata=options.get("ssl_ca_data")
    )
    required = options.get("ssl_cert_reqs", "required")
    if options.get("ssl_check_hostname") is False or required != "required":
        context.check_hostname = False
    if required in {"none", "optional"}:
        context.verify_mode = ssl.CERT_NONE if required == "none" else ssl.CERT_OPTIONAL
    if certificate := options.get("ssl_certfile"):
        context.load_cert_chain(certificate, options.get("ssl_keyfile"), options.get("ssl_password"))
    return context
