"""The client's side of a connection: HTTP/1.1 parsed strictly (httptools), limits, order, back-pressure. Both
listeners of the gateway use it; what a request means is the Service's business.

Rules that keep strangers out (RFC 9112): a head over 64 KiB is 431, a body over 32 MiB is 413, Content-Length together
with Transfer-Encoding is 400 (request smuggling, section 6.3), a request without Host is 400, a slow head or body is
cut off. Pipelined requests are answered one after the other. Reading never stops while a request is being served, so
that a hang-up is seen at once; it stops only for a client that pipelines more than HELD bytes. Nothing is taken up
for a client that does not take its answers. Large bodies that are on their way share `max_bodies` bytes of memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, cast

import httptools

from freehold.common.logging import get_logger
from freehold.gateway import keepalive
from freehold.gateway.errors import ApiError, Shape
from freehold.gateway.exchange import Request
from freehold.gateway.mistakes import told

if TYPE_CHECKING:
    from freehold.gateway.auth import Caller
    from freehold.gateway.exchange import Job
    from freehold.gateway.settings import Settings

log = get_logger(__name__)

HELD: Final = 64 * 1024
_LARGE: Final = 64 * 1024  # a body above it is screened before it is taken, and counted while it comes
_LINGER_SECONDS: Final = 2.0
_WIRE_A_BYTE: Final = 16  # a byte a chunk, with its size and both line ends, takes 6
_NEVER: Final = float("inf")
_IDLE: Final = -1.0  # a deadline that is set by the next look at it
_LENGTH: Final = 1
_AUTHORIZATION: Final = 2
_HOST: Final = 3
_API_KEY: Final = 4
_CODING: Final = 5
_EXPECT: Final = 6
_ENCODING: Final = 7
# As they are written most often too: a look-up costs less than making them lower case.
_HEADERS: Final = {
    spelling: number
    for name, number in {
        b"Content-Length": _LENGTH,
        b"Authorization": _AUTHORIZATION,
        b"Host": _HOST,
        b"X-Api-Key": _API_KEY,
        b"Transfer-Encoding": _CODING,
        b"Expect": _EXPECT,
        b"Content-Encoding": _ENCODING,
        b"User-Agent": 0,
        b"Accept": 0,
        b"Accept-Encoding": 0,
        b"Content-Type": 0,
        b"Connection": 0,
    }.items()
    for spelling in (name, name.lower())
}
_SIZES: Final = [b"%x\r\n" % size for size in range(1024)]  # lines that begin a chunk
_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


def _crowded() -> ApiError:
    return ApiError(503, "Too many large bodies are on their way. Try again.", code="busy", retry_after=1)


def _printable(path: bytes) -> str:
    return path.partition(b"?")[0][:200].decode("latin-1")


class Service(Protocol):
    """Answers requests."""

    def screen(self, request: Request) -> tuple[ApiError, Shape] | None:
        """Refuses a request by its head alone, before a large body is taken; None lets it come."""

    def handle(self, connection: Connection, request: Request) -> None:
        """Answers now (`connection.respond`) or later, having set `connection.job`."""


_SPENT: Final = httptools.HttpRequestParser(object())  # of connections that are gone


class Connection:
    """One client connection; an asyncio.Protocol by its methods (by inheritance it could not be compiled, native.py).

    Attributes:
        job: who answers the current request, None between requests.
        draining: answer what is there, then close.
        known: the service's own: who called last, for as long as that holds.
    """

    _arriving: ClassVar[int] = 0  # bytes of large bodies that are not complete yet, of all connections

    def __init__(self, service: Service, settings: Settings, registry: set[Connection]) -> None:
        self._service = service
        self._settings = settings
        self._registry = registry
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request] = deque()
        self._held = bytearray()
        self._parsing: Request | None = None  # the request being parsed
        self._current: Request | None = None  # the request being answered
        self._head_bytes = 0
        self._in_head = False
        self._body: bytes | bytearray = b""  # the first piece as it came, or all of them
        self._body_bytes = 0
        self._counted = 0  # our part of _arriving
        self._wire = 0  # what was read of the request, with head and framing
        self._refusal: tuple[ApiError, Shape] | None = None
        self._continue_due = False
        self._reading = True
        self._pumping = False
        self._shut = False
        self._chunked = False  # the stream's parts are chunks
        self._start: bytes | None = None  # head of the stream, until its first bytes; empty after them
        self._deadline = _NEVER
        self._blocked_since = _NEVER
        self._closing_since = _NEVER
        self.job: Job | None = None
        self.draining = False
        self.known: tuple[bytes, int, Caller] | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._settings.write_buffer)
        keepalive.watch(self._transport, self._settings.blocked_seconds)
        self._registry.add(self)
        self._deadline = self._loop.time() + self._settings.head_seconds

    def data_received(self, data: bytes) -> None:
        if self._shut:
            return
        if self._current is None and self._blocked_since == _NEVER and not self._held:  # held bytes come first
            self._feed(data)
            self._pump()
            return
        self._held += data
        if self._reading and len(self._held) > HELD:
            self._transport.pause_reading()
            self._reading = False

    def eof_received(self) -> None:
        # A client that sends no more does not read on either: every HTTP library closes both ways at once.
        if not self._shut:  # else it may still read its answer
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        self._shut = True
        self._parser = _SPENT  # it and this hold each other
        self._registry.discard(self)
        self._queue.clear()
        self._held.clear()
        self._drop_body()
        job, self.job = self.job, None
        if job is not None:
            job.client_lost()

    def pause_writing(self) -> None:
        self._blocked_since = self._loop.time()
        if self.job is not None:
            self.job.client_blocked()

    def resume_writing(self) -> None:
        self._blocked_since = _NEVER
        if self.job is not None:
            self.job.client_flowing()
        elif self._waiting:
            self._loop.call_soon(self._pump)

    # httptools

    def on_message_begin(self) -> None:
        if self._refusal is None:
            self._parsing = Request()
            self._in_head = True
            self._head_bytes = 0
            self._body = b""
            self._body_bytes = 0
            self._wire = 0

    def on_url(self, url: bytes) -> None:
        self._head_bytes += len(url)
        if self._parsing is not None and len(self._parsing.path) + len(url) <= self._settings.max_head:
            self._parsing.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        known = _HEADERS.get(name)
        if known is None:
            known = _HEADERS.get(name.lower(), 0)
        if not known or not self._in_head:
            return  # of no interest, or a trailer
        request = self._parsing
        if request is None:
            return
        value = value.rstrip(b" \t")  # the parser takes away only what stands before (RFC 9110, section 5.5)
        if known == _LENGTH:
            request.content_length = int(value) if value.isdigit() else -1
        elif known == _AUTHORIZATION:
            request.authorization = value
        elif known == _HOST:
            if request.host:
                self._refuse(400, "The Host header stands twice.")
            request.host = True
        elif known == _API_KEY:
            request.api_key = value
        elif known == _CODING:
            if request.chunked or value.lower() != b"chunked":
                self._refuse(400, "Transfer-Encoding must be chunked and nothing else.")
            request.chunked = True
        elif known == _EXPECT:
            request.expect = value.lower() == b"100-continue"
        else:
            request.content_encoding = value

    def on_headers_complete(self) -> None:
        request = self._parsing
        self._in_head = False
        if request is None or self._refusal is not None:
            return
        request.method = self._parser.get_method()
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._refuse(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
            return
        if self._parser.should_upgrade():
            self._refuse(400, "Upgrades are not supported.")
            return
        request.modern = version == "1.1"
        request.keep_alive = self._parser.should_keep_alive()
        self._refusal = self._judge(request)
        if request.expect and self._refusal is None:
            if self._current is None and not self._queue:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            else:
                self._continue_due = True

    def on_body(self, body: bytes) -> None:
        size = self._body_bytes = self._body_bytes + len(body)
        if size > self._settings.max_body:
            self._refuse(413, f"The body is larger than {self._settings.max_body} bytes.", "body_too_large")
        if self._refusal is not None:
            return
        if not self._body:
            self._body = body
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        if size > _LARGE:
            self._count()

    def on_message_complete(self) -> None:
        request, self._parsing = self._parsing, None
        if request is None or self._refusal is not None:
            return
        body = self._body
        request.body = body if isinstance(body, bytes) else bytes(body)
        if self._counted:
            self._drop_body()
        else:
            self._body = b""
        self._deadline = _NEVER
        self._continue_due = False
        self._queue.append(request)

    # Parsing

    def _judge(self, request: Request) -> tuple[ApiError, Shape] | None:
        if self._head_bytes > self._settings.max_head:
            return ApiError(431, f"The head is larger than {self._settings.max_head} bytes."), Shape.OPENAI
        if request.chunked and request.content_length >= 0:
            return ApiError(400, "Content-Length and Transfer-Encoding must not stand together."), Shape.OPENAI
        if request.modern and not request.host:
            return ApiError(400, "The Host header is missing."), Shape.OPENAI
        if request.content_encoding not in (b"", b"identity"):
            return ApiError(415, "Compressed bodies are not taken. Send the JSON as it is."), Shape.OPENAI
        if request.content_length > self._settings.max_body:
            error = ApiError(413, f"The body is larger than {self._settings.max_body} bytes.", code="body_too_large")
            return error, Shape.OPENAI
        large = request.content_length > _LARGE
        refusal = self._service.screen(request) if large or request.chunked or request.expect else None
        if refusal is None and large and Connection._arriving + request.content_length > self._settings.max_bodies:
            refusal = _crowded(), Shape.OPENAI
        return refusal

    def _refuse(self, status: int, message: str, code: str | None = None) -> None:
        if self._refusal is None:
            self._refusal = ApiError(status, message, code=code), Shape.OPENAI
        self._drop_body()

    def _count(self) -> None:
        """Counts what has come of a large body, and refuses it where all of them together are too large."""
        Connection._arriving += self._body_bytes - self._counted
        self._counted = self._body_bytes
        if Connection._arriving > self._settings.max_bodies:
            self._refusal = _crowded(), Shape.OPENAI
            self._drop_body()

    def _drop_body(self) -> None:
        self._body = b""
        Connection._arriving -= self._counted
        self._counted = 0

    def _feed(self, data: bytes) -> None:
        before = (self._parsing is not None, self._in_head)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # refused by its head
        except httptools.HttpParserCallbackError:
            raise  # a mistake of ours: let it be seen
        except httptools.HttpParserError:
            self._refuse(400, "The request is not valid HTTP/1.1.")
        if self._parsing is not None and (before != (True, self._in_head) or self._deadline == _NEVER):
            seconds = self._settings.head_seconds if self._in_head else self._settings.body_seconds
            self._deadline = self._loop.time() + seconds
        if self._parsing is None or self._queue:
            return  # most of it may have been of the requests before
        self._wire += len(data)
        if self._in_head:
            # A header that never ends is not reported by the parser.
            if self._wire > self._settings.max_head:
                self._refuse(431, f"The head is larger than {self._settings.max_head} bytes.")
        # Sizes and extensions of chunks, and trailers, are not reported while they have no end (section 7.1.1).
        elif self._wire > 2 * self._settings.max_head + _WIRE_A_BYTE * self._body_bytes:
            self._refuse(400, "The chunks are mostly framing.")

    def _pump(self) -> None:
        """Takes up the next request, as long as they are answered at once and the client takes the answers."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._current is None and not self._shut and not self._blocked:
                if self._queue:
                    request = self._current = self._queue.popleft()
                    try:
                        self._service.handle(self, request)
                    except Exception as mistake:  # noqa: BLE001 - whatever it is, the client waits for an answer
                        self._fail(request, mistake)
                elif self._refusal is not None:
                    error, shape = self._refusal
                    method = self._parsing.method if self._parsing is not None else b""
                    self._current = Request(method, b"", keep_alive=False)
                    self.respond_error(error, shape)
                elif self._held:
                    held = bytes(self._held)
                    self._held.clear()
                    if not self._reading:
                        self._transport.resume_reading()
                        self._reading = True
                    self._feed(held)
                else:
                    return
        finally:
            self._pumping = False

    def _fail(self, request: Request, mistake: Exception) -> None:
        """Ends a request that a mistake of ours has stopped."""
        log.error("request_failed", path=_printable(request.path), **told(mistake))
        if self._current is not request or self._shut:
            return  # it was answered before
        if self._start == b"":
            self.cut()  # a part of its stream has gone out
            return
        self._start = None
        request.keep_alive = False
        job = self.job
        self.respond_error(ApiError(500, "The gateway failed at this request. Try again."), Shape.OPENAI)
        if job is not None:
            job.client_lost()

    # Answering

    @property
    def _blocked(self) -> bool:
        return self._blocked_since != _NEVER

    @property
    def _waiting(self) -> bool:
        return bool(self._queue or self._held) or self._refusal is not None

    @property
    def _keep(self) -> bool:
        return self._current is not None and self._current.keep_alive and not self.draining

    def respond(
        self, status: int, body: bytes, headers: bytes = b"", content_type: bytes = b"application/json"
    ) -> None:
        """Answers the current request in one piece; without the body where it is a HEAD (RFC 9110, section 9.3.2).
        `headers` are whole lines."""
        current = self._current
        keep = current is not None and current.keep_alive and not self.draining
        bodiless = current is not None and current.method == b"HEAD"
        self._transport.write(
            b"".join(
                (
                    _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status,
                    b"content-type: ",
                    content_type,
                    b"\r\ncontent-length: ",
                    str(len(body)).encode(),
                    b"\r\n",
                    headers,
                    b"\r\n" if keep else b"connection: close\r\n\r\n",
                    b"" if bodiless else body,
                )
            )
        )
        self._finished()

    def respond_error(self, error: ApiError, shape: Shape, headers: bytes = b"") -> None:
        """Answers the current request with an error."""
        self.respond(error.status, error.body(shape), error.headers() + headers)

    def begin(self, headers: bytes) -> None:
        """Begins a stream of events; its head goes out with the first bytes."""
        modern = self._chunked = self._current is not None and self._current.modern
        if self._current is not None and not modern:
            self._current.keep_alive = False
        self._start = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n%s%s%s\r\n" % (
            headers,
            b"transfer-encoding: chunked\r\n" if modern else b"",
            b"" if self._keep else b"connection: close\r\n",
        )

    def write(self, data: bytes) -> None:
        """Writes a part of the stream."""
        if self._chunked:
            size = len(data)
            data = b"".join((_SIZES[size] if size < len(_SIZES) else b"%x\r\n" % size, data, b"\r\n"))
        if self._start:
            data = self._start + data
            self._start = b""
        self._transport.write(data)

    def end(self) -> None:
        """Ends the stream."""
        tail = b"0\r\n\r\n" if self._chunked else b""
        if self._start:
            tail = self._start + tail
        self._start = None
        if tail:
            self._transport.write(tail)
        self._finished()

    def cut(self) -> None:
        """Drops the connection as it stands, and what waits for its client with it."""
        self._shut = True
        self._transport.abort()
        job, self.job = self.job, None
        if job is not None:
            job.client_lost()

    def _finished(self) -> None:
        current, self._current = self._current, None
        self.job = None
        if current is None or not current.keep_alive or self.draining:
            self._close()
            return
        self._deadline = _IDLE
        if self._continue_due:
            self._continue_due = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._queue or self._held or self._refusal is not None:
            # Not now: whoever has answered is still on the stack.
            self._loop.call_soon(self._pump)

    def _close(self) -> None:
        """Closes after what was written has gone out. What the client still sends is read and thrown away for a moment:
        closing on unread bytes would make the kernel reset the connection and lose the answer."""
        self._shut = True
        self._closing_since = self._loop.time()
        if not self._transport.is_closing():
            if not self._reading:
                self._transport.resume_reading()
            unread = self._parsing is not None or self._queue or self._held
            if unread and self._transport.can_write_eof():
                self._transport.write_eof()
                self._loop.call_later(_LINGER_SECONDS, self._transport.abort)
            else:
                self._transport.close()

    def drain(self, refusal: ApiError) -> None:
        """Closes now where nothing is being answered, else after the answer. A request that is still arriving is told
        `refusal` and not waited for."""
        self.draining = True
        if self._current is not None or self._shut:
            return
        if self._parsing is not None:
            self._refusal = self._refusal or (refusal, Shape.OPENAI)
            self._drop_body()
            self._pump()
        else:
            self._close()

    def check(self, now: float) -> None:
        """Called by the sweeper: deadlines of the client, then of the job."""
        # A connection that closes waits for its client too, however little is left to send.
        if now - min(self._blocked_since, self._closing_since) > self._settings.blocked_seconds:
            self.cut()
        elif self._shut:
            return
        elif self._deadline == _IDLE:
            self._deadline = now + self._settings.idle_seconds  # from the first look after the answer on
        elif self._current is None and now > self._deadline:
            if self._parsing is None:
                self._close()
            else:
                self._refuse(408, "The request took too long to arrive.")
                self._pump()
        elif self.job is not None:
            self.job.check(now)

    @property
    def peer(self) -> str:
        """The address of the client, without its port; empty where it is gone."""
        address = self._transport.get_extra_info("peername")
        return str(address[0]) if address else ""

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._current is not None
