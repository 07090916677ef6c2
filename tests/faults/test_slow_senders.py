"""Slowloris: thousands of sockets that send a byte now and then hold up nobody, cost little, and are cut off."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest

from tests.faults.amounts import amount
from tests.faults.cell import percentile, resident, until
from tests.faults.recorder import CHAT, SECRET, question

if TYPE_CHECKING:
    from tests.faults.cell import Cell
    from tests.faults.conftest import Figure

SOCKETS = 2_000
LIMIT = 2.0  # what the gateway is told to give them
CUT_SECONDS = LIMIT + 4.0
MEMORY_A_SOCKET = 24 * 1024
SERVED_SECONDS = 1.0

_HEAD = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {SECRET}\r\n".encode()
# What each kind says at once, and what it goes on with, a byte at a time and for ever.
KINDS = {
    "silent": (b"", b""),
    "head": (b"POST ", b"/"),
    "header": (_HEAD + b"x-a: ", b"b"),
    "headers": (_HEAD, b"x-a: b\r\n"),
    "body": (_HEAD + b"content-length: 60000\r\n\r\n", b" "),
    "chunks": (_HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "chunk sizes": (_HEAD + b"transfer-encoding: chunked\r\n\r\n", b"0"),
    "after an answer": (b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", b""),
}


@pytest.fixture
def settings() -> dict[str, str]:
    return dict.fromkeys(("GATEWAY_HEAD_SECONDS", "GATEWAY_BODY_SECONDS", "GATEWAY_IDLE_SECONDS"), str(LIMIT))


@dataclass
class SlowSender(asyncio.Protocol):
    """One socket."""

    kind: str
    answer: bytes = b""
    sent: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(KINDS[self.kind][0])

    def data_received(self, data: bytes) -> None:
        self.answer += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    def trickle(self) -> None:
        """One more byte."""
        more = KINDS[self.kind][1]
        if more and not self.closed.is_set():
            self._transport.write(more[self.sent % len(more)].to_bytes())
            self.sent += 1


@amount("times", 3, 10)
async def test_two_thousand_slow_sockets_are_cut_off_and_others_are_served_meanwhile(
    cell: Cell, times: int, figure: Figure
) -> None:
    await (await cell.ask()).end()
    before = resident(cell.gateway.pid)
    for _ in range(times):
        senders = await _connect(cell)
        started, took = time.monotonic(), []
        while not all(sender.closed.is_set() for sender in senders):
            assert time.monotonic() - started < CUT_SECONDS, "a slow socket is still there"
            for sender in senders[:: len(KINDS) - 1]:
                sender.trickle()
            asked = time.monotonic()
            served = await (await cell.ask()).end()
            assert served.done
            took.append(time.monotonic() - asked)
            await asyncio.sleep(0.05)
        assert percentile(took, 0.99) < SERVED_SECONDS
        figure("served beside 2,000 slow sockets, p99, ms", percentile(took, 0.99) * 1000)
        figure("memory of a slow socket, KiB", (resident(cell.gateway.pid) - before) / SOCKETS / 1024)
        assert resident(cell.gateway.pid) - before < SOCKETS * MEMORY_A_SOCKET
        for sender in senders:
            assert sender.answer.count(b"HTTP/1.1 ") == (0 if sender.kind == "silent" else 1), sender
        assert {sender.answer[9:12] for sender in senders if sender.kind in ("body", "chunks")} == {b"408"}

    async def forgotten() -> bool:
        return await cell.gateway.gauge("connections") == 0

    await until(forgotten, "no connection left")
    assert len(await cell.reconcile()) == len(cell.recordings)


async def _connect(cell: Cell) -> list[SlowSender]:
    kinds = list(KINDS)
    senders = [SlowSender(kinds[number % len(kinds)]) for number in range(SOCKETS)]

    async def connect(sender: SlowSender) -> None:
        await asyncio.get_running_loop().create_connection(lambda: sender, "127.0.0.1", cell.gateway.port)

    for start in range(0, SOCKETS, 200):
        await asyncio.gather(*map(connect, senders[start : start + 200]))
    return senders


async def test_a_body_that_trickles_in_is_cut_off_by_its_whole_time_not_by_its_pauses(cell: Cell) -> None:
    reader, writer = await cell.gateway.connect()
    request = question()
    writer.write(request[:-20])
    started = time.monotonic()
    for byte in request[-20:]:
        await asyncio.sleep(LIMIT / 10)
        if writer.is_closing() or reader.at_eof():
            break
        writer.write(bytes([byte]))
    assert (await asyncio.wait_for(reader.read(), CUT_SECONDS)).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started < CUT_SECONDS
    writer.close()
