"""A stub engine that is fast: what benchmarks.gateway puts behind every gateway.

`python -m benchmarks.gateway_stub PORT`. It answers byte for byte as vLLM 0.32 behind uvicorn does (recorded in
tests/fakes/engine.py), with all bytes made beforehand, so that what is measured is the gateway. Answers in one piece go
out at once. A stream is written as an engine makes it: the head at once, then at every step one frame, one HTTP chunk
each, to every stream that is open; the first step brings the role along, the last one the usage, `[DONE]` and the end.
A step is STEP_SECONDS: as short as 32 streams allow if frames are not to run together on their way. As in vLLM, usage
is on every frame if `stream_options` asks for it, on a frame of its own if only `include_usage` is set, and nowhere
without.

The `model` of a request says how its stream goes on. Every model's has FRAMES frames but those of `held`, which stop
after ten, and those of `endless`, which never end. `hasty` takes no time for a step: between two frames the loop turns
and no more, so that a gateway that is slower than the stub finds several at once.

`GET /counts` says how many answers were begun and frames sent; `GET /cuts` when streams lost their client, in
nanoseconds of the monotonic clock, oldest first.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, cast

import msgspec
import uvloop

from freehold.common.ports import LOOPBACK

FRAMES = 128
STEP_SECONDS = 0.001
SERVED = "bench-internal"
HELD, ENDLESS, HASTY = "held", "endless", "hasty"
PROMPT_TOKENS, COMPLETION_TOKENS = 72, 128
HELD_FRAMES = 10

_DATE = b"date: Mon, 23 Nov 2026 16:08:39 GMT\r\nserver: uvicorn\r\n"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\n" + _DATE + b"content-type: text/event-stream; charset=utf-8\r\n"
    b"vary: Origin\r\ntransfer-encoding: chunked\r\n\r\n"
)
_WORDS = ("The", " house", " belongs", " to", " whoever", " lives", " in", " it", ",", " and", " nobody", " else", ".")


class _Options(msgspec.Struct):
    include_usage: bool = False
    continuous_usage_stats: bool = False


class _Asked(msgspec.Struct):
    """What of a request the answer depends on."""

    model: str = ""
    stream: bool = False
    stream_options: _Options | None = None


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _http(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %s\r\n%scontent-length: %d\r\ncontent-type: application/json\r\n\r\n"
    return head % (status, _DATE, len(body)) + body


def _chunk(data: object) -> bytes:
    frame = b"data: " + (data if isinstance(data, bytes) else _compact(data)) + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(frame), frame)


def answer() -> dict[str, Any]:
    """The answer in one piece."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(_WORDS[number % len(_WORDS)] for number in range(COMPLETION_TOKENS)),
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning": None,
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "length", "stop_reason": None}
    usage = {
        "prompt_tokens": PROMPT_TOKENS,
        "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
        "completion_tokens": COMPLETION_TOKENS,
        "prompt_tokens_details": {"cached_tokens": 0, "created_cache_tokens": 0, "multimodal_tokens": None},
        "completion_tokens_details": None,
    }
    return {
        **_base("chat.completion"),
        "choices": [{**choice, "token_ids": None, "routed_experts": None}],
        "service_tier": None,
        "system_fingerprint": "vllm-0.32.0",
        "usage": usage,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "prompt_text": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def _base(kind: str) -> dict[str, Any]:
    identity = "chatcmpl-0198f2c0b0d17c0e9d3a4f5e6b7c8d9e"
    return {"id": identity, "object": kind, "created": 1795450119, "model": SERVED}


def _usage(completion: int) -> dict[str, Any]:
    total = PROMPT_TOKENS + completion
    return {"prompt_tokens": PROMPT_TOKENS, "total_tokens": total, "completion_tokens": completion}


def frames(*, include_usage: bool, continuous: bool) -> list[bytes]:
    """The writes of a stream of FRAMES content frames, after its head."""
    base = _base("chat.completion.chunk")
    delta = {"role": "assistant", "content": ""}
    choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    extra = {"usage": _usage(0) | {"completion_tokens_details": None}} if continuous else {}
    role = _chunk(base | {"choices": [choice]} | extra | {"prompt_token_ids": None, "prompt_text": None})
    steps = []
    for token in range(1, FRAMES + 1):
        finish = "length" if token == FRAMES else None
        choice = {"index": 0, "delta": {"content": _WORDS[token % len(_WORDS)]}, "logprobs": None}
        choice |= {"finish_reason": finish} | ({"stop_reason": None} if finish else {}) | {"token_ids": None}
        extra = {"usage": _usage(token) | {"completion_tokens_details": None}} if continuous else {}
        steps.append(_chunk(base | {"choices": [choice]} | extra))
    if include_usage:
        details = {"prompt_tokens_details": {"cached_tokens": 0, "created_cache_tokens": 0}}
        final = {"choices": [], "usage": _usage(FRAMES) | details, "system_fingerprint": "vllm-0.32.0"}
        steps[-1] += _chunk(base | final)
    steps[0] = role + steps[0]
    steps[-1] += _chunk(b"[DONE]") + b"0\r\n\r\n"
    return steps


_ANSWER = _http(b"200 OK", _compact(answer()))
_MODELS = _http(
    b"200 OK",
    _compact(
        {
            "object": "list",
            "data": [
                {"id": name, "object": "model", "owned_by": "vllm", "max_model_len": 32768}
                for name in (SERVED, HELD, ENDLESS, HASTY)
            ],
        }
    ),
)
_HEALTH = b"HTTP/1.1 200 OK\r\n" + _DATE + b"content-length: 0\r\n\r\n"
_NOT_FOUND = _http(b"404 Not Found", b'{"detail":"Not Found"}')
_PLAIN, _FINAL, _EVERY = (
    frames(include_usage=include, continuous=continuous)
    for include, continuous in ((False, False), (True, False), (True, True))
)
_asked = msgspec.json.Decoder(_Asked)


class Steps:
    """Streams that get their frames together, one each `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._streams: list[_Connection] = []
        self._loop = asyncio.get_running_loop()
        self._ticking = False

    def begin(self, connection: _Connection) -> None:
        """A stream that wants its frames."""
        self._streams.append(connection)
        if not self._ticking:
            self._ticking = True
            self._after(self._loop.time() + self._seconds)

    def _after(self, due: float) -> None:
        if self._seconds:
            self._loop.call_later(due - self._loop.time(), self._step, due)
        else:
            self._loop.call_soon(self._step, due)

    def _step(self, due: float) -> None:
        self._streams = [connection for connection in self._streams if connection.step()]
        self._ticking = bool(self._streams)
        if self._ticking:
            self._after(max(due + self._seconds, self._loop.time()))


class Engine:
    """What all connections have in common."""

    def __init__(self) -> None:
        self.answers = 0
        self.frames = 0
        self.cuts: list[int] = []
        self.steady = Steps(STEP_SECONDS)
        self.hasty = Steps(0)


class _Connection(asyncio.Protocol):
    """One connection from a gateway."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._received = b""
        self._steps: list[bytes] = []
        self._next = 0
        self._open = False
        self._endless = False
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        if self._open:
            self._engine.cuts.append(time.monotonic_ns())

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n") + 4
        if end < 4:
            self._received = received
            return
        head = received[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        total = end + (int(head[at + 17 : head.find(b"\r\n", at + 17)]) if at >= 0 else 0)
        if len(received) < total:
            self._received = received
            return
        self._received = received[total:]
        if head.startswith(b"post /v1/chat/completions"):
            self._complete(_asked.decode(received[end:total]))
        else:
            self._transport.write(self._other(head))

    def _complete(self, asked: _Asked) -> None:
        self._engine.answers += 1
        if not asked.stream:
            self._transport.write(_ANSWER)
            return
        options = asked.stream_options
        self._steps = _PLAIN
        if options is not None and options.include_usage:
            self._steps = _EVERY if options.continuous_usage_stats else _FINAL
        if asked.model.endswith(HELD):
            self._steps = self._steps[:HELD_FRAMES]
        self._endless = asked.model.endswith(ENDLESS)
        self._next = 0
        self._open = True
        self._transport.write(_STREAM_HEAD)
        (self._engine.hasty if asked.model.endswith(HASTY) else self._engine.steady).begin(self)

    def step(self) -> bool:
        """Writes the next frame; False once there is none."""
        if self._gone:
            return False
        number = self._next
        self._transport.write(self._steps[number])
        self._engine.frames += 1
        self._next = number = number + 1
        if number < len(self._steps):
            if self._endless and number == FRAMES - 1:
                self._next = 1
            return True
        self._open = number < FRAMES  # a held stream stays open
        return False

    def _other(self, head: bytes) -> bytes:
        path = head.split(b" ", 2)[1]
        if path == b"/health":
            return _HEALTH
        if path == b"/v1/models":
            return _MODELS
        if path == b"/counts":
            return _http(b"200 OK", _compact({"answers": self._engine.answers, "frames": self._engine.frames}))
        if path == b"/cuts":
            return _http(b"200 OK", _compact(self._engine.cuts))
        return _NOT_FOUND


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    engine = Engine()
    server = await loop.create_server(lambda: _Connection(engine), LOOPBACK, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
