"""Clients that stop reading: bounded memory, the engine waits instead of filling buffers, and they are cut off."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

import pytest

from tests.fakes.engine import Engine, Received
from tests.faults.amounts import amount
from tests.faults.cell import resident, until
from tests.faults.recorder import question

if TYPE_CHECKING:
    from tests.faults.cell import Cell
    from tests.faults.conftest import Figure

CLIENTS = 100
TEXT = "x" * 10_000
TOKENS = 20_000  # 200 MB a client, if anybody would take them
RECEIVE_BUFFER = 16 * 1024
MEMORY_A_CLIENT = 512 * 1024  # the write buffer, one read of the engine's socket, and what holds them
# On the way to one client: the kernel's buffers of two connections, which nobody here can bound (tcp_wmem, tcp_rmem).
SENT_A_CLIENT = 16 * 1024 * 1024


class Flood(Engine):
    """An engine that makes up its frames as they are taken, so that what is not taken exists nowhere."""

    def _frames(self, request: Received) -> Iterable[tuple[bool, bytes]]:
        if not request.body["messages"][0]["content"].startswith("flood"):
            yield from super()._frames(request)
            return
        choice = {"index": 0, "delta": {"content": TEXT}, "logprobs": None, "finish_reason": None}
        start = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": self.name, "choices": [choice]}
        head = b"data: " + json.dumps(start, separators=(",", ":")).encode()[:-1]
        for token in range(1, TOKENS + 1):
            usage = b',"usage":{"prompt_tokens":18,"total_tokens":%d,"completion_tokens":%d}}\n\n'
            yield True, head + usage % (18 + token, token)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = await Flood().start()
    yield engine
    await engine.stop()


@pytest.fixture
def settings() -> dict[str, str]:
    return {"GATEWAY_BLOCKED_SECONDS": "3"}


@amount("times", 3, 10)
async def test_clients_that_stop_reading_cost_bounded_memory_and_are_cut_off_while_others_are_served(
    cell: Cell, engine: Engine, times: int, figure: Figure
) -> None:
    await (await cell.ask()).end()
    before = resident(cell.gateway.pid)
    for turn in range(1, times + 1):
        stalled = [await _stall(cell) for _ in range(CLIENTS)]
        await until(lambda: len(engine.received) >= turn * CLIENTS, "all streams")  # noqa: B023 - used at once
        sent = await _standing_still(engine)
        assert sent > CLIENTS * turn, "streams were under way"
        assert sent * len(TEXT) < CLIENTS * turn * SENT_A_CLIENT, "the engine was read from for nobody"
        growth = resident(cell.gateway.pid) - before
        figure("memory of a client that does not read, KiB", growth / CLIENTS / 1024)
        assert growth < CLIENTS * MEMORY_A_CLIENT
        served = await (await cell.ask(n=2)).end(5)
        assert served.done

        async def all_cut_off() -> bool:
            return await cell.gateway.gauge("requests_in_flight") == 0

        await until(all_cut_off, "the end of clients that do not read")
        assert engine.sent_frames - sent < CLIENTS * 20, "what they were cut off from was not generated on"
        for client in stalled:
            client.close()
    ledger = await cell.ledger()
    flooded = [charge for charge in ledger.values() if charge.outcome == "client_closed"]
    assert len(flooded) == times * CLIENTS
    assert all(0 < charge.completion * len(TEXT) < SENT_A_CLIENT for charge in flooded)
    await _others_are_billed_exactly(cell, ledger.keys() - {charge.event for charge in flooded})


async def _stall(cell: Cell) -> socket.socket:
    """A client that sends its request and never reads."""
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", cell.gateway.port))
    await loop.sock_sendall(client, question(messages=[{"role": "user", "content": "flood"}], max_tokens=TOKENS))
    return client


async def _standing_still(engine: Engine) -> int:
    """Frames sent, once no more are."""
    last = -1

    def still() -> bool:
        nonlocal last
        known, last = last, engine.sent_frames
        return known == last

    await until(still, "the engine standing still")
    return engine.sent_frames


async def _others_are_billed_exactly(cell: Cell, events: set[str]) -> None:
    ledger = await cell.ledger()
    assert events == {recording.event for recording in cell.recordings}
    assert all(ledger[recording.event].completion == recording.tokens for recording in cell.recordings)
