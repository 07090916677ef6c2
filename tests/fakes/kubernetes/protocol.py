"""HTTP/1.1 on an asyncio protocol: requests in, answers and watches out.

httptools parses; nothing of a framework stands between, because the emulator shares its cores with what it measures.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qsl, unquote

import httptools

from tests.fakes.kubernetes.faults import Faults
from tests.fakes.kubernetes.watch import Watch

_PHRASES = {each.value: each.phrase for each in HTTPStatus}


@dataclass(slots=True)
class Request:
    """A request, read to its end."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0  # seconds it is held back


@dataclass(slots=True)
class Stream:
    """A watch that was let in."""

    watch: Watch
    path: str
    first: list[bytes]
    seconds: float  # until the server ends it
    bookmark_seconds: float  # 0: none
    last: bool = False  # nothing comes after `first`
    delay: float = 0


class Application(Protocol):
    """What answers."""

    def answer(self, request: Request) -> Answer | Stream:
        """Never raises."""


class Connections:
    """All that are open, and the watches among them. Lives in the server's loop."""

    def __init__(self, application: Application, faults: Faults) -> None:
        self.application = application
        self.faults = faults
        self.open: set[Connection] = set()
        self._empty = asyncio.Event()

    def opened(self, connection: Connection) -> None:
        """One more."""
        self.open.add(connection)
        self._empty.clear()

    def lost(self, connection: Connection) -> None:
        """One less."""
        self.open.discard(connection)
        if not self.open:
            self._empty.set()

    async def closed(self) -> None:
        """Waits until none is left."""
        if self.open:
            await self._empty.wait()

    def tell_watches(self) -> None:
        """Something changed: every watch sends what it has not told yet."""
        for connection in list(self.open):
            connection.tell()

    def drop_all(self) -> None:
        """Cuts every connection, as a server that dies does."""
        for connection in list(self.open):
            connection.abort()


class Connection(asyncio.Protocol):
    """One connection. Requests are answered one after the other; a watch takes it until it ends."""

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._waiting: list[Request] = []
        self._busy = False
        self._stream: Stream | None = None
        self._timers: list[asyncio.TimerHandle] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._all.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        self._all.lost(self)
        self._stream = None
        self._transport = None
        for timer in self._timers:
            timer.cancel()

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def on_message_begin(self) -> None:
        """httptools'."""
        self._url, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        """httptools'."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools'."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """httptools'."""
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """httptools'."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """httptools'."""
        path, _, query = self._url.decode("latin-1").partition("?")
        method = self._parser.get_method().decode()
        pairs = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
        path = unquote(path) if "%" in path else path
        self._waiting.append(Request(method, path, pairs, self._headers, b"".join(self._body)))
        self._go_on()

    def _go_on(self) -> None:
        if self._busy or not self._waiting or self._transport is None:
            return
        answer = self._all.application.answer(self._waiting.pop(0))
        if answer.delay:
            self._busy = True
            self._later(answer.delay, self._send_late, answer)
        else:
            self._send(answer)

    def _later(self, seconds: float, call: object, *values: object) -> None:
        loop = asyncio.get_running_loop()
        self._timers = [timer for timer in self._timers if not timer.cancelled() and timer.when() > loop.time()]
        self._timers.append(loop.call_later(seconds, call, *values))  # type: ignore[arg-type]

    def _send_late(self, answer: Answer | Stream) -> None:
        self._busy = False
        self._send(answer)

    def _send(self, answer: Answer | Stream) -> None:
        if self._transport is None:
            return
        if isinstance(answer, Stream):
            self._begin(answer)
            return
        head = (
            f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, '')}\r\nContent-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\n"
        )
        extra = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        self._transport.write(f"{head}{extra}\r\n".encode("latin-1", "replace") + answer.body)
        self._go_on()

    def _begin(self, stream: Stream) -> None:
        assert self._transport is not None
        self._busy = True
        self._stream = stream
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        self._write(stream.first)
        if stream.last:
            self._end()
            return
        self._later(stream.seconds, self._end)
        if stream.bookmark_seconds:
            self._later(stream.bookmark_seconds, self._bookmark)
        self.tell()

    def tell(self) -> None:
        """Sends what the watch has not told yet, unless a fault holds its tongue."""
        stream = self._stream
        if stream is None or self._transport is None or self._all.faults.is_frozen(stream.path):
            return
        lines = stream.watch.next()
        if not lines:
            return
        if self._all.faults.cuts(stream.path):
            half = lines[0][: len(lines[0]) // 2]
            self._write([half])
            self._stream = None
            self._transport.close()
            return
        self._write(lines)
        if stream.watch.broken is not None:
            self._end()

    def _write(self, lines: list[bytes]) -> None:
        if lines and self._transport is not None:
            data = b"".join(lines)
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _bookmark(self) -> None:
        stream = self._stream
        if stream is None:
            return
        self.tell()
        if self._stream is not None and not self._all.faults.is_frozen(stream.path):
            self._write([stream.watch.bookmark()])
        self._later(stream.bookmark_seconds, self._bookmark)

    def _end(self) -> None:
        stream = self._stream
        if stream is None or self._transport is None or self._all.faults.is_frozen(stream.path):
            return
        self._stream = None
        self._transport.write(b"0\r\n\r\n")
        self._busy = False
        self._go_on()

    @property
    def watch(self) -> Watch | None:
        """The watch it serves."""
        return self._stream.watch if self._stream else None

    def abort(self) -> None:
        """Cuts it."""
        with contextlib.suppress(RuntimeError):
            if self._transport is not None:
                self._transport.abort()
