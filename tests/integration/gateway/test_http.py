"""Strict HTTP/1.1: limits, smuggling, order, slow clients."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.gateway.conftest import until
from tests.integration.gateway.test_relay import hang_up, request

if TYPE_CHECKING:
    from tests.fakes.engine import Engine
    from tests.integration.gateway.conftest import Process

CHAT: dict[str, Any] = {"model": "acme/chat", "messages": [{"role": "user", "content": "hi"}]}
HEAD = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer fh_acme\r\n"


async def exchange(gateway: Process, data: bytes) -> bytes:
    """Sends and reads until the gateway closes."""
    reader, writer = await gateway.connect()
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), 10)
    await hang_up(writer)
    return answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (HEAD + "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n", 400),
        (HEAD + "content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef", 400),
        (HEAD + "content-length: -1\r\n\r\n", 400),
        (HEAD + "transfer-encoding: gzip\r\n\r\n", 400),
        ("POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer fh_acme\r\ncontent-length: 2\r\n\r\n{}", 400),
        (HEAD + "bad header\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        (HEAD + "upgrade: websocket\r\nconnection: upgrade\r\n\r\n", 400),
        (HEAD + "x-long: " + "a" * 70_000 + "\r\n\r\n", 431),
        (HEAD + "x-long: " + "a" * 400_000, 431),
        (HEAD + "content-length: 33554433\r\n\r\n", 413),
        (HEAD + "content-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx", 415),
        (HEAD.replace("fh_acme", "fh_bad") + "content-length: 1000000\r\n\r\n", 401),
    ],
)
async def test_malformed_and_oversized_requests_are_refused_and_the_connection_closed(
    gateway: Process, engine: Engine, data: str, status: int
) -> None:
    answer = await exchange(gateway, data.encode())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b"connection: close" in answer
    assert engine.received == []


async def test_a_body_over_the_limit_in_chunks_is_refused(gateway: Process) -> None:
    reader, writer = await gateway.connect()
    writer.write((HEAD + "transfer-encoding: chunked\r\n\r\n").encode())
    piece = b"100000\r\n" + b"a" * 0x100000 + b"\r\n"

    async def send() -> None:
        try:
            for _ in range(40):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass

    sending = asyncio.create_task(send())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    assert head.startswith(b"HTTP/1.1 413 ")
    await sending
    await hang_up(writer)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000, b'{"model": NaN}', b"\xff"])
async def test_bad_json_is_a_400(gateway: Process, body: bytes) -> None:
    answer = await gateway.http.post("/v1/chat/completions", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


async def test_a_chunked_body_is_taken(gateway: Process) -> None:
    async def pieces() -> Any:
        for piece in (b'{"model": "acme/chat", ', b'"messages": [{"role": "user", ', b'"content": "hi"}]}'):
            yield piece

    answer = await gateway.http.post("/v1/chat/completions", content=pieces())
    assert answer.status_code == 200


async def test_expect_is_answered_before_the_body(gateway: Process) -> None:
    reader, writer = await gateway.connect()
    head, _, body = request(CHAT, headers="expect: 100-continue\r\n").partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 200 ")
    await hang_up(writer)


async def test_pipelined_requests_are_answered_in_order(gateway: Process, engine: Engine) -> None:
    models = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer fh_acme\r\n"
    data = request(CHAT) + models + b"\r\n" + request({**CHAT, "stream": True}) + models + b"connection: close\r\n\r\n"
    answer = await exchange(gateway, data)
    kinds = [b'"finish_reason":"length"', b'"object":"list"', b"[DONE]", b'"object":"list"']
    position = 0
    for kind in kinds:
        position = answer.index(kind, position) + 1
    assert answer.count(b"HTTP/1.1 200 ") == 4


async def test_http_1_0_gets_a_stream_that_ends_with_the_connection(gateway: Process) -> None:
    data = request({**CHAT, "stream": True}).replace(b"HTTP/1.1", b"HTTP/1.0")
    answer = await exchange(gateway, data)
    assert answer.endswith(b"data: [DONE]\n\n")
    assert b"chunked" not in answer


async def test_a_connection_serves_many_requests_and_reuses_the_engines(gateway: Process, engine: Engine) -> None:
    for _ in range(20):
        assert (await gateway.http.post("/v1/chat/completions", json=CHAT)).status_code == 200
    assert len(engine.received) == 20


@pytest.mark.parametrize(
    "gateway", [{"GATEWAY_BLOCKED_SECONDS": "1", "GATEWAY_WRITE_BUFFER": str(1 << 30)}], indirect=True
)
async def test_a_client_that_never_reads_its_last_answers_is_cut_off(gateway: Process) -> None:
    models = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer fh_acme\r\n"
    count = 20_000
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(client, ("127.0.0.1", gateway.port))
        await loop.sock_sendall(client, (models + b"\r\n") * count + models + b"connection: close\r\n\r\n")

        async def gone() -> bool:
            return await gateway.gauge("connections") == 0

        await until(gone, "the end of the connection")
        answers = bytearray()
        try:
            while data := await asyncio.wait_for(loop.sock_recv(client, 1 << 20), 10):
                answers += data
        except ConnectionError:
            pass
        assert 0 < answers.count(b"HTTP/1.1 ") == answers.count(b"HTTP/1.1 200") < count, "the rest was dropped"


@pytest.mark.parametrize("gateway", [{"GATEWAY_MAX_BODIES": str(32 << 20)}], indirect=True)
async def test_large_bodies_wait_outside_while_others_are_on_their_way(gateway: Process) -> None:
    _, first = await gateway.connect()
    first.write((HEAD + f"content-length: {30 << 20}\r\n\r\n").encode())
    first.write(b"x" * (20 << 20))
    await first.drain()

    async def answer(length: int) -> bytes:
        reader, writer = await gateway.connect()
        writer.write((HEAD + f"expect: 100-continue\r\ncontent-length: {length}\r\n\r\n").encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        await hang_up(writer)
        return head

    async def busy() -> bool:
        return (await answer(20 << 20)).startswith(b"HTTP/1.1 503 ")

    async def free() -> bool:
        return not await busy()

    await until(busy, "the refusal of another large body")
    assert b"\r\nretry-after: 1\r\n" in await answer(20 << 20)
    assert (await answer(64 << 10)).startswith(b"HTTP/1.1 100 ")
    await hang_up(first)
    await until(free, "room for another large body")
