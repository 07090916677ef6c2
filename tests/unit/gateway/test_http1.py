"""Clients that do not read, large bodies, mistakes of the service, and HEAD, at a connection without a socket."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from freehold.gateway.errors import ApiError, Shape
from freehold.gateway.http1 import HELD, Connection
from freehold.gateway.settings import Settings

if TYPE_CHECKING:
    from freehold.gateway.exchange import Request
    from freehold.gateway.http1 import Service

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
KIB = 1024
SETTINGS = Settings(redis_url="", state=Path("/nowhere"), gateway_id="gw", max_bodies=1024 * KIB)
ROOM = 10_000


class Refusing:
    """Answers everything at once with an error."""

    def __init__(self) -> None:
        self.handled = 0
        self.body = b""

    def screen(self, request: Request) -> tuple[ApiError, Shape] | None:
        """Lets everything come."""

    def handle(self, connection: Connection, request: Request) -> None:
        """401."""
        self.handled += 1
        self.body = request.body
        connection.respond_error(ApiError(401, "No."), Shape.OPENAI)


class Wire(asyncio.Transport):
    """Takes ROOM bytes, then asks its protocol to pause."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.protocol = protocol
        self._full = False
        self.written = bytearray()
        self.reading = True
        self.closed = False
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Has its own."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        if len(self.written) > ROOM and not self._full:
            self._full = True
            self.protocol.pause_writing()

    def flow(self) -> None:
        """The client has read everything."""
        self.written.clear()
        self._full = False
        self.protocol.resume_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return False

    def abort(self) -> None:
        self.closed = self.aborted = True


@pytest.fixture
async def service() -> Refusing:
    return Refusing()


@pytest.fixture
async def wire(service: Refusing) -> Wire:
    return connect(service)


def connect(service: Service) -> Wire:
    """A new client."""
    connection = Connection(service, SETTINGS, set())
    wire = Wire(connection)
    connection.connection_made(wire)
    return wire


def receive(wire: Wire, data: bytes) -> None:
    """Bytes from the client."""

    wire.protocol.data_received(data)


async def settle() -> None:
    """Lets callbacks run until there are no more."""
    for _ in range(200):
        await asyncio.sleep(0)


async def test_a_client_that_pipelines_and_never_reads_costs_bounded_memory(service: Refusing, wire: Wire) -> None:
    for _ in range(50):
        if wire.reading:
            receive(wire, GET * 1_000)
        await settle()
    assert len(wire.written) < 2 * ROOM
    assert not wire.reading
    assert service.handled < 100
    sent = 0
    while not wire.reading or wire.written:
        sent += wire.written.count(b"HTTP/1.1 401")
        wire.flow()
        await settle()
    assert sent == service.handled
    assert sent * len(GET) > HELD, "what was held is answered once the client reads"


async def test_an_error_to_head_has_the_length_and_no_body(wire: Wire) -> None:
    receive(wire, GET.replace(b"GET", b"HEAD") + GET)
    await settle()
    first, second = bytes(wire.written).split(b"HTTP/1.1 ")[1:]
    assert first.endswith(b"\r\n\r\n")
    head, _, body = second.partition(b"\r\n\r\n")
    assert first == head + b"\r\n\r\n"
    assert b"content-length: %d\r\n" % len(body) in first


async def test_the_beginning_of_a_request_may_come_with_the_end_of_much_else(service: Refusing) -> None:
    for beginning, rest in ((GET[:-2], GET[-2:]), (large(4, 2), b"xx")):
        wire = connect(service)
        receive(wire, large(200 * KIB, 0))
        receive(wire, b"x" * 200 * KIB + beginning)
        receive(wire, rest)
        await settle()
        assert [part[:3] for part in wire.written.split(b"HTTP/1.1 ")[1:]] == [b"401", b"401"]


