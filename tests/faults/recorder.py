"""The oracle: a raw client that stands where the customer stands and counts what is relayed, by itself.

It shares no code with the gateway. Bytes are read as they come (also those that arrive together with a reset), chunks
and events are taken apart here, and content frames are counted for each choice.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

SECRET = "fh_acme"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def question(*, n: int = 1, path: str = CHAT, stream: bool = True, model: str = "acme/chat", **fields: Any) -> bytes:
    """A whole HTTP request. Its prompt is unlike every other's, so that the engine's side can be told apart."""
    marker = f"mark {uuid.uuid4().hex}"
    body: dict[str, Any] = {"model": model, "n": n, "stream": stream, "max_tokens": 200}
    body |= {"messages": [{"role": "user", "content": marker}]} if path == CHAT else {"prompt": marker}
    body |= fields
    return post(path, json.dumps(body).encode())


def post(path: str, body: bytes, headers: str = "") -> bytes:
    """A POST with the key."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {SECRET}\r\ncontent-length: {len(body)}\r\n"
    return (head + headers).encode() + b"\r\n" + body


@dataclass
class Recording(asyncio.Protocol):
    """One request on a connection of its own, and what came back.

    Attributes:
        stop_after: hangs up once each choice has so many content frames.
        status, headers: of the answer; 0 where none came.
        frames: choice → content frames.
        usage: choice → completion tokens as its last frame said; empty unless the request asked for it.
        prompt_tokens: the same, of the prompt.
        done: `[DONE]` was seen.
        failed: an error frame was seen.
        hung_up_at: when the client hung up, on the event loop's clock.
        body: of an answer in one piece.
    """

    request: bytes
    choices: int = 1
    stop_after: int | None = None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    frames: Counter[int] = field(default_factory=Counter)
    usage: dict[int, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    done: bool = False
    failed: bool = False
    hung_up_at: float = 0.0
    body: bytes = b""

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._raw = bytearray()
        self._text = bytearray()
        self._length: int | None = None
        self.over = asyncio.Event()

    def __hash__(self) -> int:
        return id(self)

    async def start(self, port: int) -> Recording:
        """Connects and sends. Raises OSError where nobody listens."""
        await self._loop.create_connection(lambda: self, "127.0.0.1", port)
        return self

    async def end(self, seconds: float = 30) -> Recording:
        """Waits until the answer is complete or the connection is gone."""
        async with asyncio.timeout(seconds):
            await self.over.wait()
        return self

    def hang_up(self) -> None:
        """Says goodbye as a client does, and still counts what is on the way."""
        if not self.hung_up_at:
            self.hung_up_at = time.monotonic()
            self._transport.write_eof()

    def drop(self) -> None:
        """Lets go of the connection, whatever is on the way."""
        self._transport.abort()

    @property
    def event(self) -> str:
        """The request's id as the gateway told it; empty where no head came."""
        return self.headers.get("x-request-id", "")

    @property
    def marker(self) -> str:
        """What the prompt says."""
        body = json.loads(self.request.partition(b"\r\n\r\n")[2])
        return str(body["prompt"] if "prompt" in body else body["messages"][0]["content"])

    @property
    def tokens(self) -> int:
        """Content frames of all choices."""
        return self.frames.total()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self._raw += data
        if not self.status and b"\r\n\r\n" in self._raw:
            self._read_head()
        if self.status:
            self._read_body()
        if self.stop_after is not None and self._enough(self.stop_after):
            self.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()

    # HTTP and events

    def _enough(self, stop_after: int) -> bool:
        return bool(self.status) and all(self.frames[choice] >= stop_after for choice in range(self.choices))

    def _read_head(self) -> None:
        head, _, rest = bytes(self._raw).partition(b"\r\n\r\n")
        self._raw[:] = rest
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        if "content-length" in self.headers:
            self._length = int(self.headers["content-length"])

    def _read_body(self) -> None:
        if self._length is not None:
            self.body = bytes(self._raw)
            if len(self.body) >= self._length:
                self._close()
            return
        while (end := self._raw.find(b"\r\n")) >= 0:
            size = int(self._raw[:end], 16)
            if len(self._raw) < end + 2 + size + 2:
                break
            self._text += self._raw[end + 2 : end + 2 + size]
            del self._raw[: end + 2 + size + 2]
            if size == 0:
                self._close()
        *events, rest = self._text.split(b"\n\n")
        self._text = rest
        for event in events:
            self._read_event(bytes(event))

    def _read_event(self, event: bytes) -> None:
        assert not self.done, "nothing may follow the end of a stream"
        data = event.removeprefix(b"data: ")
        if data == b"[DONE]":
            self.done = True
        elif event.startswith(b"data: "):
            self._read_chunk(json.loads(data))

    def _read_chunk(self, chunk: dict[str, Any]) -> None:
        self.failed |= "error" in chunk
        usage = chunk.get("usage") or {}
        for choice in chunk.get("choices", ()):
            text = choice["delta"].get("content") if "delta" in choice else choice["text"]
            self.frames[choice["index"]] += bool(text)
            if usage:
                self.usage[choice["index"]] = usage["completion_tokens"]
                self.prompt_tokens = usage["prompt_tokens"]

    def _close(self) -> None:
        self._transport.close()
