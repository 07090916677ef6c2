"""Truth, hang-ups, retries and back-pressure between a client and an engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.fakes.engine import Engine
    from tests.integration.gateway.conftest import Process, Usage

MESSAGES = [{"role": "user", "content": "hi"}]
STREAMS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "acme/chat", "messages": MESSAGES, "stream": True},
    "/v1/completions": {"model": "acme/chat", "prompt": "hi", "stream": True},
    "/v1/responses": {"model": "acme/chat", "input": "hi", "stream": True},
    "/v1/messages": {"model": "acme/chat", "messages": MESSAGES, "max_tokens": 4, "stream": True},
}
CHAT = STREAMS["/v1/chat/completions"]


def request(body: dict[str, Any], path: str = "/v1/chat/completions", headers: str = "") -> bytes:
    """A raw request."""
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer fh_acme\r\ncontent-length: {len(data)}\r\n{headers}"
    )
    return head.encode() + b"\r\n" + data


async def open_stream(
    gateway: Process, body: dict[str, Any], path: str = "/v1/chat/completions"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Sends a request and reads the head of the answer."""
    reader, writer = await gateway.connect()
    writer.write(request(body, path))
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    return reader, writer


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """As a client that has gone away."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("path", "ending"),
    [
        ("/v1/chat/completions", "abort"),
        ("/v1/chat/completions", "crash"),
        ("/v1/chat/completions", "cut"),
        ("/v1/completions", "abort"),
        ("/v1/completions", "crash"),
        ("/v1/messages", "abort"),
        ("/v1/messages", "crash"),
        ("/v1/responses", "crash"),
    ],
)
async def test_a_broken_stream_ends_in_an_error_frame_and_is_billed_for_what_was_relayed(
    gateway: Process, engine: Engine, usage: Usage, path: str, ending: str
) -> None:
    engine.script.tokens, engine.script.ending = 8, ending
    answer = await gateway.http.post(path, json=STREAMS[path])
    last = answer.text.strip().split("\n\n")[-1]
    assert "error" in last
    for end_of_success in ("[DONE]", "message_stop", "response.completed"):
        assert end_of_success not in answer.text
    record = await usage.one()
    assert (record.outcome, record.completion_tokens) == ("upstream_error", 4)


async def test_an_aborted_answer_in_one_piece_is_an_error_and_not_billed(
    gateway: Process, engine: Engine, usage: Usage
) -> None:
    engine.script.ending = "abort"
    settled = await gateway.gauge("journal_sequence")
    answer = await gateway.http.post("/v1/chat/completions", json={**CHAT, "stream": False})
    assert answer.status_code == 502
    assert await gateway.gauge("journal_sequence") == settled


@pytest.mark.parametrize("choices", [1, 2])
@pytest.mark.parametrize("tokens", [0, 1, 5])
async def test_a_hang_up_after_k_tokens_closes_the_engine_and_bills_k(
    gateway: Process, engine: Engine, usage: Usage, tokens: int, choices: int
) -> None:
    engine.script.tokens, engine.script.hold_after = 50, tokens * choices
    reader, writer = await open_stream(gateway, {**CHAT, "n": choices})
    await engine.held.wait()
    received = b""
    while received.count(b"data: ") < (tokens + 1) * choices:
        received += await reader.read(65536)
    await hang_up(writer)
    await asyncio.wait_for(engine.hung_up.wait(), 5)
    record = await usage.one()
    assert (record.outcome, record.prompt_tokens, record.completion_tokens) == ("client_closed", 18, tokens * choices)
    assert not record.estimated


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_a_hang_up_where_events_carry_no_numbers_is_estimated(
    gateway: Process, engine: Engine, usage: Usage, path: str
) -> None:
    engine.script.tokens, engine.script.hold_after = 50, 3
    reader, writer = await open_stream(gateway, STREAMS[path], path)
    received = b""
    while received.count(b".delta") + received.count(b"text_delta") < 3:
        received += await reader.read(65536)
    await hang_up(writer)
    record = await usage.one()
    assert (record.outcome, record.completion_tokens, record.estimated) == ("client_closed", 3, True)
    assert record.prompt_tokens > 0


async def test_a_hang_up_before_anything_was_relayed_is_billed_for_the_prompt_as_the_tokenizer_counts_it(
    gateway: Process, engine: Engine, usage: Usage
) -> None:
    engine.script.hold_after = 0
    _, writer = await gateway.connect()
    writer.write(request({"model": "acme/chat", "prompt": "hello", "stream": True}, "/v1/completions"))
    await engine.held.wait()
    await hang_up(writer)
    await asyncio.wait_for(engine.hung_up.wait(), 5)
    record = await usage.one()
    assert (record.outcome, record.prompt_tokens, record.completion_tokens) == ("client_closed", 5, 0)
    assert (record.estimated, record.first_token_ms) == (True, None)
    assert engine.tokenized == [{"model": "internal-name", "prompt": "hello"}]


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_failed_attempt_is_made_again_before_the_first_byte(
    gateway: Process, engine: Engine, usage: Usage, status: int
) -> None:
    engine.script.statuses = [status, status]
    answer = await gateway.http.post("/v1/chat/completions", json=CHAT)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert len(engine.received) == 3
    assert (await usage.one()).completion_tokens == 4


@pytest.mark.parametrize(("breaks", "status"), [(1, 200), (2, 503)])
async def test_a_request_that_breaks_the_connection_is_made_again_once(
    gateway: Process, engine: Engine, breaks: int, status: int
) -> None:
    engine.script.statuses = [0] * breaks
    answer = await gateway.http.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == status
    assert len(engine.received) == 2


async def test_attempts_end_and_the_client_may_try_again(gateway: Process, engine: Engine) -> None:
    engine.script.statuses = [503] * 9
    answer = await gateway.http.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert len(engine.received) == 3


async def test_an_engine_that_is_gone_is_503(gateway: Process, engine: Engine) -> None:
    await engine.stop()
    answer = await gateway.http.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 503


@pytest.mark.parametrize(
    "gateway",
    [{"GATEWAY_FIRST_TOKEN_SECONDS": "0.3", "GATEWAY_BETWEEN_TOKENS_SECONDS": "0.3", "GATEWAY_ANSWER_SECONDS": "0.3"}],
    indirect=True,
)
@pytest.mark.parametrize(("path", "held", "status"), [("/v1/completions", 0, 504), ("/v1/completions", 2, 200)])
async def test_an_engine_that_falls_silent_is_given_up(
    gateway: Process, engine: Engine, path: str, held: int, status: int
) -> None:
    engine.script.hold_after = held
    answer = await gateway.http.post(path, json=STREAMS[path])
    assert answer.status_code == status
    assert "error" in answer.text
    assert "[DONE]" not in answer.text
    await asyncio.wait_for(engine.hung_up.wait(), 5)


@pytest.mark.parametrize("gateway", [{"GATEWAY_BLOCKED_SECONDS": "1"}], indirect=True)
async def test_a_client_that_stops_reading_costs_bounded_memory_and_is_cut_off(
    gateway: Process, engine: Engine, usage: Usage
) -> None:
    engine.script.tokens, engine.script.text = 3_000, "x" * 20_000  # 60 MB
    _, writer = await open_stream(gateway, CHAT)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    before = _resident(gateway.pid)
    await asyncio.wait_for(engine.hung_up.wait(), 15)
    assert _resident(gateway.pid) - before < 16 * 1024 * 1024
    assert engine.sent_frames < 3_000
    record = await usage.one()
    assert record.outcome == "client_closed"
    assert 0 < record.completion_tokens < 3_000
    writer.transport.abort()


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


async def test_a_slow_client_gets_everything(gateway: Process, engine: Engine, usage: Usage) -> None:
    engine.script.tokens, engine.script.text = 500, "x" * 10_000
    reader, writer = await open_stream(gateway, CHAT)
    received = bytearray()
    while not received.endswith(b"0\r\n\r\n"):
        received += await reader.read(8192)
        await asyncio.sleep(0)
    assert received.count(b"x" * 10_000) == 500
    assert (await usage.one()).completion_tokens == 500
    await hang_up(writer)


async def test_a_body_that_no_socket_takes_at_once_arrives_whole_and_nothing_fails(
    gateway: Process, engine: Engine
) -> None:
    text = "x" * 8_000_000
    reader, writer = await gateway.connect()
    writer.write(request({"model": "acme/chat", "messages": [{"role": "user", "content": text}]}))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert engine.received[-1].body["messages"][0]["content"] == text
    assert '"level": "error"' not in gateway.log()
    assert "Traceback" not in gateway.log()
    await hang_up(writer)
