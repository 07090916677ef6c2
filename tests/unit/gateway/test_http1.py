"""A client that does not read, and HEAD, at a connection without a socket."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from freehold.gateway.errors import ApiError, Shape
from freehold.gateway.http1 import HELD, Connection
from freehold.gateway.settings import Settings

if TYPE_CHECKING:
    from freehold.gateway.exchange import Request

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
ROOM = 10_000


class Refusing:
    """Answers everything at once with an error."""

    def __init__(self) -> None:
        self.handled = 0

    def screen(self, request: Request) -> tuple[ApiError, Shape] | None:
        """Lets everything come."""

    def handle(self, connection: Connection, request: Request) -> None:
        """401."""
        self.handled += 1
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


@pytest.fixture
async def service() -> Refusing:
    return Refusing()


@pytest.fixture
async def wire(service: Refusing) -> Wire:
    settings = Settings(redis_url="", state=Path("/nowhere"), gateway_id="gw")
    connection = Connection(service, settings, set())
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
