"""Load on a gateway: one process that keeps some connections busy and looks at every answer.

benchmarks.gateway starts it: `python -m benchmarks.gateway_load` reads an Order as JSON from its standard input and
writes a Result to its output. A connection sends its next request when it has its answer and the pause of the order is
over. An answer must be 200 and whole: its length right, or its chunks ended; a stream must have as many frames as the
stub makes, and must end with `[DONE]`.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from statistics import quantiles
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import msgspec
import uvloop

from benchmarks.gateway_stub import COMPLETION_TOKENS, FRAMES
from freehold.onebox.layout import ROOT

PATH = "/v1/chat/completions"
FORCED_USAGE = {"include_usage": True, "continuous_usage_stats": True}
_CONTENT = b'"delta":{"content":"'  # but for the frame that brings the role
_END = b"0\r\n\r\n"
_GRACE_SECONDS = 10.0


class AnswersWrong(Exception):
    """A gateway under load did not answer every request wholly and with 200: its figures would be worth nothing."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent again and again.

    Attributes:
        url: of the gateway.
        stream: as events.
        forced: the client asks for usage on every frame, as our gateway does of the engine whatever the client asks.
    """

    url: str
    model: str = "bench/chat"
    headers: Mapping[str, str] = {}
    stream: bool = False
    forced: bool = False

    @property
    def body(self) -> bytes:
        """A short conversation."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": "You are the caretaker of an old house and answer in one paragraph."},
                {"role": "user", "content": "Who may enter the house, and who decides what happens in it? " * 3},
            ],
            "max_tokens": 128,
            "temperature": 0.7,
        }
        if self.stream:
            body["stream"] = True
        if self.forced:
            body["stream_options"] = FORCED_USAGE
        return json.dumps(body).encode()

    @property
    def message(self) -> bytes:
        """The body with its head, as one write."""
        body = self.body
        headers = {"content-type": "application/json", "content-length": len(body), **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {PATH} HTTP/1.1\r\nhost: {urlsplit(self.url).netloc}\r\n{lines}\r\n".encode() + body


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: keep so many connections busy for so long.

    Attributes:
        pause_seconds: between an answer and the next request, on average; each is drawn evenly from 0 to twice that.
    """

    request: Request
    connections: int
    seconds: float
    pause_seconds: float = 0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Of one run. Latencies in milliseconds, from the request to the last byte of the answer."""

    answers: int
    p50_ms: float
    p99_ms: float
    wrong: str = ""


class Load:
    """One run, begun at once in a process of its own. Raises AnswersWrong if not even one answer is right."""

    def __init__(self, request: Request, *, connections: int, seconds: float, pause_seconds: float = 0) -> None:
        check(request)
        self._request = request
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gateway_load"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        order = Order(request=request, connections=connections, seconds=seconds, pause_seconds=pause_seconds)
        self._process.stdin.write(msgspec.json.encode(order))
        self._process.stdin.close()

    def result(self) -> Result:
        """Waits for the end. Raises AnswersWrong."""
        assert self._process.stdout is not None
        output = self._process.stdout.read()
        self._process.stdout.close()
        if self._process.wait() != 0:
            raise AnswersWrong(f"{self._request.url}: the load broke off; see above.")
        found = msgspec.json.decode(output, type=Result)
        if found.wrong or not found.answers:
            raise AnswersWrong(f"{self._request.url}: {found.wrong or 'no answers'}")
        return found


def check(request: Request) -> None:
    """Looks closely at one answer. Raises AnswersWrong."""
    headers = {"content-type": "application/json", **request.headers}
    answer = httpx.post(request.url + PATH, content=request.body, headers=headers, timeout=30)
    if answer.status_code != 200:
        raise AnswersWrong(f"{request.url}: {answer.status_code} {answer.text[:500]}")
    if not request.stream:
        if answer.json()["usage"]["completion_tokens"] != COMPLETION_TOKENS:
            raise AnswersWrong(f"{request.url}: {answer.text[:500]}")
        return
    frames = answer.text.split("\n\n")
    events = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]
    content = [event for event in events if event["choices"] and event["choices"][0]["delta"].get("content")]
    if frames[-2:] != ["data: [DONE]", ""] or len(content) != FRAMES:
        raise AnswersWrong(f"{request.url}: a stream of {len(content)} frames that ends in {frames[-2:]}")
    counted = sum("usage" in event for event in events)
    if (counted > 0) is not request.forced:
        raise AnswersWrong(f"{request.url}: {counted} frames with usage, asked for: {request.forced}")


