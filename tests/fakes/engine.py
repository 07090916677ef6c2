"""A stub engine behind real HTTP that answers byte for byte as vLLM 0.32 does (recorded with a tiny Qwen3 on the CPU):
each frame is one chunk, usage is on every frame, and a crash or an abort still ends in `[DONE]` and status 200.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 16:08:39 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\ntransfer-encoding: chunked\r\n\r\n"
)


@dataclass
class Received:
    """A request as the engine got it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Script:
    """How to answer.

    Attributes:
        tokens: to generate, for each choice.
        prompt: tokens of the prompt.
        hold_after: after so many content frames, wait until `release` is set or the client hangs up.
        ending: `done`, `abort`, `crash` (an error frame, then `[DONE]`), `cut` (the connection breaks).
        statuses: HTTP statuses of the first requests, before it answers properly; 0 breaks the connection.
        text: content of each frame.
        pause: seconds before each content frame, as an engine takes them to think.
    """

    tokens: int = 4
    prompt: int = 18
    cached: int = 0
    hold_after: int | None = None
    ending: str = "done"
    statuses: list[int] = field(default_factory=list)
    text: str = "a"
    pause: float = 0.0


class Engine:
    """One replica."""

    def __init__(self, served_model_name: str = "internal-name") -> None:
        self.name = served_model_name
        self.script = Script()
        self.received: list[Received] = []
        self.looked_up: list[str] = []
        self.tokenized: list[dict[str, Any]] = []
        self.release = asyncio.Event()
        self.held = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.sent_frames = 0
        self.port = 0

    async def start(self, port: int = 0) -> Engine:
        """Listens on 127.0.0.1, on a free port where none is given."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Ends at once."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
                if first.startswith("GET "):
                    await self._look_up(writer, first.split()[1])
                    continue
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                if first.split()[1] == "/tokenize":
                    self.tokenized.append(body)
                    count = len(body["prompt"]) if "prompt" in body else self.script.prompt
                    await self._json(writer, {"count": count, "max_model_len": 512, "tokens": [1] * count}, 200)
                    continue
                self.received.append(Received(first.split()[1], headers, body))
                await self._answer(reader, writer, self.received[-1])
        except (asyncio.IncompleteReadError, ConnectionError, BrokenPipeError):
            self.hung_up.set()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Received) -> None:
        status = self.script.statuses.pop(0) if self.script.statuses else 200
        if status == 0:
            writer.transport.abort()
            raise ConnectionError
        if status != 200:
            error = {"message": f"engine says {status}", "type": "X", "param": None, "code": status}
            await self._json(writer, {"error": error}, status)
        elif not request.body.get("stream"):
            await self._json(writer, self._whole(request), 200)
        else:
            await self._stream(reader, writer, request)

    async def _look_up(self, writer: asyncio.StreamWriter, path: str) -> None:
        self.looked_up.append(path)
        if path == "/health":
            writer.write(b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
        else:
            models = [{"id": self.name, "object": "model", "owned_by": "vllm", "max_model_len": 512}]
            await self._json(writer, {"object": "list", "data": models}, 200)

    async def _json(self, writer: asyncio.StreamWriter, answer: dict[str, Any], status: int) -> None:
        body = json.dumps(answer, separators=(",", ":")).encode()
        head = f"HTTP/1.1 {status} X\r\nserver: uvicorn\r\ncontent-length: {len(body)}\r\n"
        writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + body)
        await writer.drain()

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Received) -> None:
        writer.write(_STREAM_HEAD)
        content = 0
        for is_content, frame in self._frames(request):
            if is_content and content == self.script.hold_after:
                await self._hold(reader)
            if is_content and content == self.script.tokens // 2 and self.script.ending == "cut":
                writer.transport.abort()
                raise ConnectionError
            if is_content and self.script.pause:
                await asyncio.sleep(self.script.pause)
            content += is_content
            writer.write(f"{len(frame):x}\r\n".encode() + frame + b"\r\n")
            await writer.drain()
            self.sent_frames += 1
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _hold(self, reader: asyncio.StreamReader) -> None:
        self.held.set()
        hang_up = asyncio.ensure_future(reader.read(1))
        release = asyncio.ensure_future(self.release.wait())
        done, pending = await asyncio.wait({hang_up, release}, return_when=asyncio.FIRST_COMPLETED)
        for future in pending:
            future.cancel()
        if hang_up in done:
            hang_up.result()
            raise ConnectionError

    # Frames: (whether it carries a token, bytes)

    def _frames(self, request: Received) -> Iterable[tuple[bool, bytes]]:
        match request.path:
            case "/v1/chat/completions" | "/v1/completions":
                return self._openai(request)
            case "/v1/messages":
                return self._anthropic()
            case "/v1/responses":
                return self._responses()
            case _:
                raise AssertionError(request.path)

    def _openai(self, request: Received) -> list[tuple[bool, bytes]]:
        script, chat = self.script, request.path == "/v1/chat/completions"
        forced = request.body.get("stream_options") == {"include_usage": True, "continuous_usage_stats": True}
        prompt = request.body.get("prompt")
        prompts = len(prompt) if isinstance(prompt, list) else 1
        choices = request.body.get("n", 1) * prompts
        base: dict[str, Any] = {
            "id": ("chatcmpl-" if chat else "cmpl-") + request.headers.get("x-request-id", ""),
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": 1795450119,
            "model": self.name,
        }

        def usage(completion: int, times: int = 1) -> dict[str, Any]:
            total = script.prompt * times + completion
            return {"prompt_tokens": script.prompt * times, "total_tokens": total, "completion_tokens": completion}

        frames: list[tuple[bool, bytes]] = []
        if chat:
            for index in range(choices):
                delta = {"role": "assistant", "content": ""}
                choice: dict[str, Any] = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
                extra = {"usage": usage(0) | {"completion_tokens_details": None}} if forced else {}
                tail = {"prompt_token_ids": None, "prompt_text": None}
                frames.append((False, _data(base | {"choices": [choice]} | extra | tail)))
        count = script.tokens // 2 if script.ending in ("crash", "abort") else script.tokens
        for token in range(1, count + 1):
            for index in range(choices):
                finish = "length" if token == script.tokens else None
                choice = {"index": index}
                choice |= {"delta": {"content": script.text}} if chat else {"text": script.text}
                choice |= {"logprobs": None, "finish_reason": finish}
                choice |= {"stop_reason": None} if finish or not chat else {}
                choice |= {"token_ids": None} if chat else {"prompt_token_ids": None, "token_ids": None}
                extra = (
                    {"usage": usage(token) | ({"completion_tokens_details": None} if chat else {})} if forced else {}
                )
                frames.append((True, _data(base | {"choices": [choice]} | extra)))
        if script.ending == "abort":
            choice = {"index": 0, "delta": {"content": ""}, "logprobs": None, "finish_reason": "abort"}
            frames.append((False, _data(base | {"choices": [choice], "usage": usage(count)})))
        if script.ending == "crash":
            error = {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "param": None}
            frames.append((False, _data({"error": error | {"code": 500}})))
        elif forced:
            details = {"prompt_tokens_details": {"cached_tokens": script.cached, "created_cache_tokens": 0}}
            final = usage(count * choices, prompts) | details
            frames.append((False, _data(base | {"choices": [], "usage": final, "system_fingerprint": "vllm-0.32.0"})))
        frames.append((False, b"data: [DONE]\n\n"))
        return frames

    def _anthropic(self) -> list[tuple[bool, bytes]]:
        script = self.script
        message: dict[str, Any] = {
            "id": "chatcmpl-1",
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": self.name,
        }
        start: dict[str, Any] = message | {"stop_reason": None, "stop_sequence": None}
        start["usage"] = {"input_tokens": script.prompt, "output_tokens": 0}
        frames = [(False, _event({"type": "message_start", "message": start}))]
        block = {"type": "content_block_start", "content_block": {"type": "text", "text": ""}, "index": 0}
        frames.append((False, _event(block)))
        delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": script.text}, "index": 0}
        count = script.tokens // 2 if script.ending in ("crash", "abort") else script.tokens
        frames += [(True, _event(delta))] * count
        if script.ending == "crash":
            error = {"type": "internal_error", "message": "1 validation error for ChatCompletionStreamResponse"}
            return [*frames, (False, _event({"type": "error", "error": error}))]
        frames.append((False, _event({"type": "content_block_stop", "index": 0})))
        reason = None if script.ending == "abort" else "max_tokens"
        usage = {"input_tokens": script.prompt - script.cached, "output_tokens": count}
        usage |= {"cache_creation_input_tokens": 0, "cache_read_input_tokens": script.cached}
        end = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}
        return [*frames, (False, _event(end)), (False, _event({"type": "message_stop"}))]

    def _responses(self) -> list[tuple[bool, bytes]]:
        script = self.script
        response = {"id": "resp_1", "model": self.name, "object": "response", "output": [], "status": "in_progress"}
        begun = {"response": response | {"usage": None}, "sequence_number": 0, "type": "response.created"}
        frames = [(False, _event(begun))]
        count = script.tokens // 2 if script.ending == "crash" else script.tokens
        for number in range(1, count + 1):
            delta = {"content_index": 0, "delta": script.text, "item_id": "msg_1", "logprobs": [], "output_index": 0}
            frames.append((True, _event(delta | {"sequence_number": number, "type": "response.output_text.delta"})))
        if script.ending == "crash":
            return frames
        ended = response | {"status": "completed", "usage": self._responses_usage()}
        end = {"response": ended, "sequence_number": script.tokens + 1, "type": "response.completed"}
        return [*frames, (False, _event(end))]

    def _responses_usage(self) -> dict[str, Any]:
        script = self.script
        return {
            "input_tokens": script.prompt,
            "input_tokens_details": {"cached_tokens": script.cached, "cache_write_tokens": 0},
            "output_tokens": script.tokens,
            "output_tokens_details": {"reasoning_tokens": 0, "tool_output_tokens": 0},
            "total_tokens": script.prompt + script.tokens,
        }

    # Answers in one piece

    def _whole(self, request: Received) -> dict[str, Any]:
        script = self.script
        choices = request.body.get("n", 1)
        text = script.text * script.tokens
        finish = "abort" if script.ending == "abort" else "length"
        base = {"id": "x-" + request.headers.get("x-request-id", ""), "created": 1795450119, "model": self.name}
        usage = {"prompt_tokens": script.prompt, "total_tokens": script.prompt + script.tokens * choices}
        usage["completion_tokens"] = script.tokens * choices
        head: dict[str, Any]
        details: dict[str, Any] = {"prompt_tokens_details": {"cached_tokens": script.cached, "multimodal_tokens": None}}
        match request.path:
            case "/v1/chat/completions":
                message = {"role": "assistant", "content": text, "refusal": None, "reasoning": None}
                answers = [{"index": i, "message": message, "finish_reason": finish} for i in range(choices)]
                return base | {"choices": answers, "usage": usage | details | {"completion_tokens_details": None}}
            case "/v1/completions":
                answers = [{"index": i, "text": text, "finish_reason": finish} for i in range(choices)]
                return base | {"choices": answers, "usage": usage | details}
            case "/v1/embeddings":
                embedded = {"prompt_tokens": script.prompt, "total_tokens": script.prompt, "completion_tokens": 0}
                data = [{"index": 0, "object": "embedding", "embedding": [0.5, -0.5]}]
                return base | {"object": "list", "data": data, "usage": embedded | {"prompt_tokens_details": None}}
            case "/rerank":
                documents = request.body["documents"]
                results = [
                    {"index": i, "document": {"text": text, "multi_modal": None}, "relevance_score": 1 / (i + 1)}
                    for i, text in enumerate(documents)
                ]
                read = {"prompt_tokens": script.prompt, "total_tokens": script.prompt}
                return {"id": base["id"], "model": self.name, "usage": read, "results": results}
            case "/score":
                scored = {"prompt_tokens": script.prompt, "total_tokens": script.prompt, "completion_tokens": 0}
                data = [{"index": 0, "object": "score", "score": 0.5}]
                return base | {"object": "list", "data": data, "usage": scored | {"prompt_tokens_details": None}}
            case "/v1/messages/count_tokens":
                counts = {"original_input_tokens": script.prompt}
                return {"input_tokens": script.prompt, "context_management": counts}
            case "/v1/messages":
                counted = {"input_tokens": script.prompt - script.cached, "output_tokens": script.tokens}
                counted |= {"cache_creation_input_tokens": 0, "cache_read_input_tokens": script.cached}
                block = [{"type": "text", "text": text}]
                head = {"id": "x", "type": "message", "role": "assistant", "content": block, "model": self.name}
                return head | {"stop_reason": None if finish == "abort" else "max_tokens", "usage": counted}
            case "/v1/responses":
                item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
                head = {"id": "resp_1", "metadata": request.body.get("metadata"), "model": self.name, "output": [item]}
                return head | {"object": "response", "status": "completed", "usage": self._responses_usage()}
            case _:
                raise AssertionError(request.path)


def _data(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def _event(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\n".encode() + _data(event)
