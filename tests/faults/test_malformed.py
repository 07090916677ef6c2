"""Request smuggling and malformed HTTP: refused and closed, or read as RFC 9112 says; never anything in between.

Each piece of the corpus arrives in one write, in parts and byte by byte; in soak also cut in two anywhere. A connection
that may stay open is proven to be in step by one more request, whose answer must be the last.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
from typing import TYPE_CHECKING

import pytest

from tests.faults.malformed import CORPUS, HIDDEN, Case

if TYPE_CHECKING:
    from tests.fakes.engine import Engine
    from tests.faults.cell import Cell

_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_LAST = b"GET /the/last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
_LAST_STATUS = 404
_PATIENCE = 3.0  # longer than an answer lingers until the connection is closed
_BYTE_BY_BYTE = 4_000  # longer pieces arrive in larger parts


@pytest.mark.parametrize("manner", ["at once", "in parts", "byte by byte"])
async def test_every_piece_is_answered_once_or_refused_and_nothing_smuggled_reaches_an_engine(
    cell: Cell, engine: Engine, manner: str
) -> None:
    wrong = "\n".join(filter(None, [await _problem(cell, engine, case, _parts(case, manner)) for case in CORPUS]))
    assert not wrong, wrong
    served = await (await cell.ask()).end()
    assert served.done
    assert {charge.outcome for charge in (await cell.ledger()).values()} <= {"ok", "client_closed"}


@pytest.mark.soak
@pytest.mark.timeout(1_500)
async def test_every_piece_cut_anywhere_comes_to_the_same(cell: Cell, engine: Engine) -> None:
    chance = random.Random(9112)
    wrong = []
    for case in CORPUS:
        data = _data(case)
        places = range(1, len(data)) if len(data) < 600 else chance.sample(range(1, len(data)), 50)
        wrong += [await _problem(cell, engine, case, [data[:place], data[place:]]) for place in places]
    assert not any(wrong), "\n".join(filter(None, wrong))


async def _problem(cell: Cell, engine: Engine, case: Case, parts: list[bytes]) -> str:
    """What is wrong with how the gateway takes a case; empty where nothing is."""
    engine.received.clear()
    answer, closed = await _exchange(cell, parts)
    statuses = tuple(int(status) for status in _ANSWER.findall(answer) if status != b"100")
    reached = [request for request in engine.received if request.path.startswith("/v1/")]
    right = (case.statuses, *case.either)
    if not case.closed and statuses[-1:] == (_LAST_STATUS,):
        statuses = statuses[:-1]
    elif not case.closed and statuses not in case.either:
        return f"{case}: out of step: {statuses}"
    if any(HIDDEN in str(request) for request in reached):
        return f"{case}: a smuggled request reached the engine"
    if statuses not in right:
        return f"{case}: answered {statuses}, not {right}"
    if len(reached) > case.reached:
        return f"{case}: {len(reached)} requests reached the engine, of {case.reached} sent"
    if not closed:
        return f"{case}: the connection stayed open"
    return ""


def _data(case: Case) -> bytes:
    return case.data if case.closed else case.data + _LAST


def _parts(case: Case, manner: str) -> list[bytes]:
    data = _data(case)
    size = len(data) if manner == "at once" else max(7, len(data) // 50)
    if manner == "byte by byte" and len(data) <= _BYTE_BY_BYTE:
        size = 1
    return [data[place : place + size] for place in range(0, len(data), size)]


async def _exchange(cell: Cell, parts: list[bytes]) -> tuple[bytes, bool]:
    """Sends the parts, each on its way before the next; returns what came, and whether the gateway closed. By the
    socket itself: it still gives out what came before a reset."""
    loop = asyncio.get_running_loop()
    answer = bytearray()
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        await loop.sock_connect(client, ("127.0.0.1", cell.gateway.port))
        try:
            async with asyncio.timeout(_PATIENCE):
                with contextlib.suppress(ConnectionError):
                    for part in parts:
                        await loop.sock_sendall(client, part)
                        await asyncio.sleep(0)
                with contextlib.suppress(ConnectionError):
                    while data := await loop.sock_recv(client, 65_536):
                        answer += data
        except TimeoutError:
            return bytes(answer), False
    return bytes(answer), True
