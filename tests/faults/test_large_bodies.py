"""Bodies made to exhaust: 100 MB, 100,000 levels of nesting. Refused early and in bounded memory; others are served."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.faults.amounts import amount
from tests.faults.cell import resident
from tests.faults.recorder import CHAT, SECRET, post

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.engine import Engine
    from tests.faults.cell import Cell

MIB = 1024 * 1024
LARGE = 100 * MIB
LIMIT = 32 * MIB
ON_THE_WAY = 16 * MIB  # in the kernel's buffers, after the gateway has made up its mind
DEEP = 100_000
SECONDS = 5.0

_HEAD = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {SECRET}\r\n"
_PIECE = b'"' + b"a" * (64 * 1024 - 2) + b'"'


def _sized() -> Iterator[bytes]:
    yield f"{_HEAD}content-length: {LARGE}\r\n\r\n".encode()
    yield from [_PIECE] * (LARGE // len(_PIECE))


def _chunked() -> Iterator[bytes]:
    yield f"{_HEAD}transfer-encoding: chunked\r\n\r\n".encode()
    yield from [b"%x\r\n%s\r\n" % (len(_PIECE), _PIECE)] * (LARGE // len(_PIECE))


def _one_chunk() -> Iterator[bytes]:
    yield f"{_HEAD}transfer-encoding: chunked\r\n\r\n7fffffffffffffff\r\n".encode()
    yield from [_PIECE] * (LARGE // len(_PIECE))


def _anonymous() -> Iterator[bytes]:
    yield f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {LIMIT}\r\n\r\n".encode()
    yield from [_PIECE] * (LIMIT // len(_PIECE))


BODIES = {
    "with its length": (_sized, 413, 0),
    "in chunks": (_chunked, 413, LIMIT),
    "in one chunk": (_one_chunk, 413, LIMIT),
    "without a key": (_anonymous, 401, 0),
}


@pytest.mark.parametrize("kind", BODIES)
@amount("times", 3, 20)
async def test_100_mb_are_refused_before_they_are_read(cell: Cell, engine: Engine, kind: str, times: int) -> None:
    pieces, status, read = BODIES[kind]
    await (await cell.ask()).end()
    before = resident(cell.gateway.pid)
    for _ in range(times):
        taken, answer = await _send(cell, pieces())
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert taken < read + ON_THE_WAY
    assert resident(cell.gateway.pid) - before < 2 * LIMIT
    served = await (await cell.ask()).end(SECONDS)
    assert served.done
    assert len(engine.received) == 2


async def _send(cell: Cell, pieces: Iterator[bytes]) -> tuple[int, bytes]:
    """Sends until there is an answer; returns how many bytes were taken by then, and the answer's head."""
    reader, writer = await cell.gateway.connect()
    head = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
    taken = 0
    for piece in pieces:
        if head.done():
            break
        writer.write(piece)
        taken += len(piece)
        await writer.drain()
        await asyncio.sleep(0)
    answer = await asyncio.wait_for(head, SECONDS)
    writer.transport.abort()
    return taken, answer


_ASK = '{"model":"acme/chat","messages":[{"role":"user","content":"x"}],%s}'
_MESSAGES = '{"model":"acme/chat","messages":%s}'
_INPUT = '{"model":"acme/chat","input":%s}'
_PROMPT = '{"model":"acme/chat","prompt":%s}'
# Where a nest can stand: (path, body around it).
PLACES = {
    "everything": (CHAT, "%s"),
    "messages": (CHAT, _MESSAGES),
    "content": (CHAT, _MESSAGES % '[{"role":"user","content":%s}]'),
    "a content part": (CHAT, _MESSAGES % '[{"role":"user","content":[{"type":"text","text":%s}]}]'),
    "tools": (CHAT, _ASK % '"tools":[{"type":"function","function":{"name":"f","parameters":%s}}]'),
    "a schema": (CHAT, _ASK % '"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":%s}}'),
    "logit_bias": (CHAT, _ASK % '"logit_bias":%s'),
    "metadata": (CHAT, _ASK % '"metadata":%s'),
    "an unknown field": (CHAT, _ASK % '"surprise":%s'),
    "a prompt": ("/v1/completions", _PROMPT),
    "an input": ("/v1/embeddings", _INPUT),
    "items": ("/v1/responses", _INPUT),
    "a message": ("/v1/messages", '{"model":"acme/chat","max_tokens":4,"messages":%s}'),
    "tool input": ("/v1/messages", '{"model":"acme/chat","max_tokens":4,"messages":[{"role":"assistant","content":'
                   '[{"type":"tool_use","id":"a","name":"f","input":%s}]}]}'),
}  # fmt: skip
NESTS = {
    "lists": "[" * DEEP + "]" * DEEP,
    "objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "both": '[{"a":' * (DEEP // 2) + "1" + "}]" * (DEEP // 2),
    "lists without end": "[" * DEEP,
}


@amount("times", 3, 20)
async def test_100_000_levels_are_a_400_wherever_they_stand(cell: Cell, engine: Engine, times: int) -> None:
    for _ in range(times):
        for place, (path, around) in PLACES.items():
            for nest in NESTS.values():
                recording = await cell.send(post(path, (around % nest).encode()))
                assert recording.status == 400, (place, recording.body)
                error = json.loads(recording.body)["error"]
                assert error["message"]
                assert len(recording.body) < DEEP, "what was sent does not come back"
    served = await (await cell.ask()).end(SECONDS)
    assert served.done
    assert len(engine.received) == 1


@pytest.mark.parametrize("levels", [16, 100, 500, 2_000])
async def test_any_depth_is_served_or_refused_and_never_ends_the_gateway(
    cell: Cell, engine: Engine, levels: int
) -> None:
    """Also just where readers and writers of JSON give up."""
    for place, (path, around) in PLACES.items():
        for depth in range(levels - 3, levels + 3):
            nest = '{"a":' * depth + "1" + "}" * depth
            recording = await cell.send(post(path, (around % nest).encode()))
            assert recording.status in (200, 400, 404), (place, recording.body)
    assert (await (await cell.ask()).end(SECONDS)).done
