"""Eight replicas over HTTP: engines of routing_engine.py that speak as much of vLLM's protocol as gateways ask for.

`python -m benchmarks.routing_replicas COUNT` prints their ports as a JSON list and serves until its standard input
ends. Each has `POST /v1/chat/completions` (streams only), `POST /v1/chat/completions/render`, `GET /health`,
`/v1/models` and `/metrics`, and `POST /reset`, after which its cache is empty. An answer is two events: the first
token, when the prompt has been computed, and the rest at the end; usage is on them as vLLM puts it there.
"""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from contextlib import AsyncExitStack
from random import Random
from typing import Any

from benchmarks.routing_engine import TOKEN_BYTES, Engine, Speed, Work
from benchmarks.routing_simulation import flatten
from freehold.common.ports import LOOPBACK
from tests.factories.ports import free_port

SERVED = "bench-internal"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


class Replica:
    """One of them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = Engine(Speed(), self._loop.call_later)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves a connection, one request after the other."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, _, rest = head.partition("\r\n")
                fields = dict(field.lower().split(": ", 1) for field in rest.split("\r\n") if field)
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                method, path, _ = line.split(" ")
                if method == "POST" and path == "/v1/chat/completions":
                    await self._complete(json.loads(body), writer)
                elif method == "POST" and path == "/v1/chat/completions/render":
                    writer.write(_answer(_render(json.loads(body))))
                else:
                    writer.write(self._plain(method, path))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the process ends
        finally:
            writer.close()

    def _plain(self, method: str, path: str) -> bytes:
        status, kind, text = "200 OK", "application/json", "{}"
        if path == "/metrics":
            kind, text = "text/plain; version=0.0.4", self._metrics()
        elif path == "/v1/models":
            card = {"id": SERVED, "object": "model", "created": 0, "owned_by": "vllm", "max_model_len": 1_000_000}
            text = json.dumps({"object": "list", "data": [card]})
        elif (method, path) == ("POST", "/reset"):
            self._engine = Engine(Speed(), self._loop.call_later)
        elif path != "/health":
            status = "404 Not Found"
        return _answer(text, status, kind)

    def _metrics(self) -> str:
        values = {
            "prefix_cache_queries_total": self._engine.cache.queries,
            "prefix_cache_hits_total": self._engine.cache.hits,
            "num_requests_running": self._engine.running,
            "num_requests_waiting": self._engine.waiting,
        }
        return "".join(f'vllm:{name}{{model_name="{SERVED}"}} {value}\n' for name, value in values.items())

    async def _complete(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        prompt = flatten(body["messages"])
        tokens = body["max_tokens"]
        text = Random(zlib.crc32(prompt)).randbytes(tokens * TOKEN_BYTES // 2).hex()
        first, done = asyncio.Event(), asyncio.Event()
        salt = body.get("cache_salt") or ""
        self._engine.submit(Work(salt, prompt, text.encode(), first.set, done.set))
        writer.write(_HEAD)
        await first.wait()
        usage = _Usage(body.get("stream_options") or {}, len(prompt) // TOKEN_BYTES)
        role = {"role": "assistant", "content": text[:TOKEN_BYTES]}
        writer.write(_frame(role, None, usage.continuous(1)))
        await done.wait()
        writer.write(_frame({"content": text[TOKEN_BYTES:]}, "length", usage.continuous(tokens)))
        writer.write(usage.final(tokens))
        writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def _answer(text: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()


def _render(body: dict[str, Any]) -> str:
    """The prompt's tokens, as vLLM tells them: what vllm-router's cache_aware looks at."""
    prompt = flatten(body["messages"])
    whole = prompt[: len(prompt) // TOKEN_BYTES * TOKEN_BYTES]
    tokens = [int.from_bytes(whole[at : at + TOKEN_BYTES]) & 0xFFFF for at in range(0, len(whole), TOKEN_BYTES)]
    rest = {"model": SERVED, "stream": False, "sampling_params": {}, "stream_options": None, "cache_salt": None}
    return json.dumps({"request_id": "bench", "token_ids": tokens, "features": None, "priority": 0, **rest})


class _Usage:
    """As `stream_options` ask for it."""

    def __init__(self, options: dict[str, Any], prompt: int) -> None:
        self._wanted = bool(options.get("include_usage"))
        self._continuous = self._wanted and bool(options.get("continuous_usage_stats"))
        self._prompt = prompt

    def _of(self, tokens: int) -> dict[str, int]:
        return {
            "prompt_tokens": self._prompt,
            "total_tokens": self._prompt + tokens,
            "completion_tokens": tokens,
        }

    def continuous(self, tokens: int) -> dict[str, int] | None:
        """For a frame with content."""
        return self._of(tokens) if self._continuous else None

    def final(self, tokens: int) -> bytes:
        """The frame after the last."""
        return _event({"choices": [], "usage": self._of(tokens)}) if self._wanted else b""


def _frame(delta: dict[str, str], finish: str | None, usage: dict[str, int] | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _event({"choices": [choice], **({"usage": usage} if usage else {})})


def _event(content: dict[str, Any]) -> bytes:
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": SERVED, **content}
    return _chunk(b"data: %s\n\n" % json.dumps(event, separators=(",", ":")).encode())


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def serve(count: int) -> None:
    """Until the standard input ends."""
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            found.append(free_port())
            server = await asyncio.start_server(Replica().accept, LOOPBACK, found[-1], limit=16 * 1024 * 1024)
            stack.push_async_callback(_close, server)
        print(json.dumps(found), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _close(server: asyncio.Server) -> None:
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