class _Run:
    """All connections of one order."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.message = order.request.message
        self.latencies: list[float] = []
        self.wrong = ""
        self.open = order.connections
        self.done = asyncio.Event()
        self.over = False
        self.loop = asyncio.get_running_loop()

    def fail(self, reason: str) -> None:
        self.wrong = self.wrong or reason
        self.over = True
        self.done.set()


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._stream = run.order.request.stream
        self._parts: list[bytes] = []
        self._missing = 0  # bytes of the answer yet to come; below zero: chunks, until they end
        self._sent = 0.0
        self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting and not self._run.over:
            self._run.fail(f"a connection ended in the middle of an answer: {exc!r}")

    def _send(self) -> None:
        self._waiting = True
        self._parts = []
        self._sent = time.perf_counter()
        self._transport.write(self._run.message)

    def data_received(self, data: bytes) -> None:
        parts = self._parts
        parts.append(data)
        if len(parts) == 1 or not self._missing:
            self._begin()
        elif self._missing > 0:
            self._missing -= len(data)
        if self._missing == 0 or (self._missing < 0 and self._ended(data)):
            self._finish()

    def _begin(self) -> None:
        """Reads the head, as soon as it is there."""
        received = b"".join(self._parts)
        end = received.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = received[:end].lower()
        if not head.startswith(b"http/1.1 200 "):
            self._run.fail(received[:500].decode(errors="replace"))
            return
        at = head.find(b"content-length:")
        self._missing = int(head[at + 15 : head.find(b"\r", at)]) - (len(received) - end) if at >= 0 else -1
        self._parts = [received]

    def _ended(self, data: bytes) -> bool:
        return data.endswith(_END) or (len(data) < len(_END) and b"".join(self._parts[-5:]).endswith(_END))

    def _finish(self) -> None:
        run = self._run
        run.latencies.append(time.perf_counter() - self._sent)
        if self._stream:
            answer = b"".join(self._parts)
            if not _is_whole(answer) and not _is_whole(_unchunked(answer)):  # a chunk may end within a frame
                run.fail(f"a stream that ends so: {answer[-200:]!r}")
        self._waiting = False
        if not run.over and not run.order.pause_seconds:
            self._send()
            return
        if not run.over:
            run.loop.call_later(random.uniform(0, 2 * run.order.pause_seconds), self._go_on)
            return
        self._close()

    def _go_on(self) -> None:
        if self._run.over:
            self._close()
        else:
            self._send()

    def _close(self) -> None:
        run = self._run
        self._transport.abort()
        run.open -= 1
        if not run.open:
            run.done.set()


def _is_whole(answer: bytes) -> bool:
    return answer.count(_CONTENT) == FRAMES and b"data: [DONE]\n\n" in answer[-40:]


def _unchunked(answer: bytes) -> bytes:
    """The body of a chunked answer, as far as its chunks are in order."""
    at = answer.find(b"\r\n\r\n") + 4
    body = b""
    while at < len(answer) and (begin := answer.find(b"\r\n", at) + 2) > at + 2:
        size = int(answer[at : begin - 2], 16)
        body += answer[begin : begin + size]
        at = begin + size + 2
    return body


async def _run(order: Order) -> Result:
    run = _Run(order)
    loop = asyncio.get_running_loop()
    host, _, port = urlsplit(order.request.url).netloc.partition(":")
    for _ in range(order.connections):
        await loop.create_connection(lambda: _Client(run), host, int(port))
    await asyncio.sleep(order.seconds)
    run.over = True
    try:
        async with asyncio.timeout(_GRACE_SECONDS):
            await run.done.wait()
    except TimeoutError:
        run.fail(f"{run.open} answers did not come to an end")
    if run.wrong or len(run.latencies) < 2:
        return Result(answers=0, p50_ms=0, p99_ms=0, wrong=run.wrong or "no answers")
    percentiles = quantiles(run.latencies, n=100)
    return Result(answers=len(run.latencies), p50_ms=percentiles[49] * 1000, p99_ms=percentiles[98] * 1000)


if __name__ == "__main__":
    found = uvloop.run(_run(msgspec.json.decode(sys.stdin.buffer.read(), type=Order)))
    sys.stdout.buffer.write(msgspec.json.encode(found))