@pytest.mark.parametrize(("size", "status"), [(60 * KIB, b"401"), (68 * KIB, b"431")])
async def test_a_head_is_as_large_as_it_is_however_it_comes(wire: Wire, size: int, status: bytes) -> None:
    head = GET[:-2] + b"x-long: %s\r\n" % (b"a" * 1000) * (size // 1010) + b"\r\n"
    for start in range(0, len(head), 7 * KIB):
        receive(wire, head[start : start + 7 * KIB])
    assert wire.written[9:12] == status


# Closing


@pytest.mark.parametrize("data", [LAST, b"nonsense\r\n\r\n"])
async def test_a_connection_that_closes_is_cut_where_its_client_does_not_take_the_answer(
    wire: Wire, data: bytes
) -> None:
    began = asyncio.get_running_loop().time()
    receive(wire, data)
    assert wire.closed
    wire.protocol.check(began + SETTINGS.blocked_seconds - 1)
    assert not wire.aborted, "it has time to read"
    wire.protocol.check(began + SETTINGS.blocked_seconds + 1)
    assert wire.aborted


async def test_a_connection_that_closes_can_be_cut(wire: Wire) -> None:
    receive(wire, LAST)
    wire.protocol.cut()
    assert wire.aborted


async def test_a_client_that_sends_no_more_still_gets_the_last_answer(wire: Wire) -> None:
    receive(wire, LAST)
    wire.protocol.eof_received()
    assert wire.closed
    assert not wire.aborted


# Mistakes


class Mistaken(Refusing):
    """Does something, then raises."""

    def __init__(self, first: Callable[[Connection], None]) -> None:
        super().__init__()
        self._first = first

    def handle(self, connection: Connection, request: Request) -> None:
        """Raises what quotes the body."""
        self.handled += 1
        self._first(connection)
        raise ValueError(f"cannot read {request.body!r}")


class Task:
    """A Job that only notes its end."""

    lost = 0

    def client_lost(self) -> None:
        self.lost += 1

    def client_blocked(self) -> None: ...

    def client_flowing(self) -> None: ...

    def check(self, now: float) -> None: ...


async def test_a_mistake_in_a_request_is_logged_without_its_body_and_answered_500() -> None:
    service = Mistaken(lambda _: None)
    wire = connect(service)
    with capture_logs() as logs:
        receive(wire, b"POST /v1/x?q=secret HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nsecret" + GET)
        await settle()
    assert wire.written.startswith(b"HTTP/1.1 500 ")
    assert b"connection: close\r\n" in wire.written
    assert (wire.written.count(b"HTTP/1.1"), service.handled) == (1, 1)
    assert wire.closed
    assert not wire.protocol.busy
    (line,) = logs
    assert (line["event"], line["error"], line["path"]) == ("request_failed", "ValueError", "/v1/x")
    assert "in handle" in line["where"]
    assert b"secret" not in wire.written
    assert "secret" not in str(line)


async def test_a_mistake_in_a_pipelined_request_is_answered_after_those_before_it() -> None:
    good = iter([True, False])
    wire = connect(Mistaken(lambda connection: connection.respond(200, b"") if next(good) else None))
    receive(wire, GET + GET + GET)
    await settle()
    assert [part[:3] for part in wire.written.split(b"HTTP/1.1 ")[1:]] == [b"200", b"500"]
    assert wire.closed


async def test_a_mistake_ends_the_job_that_was_begun() -> None:
    task = Task()
    wire = connect(Mistaken(lambda connection: setattr(connection, "job", task)))
    receive(wire, GET)
    wire.protocol.connection_lost(None)
    assert wire.written.startswith(b"HTTP/1.1 500 ")
    assert task.lost == 1


async def test_a_mistake_before_the_first_bytes_of_a_stream_is_a_500_and_after_them_a_cut() -> None:
    wire = connect(Mistaken(lambda connection: connection.begin(b"")))
    receive(wire, GET)
    assert wire.written.startswith(b"HTTP/1.1 500 ")
    assert b"HTTP/1.1 200" not in wire.written

    def write(connection: Connection) -> None:
        connection.begin(b"")
        connection.write(b"data: 1\n\n")

    wire = connect(Mistaken(write))
    receive(wire, GET)
    assert wire.written.endswith(b"data: 1\n\n\r\n")
    assert wire.aborted


# Bodies


async def test_a_body_in_tiny_chunks_takes_the_memory_of_its_bytes(service: Refusing, wire: Wire) -> None:
    size = 512 * KIB
    receive(wire, CHUNKED)
    chunks = b"2\r\nab\r\n" * 512
    tracemalloc.start()
    try:
        for _ in range(size // 1024):
            receive(wire, chunks)
        receive(wire, b"0\r\n\r\n")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert service.body == b"ab" * (size // 2)
    assert peak < 3 * size


def large(size: int, sent: int) -> bytes:
    """A request with the first bytes of its body."""
    return b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size + b"x" * sent


def is_busy(wire: Wire) -> bool:
    """Whether the client was told to come again, and nothing else."""
    told = b"retry-after: 1\r\n" in wire.written and b"connection: close\r\n" in wire.written
    assert told is bool(wire.written.startswith(b"HTTP/1.1 503 ") and b'"busy"' in wire.written)
    return told


@pytest.fixture
async def crowd(service: Refusing) -> Wire:
    """A client whose body takes most of what all bodies may."""
    wire = connect(service)
    receive(wire, large(900 * KIB, 0))
    for _ in range(8):
        receive(wire, b"x" * 100 * KIB)
    return wire


async def test_a_large_body_is_refused_by_its_head_while_others_fill_the_memory(
    service: Refusing, crowd: Wire, wire: Wire
) -> None:
    receive(wire, large(300 * KIB, 0))
    assert is_busy(wire)
    assert not crowd.written, "who was there goes on"
    crowd.protocol.connection_lost(None)


async def test_a_body_of_unknown_length_is_refused_once_it_goes_beyond_the_memory(
    service: Refusing, crowd: Wire, wire: Wire
) -> None:
    receive(wire, CHUNKED)
    for _ in range(3):
        receive(wire, b"19000\r\n" + b"x" * 100 * KIB + b"\r\n")
    assert is_busy(wire)
    again = connect(service)
    receive(again, large(200 * KIB, 200 * KIB))
    assert again.written.startswith(b"HTTP/1.1 401"), "what was refused takes no memory"
    crowd.protocol.connection_lost(None)


async def test_small_bodies_are_taken_whatever_the_large_ones_take(service: Refusing, crowd: Wire, wire: Wire) -> None:
    receive(crowd, b"x" * 99 * KIB)
    others = [connect(service) for _ in range(10)]
    for other in others:
        receive(other, large(64 * KIB, 60 * KIB))
    for other in others:
        receive(other, b"x" * 4 * KIB)
        assert other.written.startswith(b"HTTP/1.1 401")
    crowd.protocol.connection_lost(None)


@pytest.mark.parametrize(
    "end",
    [
        lambda crowd: receive(crowd, b"x" * 100 * KIB),
        lambda crowd: crowd.protocol.connection_lost(None),
        lambda crowd: crowd.protocol.check(asyncio.get_running_loop().time() + SETTINGS.body_seconds + 1),
        lambda crowd: crowd.protocol.drain(ApiError(503, "Going.")),
    ],
    ids=["complete", "lost", "late", "drained"],
)
async def test_a_body_that_is_over_gives_its_memory_back(
    service: Refusing, crowd: Wire, wire: Wire, end: Callable[[Wire], None]
) -> None:
    end(crowd)
    receive(wire, large(1024 * KIB, 1000 * KIB))
    assert not wire.written
    receive(wire, b"x" * 24 * KIB)
    assert wire.written.startswith(b"HTTP/1.1 401")
    for client in (crowd, wire):
        client.protocol.connection_lost(None)
    again = connect(service)
    receive(again, large(1025 * KIB, 0))
    assert is_busy(again), "nothing is given back twice"


async def test_a_connection_that_is_gone_needs_no_garbage_collector() -> None:
    wire = connect(Refusing())
    receive(wire, GET)
    gone = weakref.ref(wire.protocol)
    wire.protocol.connection_lost(None)
    gc.disable()
    try:
        del wire.protocol
        assert gone() is None
    finally:
        gc.enable()
