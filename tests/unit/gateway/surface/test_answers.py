"""Answers in one piece, as vLLM 0.32 gave them (recorded/): counted, renamed, and nothing else changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold.gateway.errors import ApiError, Shape
from freehold.gateway.surface import answers
from freehold.gateway.surface.call import Call
from freehold.gateway.surface.sse import AnthropicStream, ResponsesStream
from tests.unit.gateway.conftest import Books

Begin = Callable[..., Books]
RECORDED = Path(__file__).with_name("recorded")
SHAPES = {"messages": Shape.ANTHROPIC, "responses": Shape.RESPONSES}


def shape_of(name: str) -> Shape:
    """Of a recorded answer."""
    return SHAPES.get(name.partition("_")[0], Shape.OPENAI)


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDED.glob("*.json")))
def test_recorded_answers_are_counted_and_renamed_and_left_alone_otherwise(books: Begin, name: str) -> None:
    body = (RECORDED / f"{name}.json").read_bytes()
    bill = books().open()
    out = answers.take(shape_of(name), body, "internal", "acme/chat", bill)
    given: Any = msgspec.json.decode(body)
    assert msgspec.json.decode(out) == {**given, "model": "acme/chat"}
    usage, counts = given["usage"], bill.slot.counts()
    assert counts.prompt == usage.get("prompt_tokens", usage.get("input_tokens"))
    assert counts.completion == usage.get("completion_tokens", usage.get("output_tokens"))
    assert not counts.estimated


def test_a_models_own_words_are_not_taken_for_its_name(books: Begin) -> None:
    message = {
        "id": "m",
        "type": "message",
        "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"model": "internal", "usage": {}}}],
        "model": "internal",
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }
    out = answers.take(Shape.ANTHROPIC, msgspec.json.encode(message), "internal", "acme/chat", books().open())
    assert msgspec.json.decode(out) == {**message, "model": "acme/chat"}
    response = {
        "id": "r",
        "metadata": {"model": "internal"},
        "model": "internal",
        "status": "completed",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }
    out = answers.take(Shape.RESPONSES, msgspec.json.encode(response), "internal", "acme/chat", books().open())
    assert msgspec.json.decode(out) == {**response, "model": "acme/chat"}
    chat = {
        "model": "internal",
        "choices": [{"finish_reason": "stop", "message": {"content": '"model":"internal"'}}],
        "usage": {"prompt_tokens": 1},
    }
    out = answers.take(Shape.OPENAI, msgspec.json.encode(chat), "internal", "acme/chat", books().open())
    assert msgspec.json.decode(out) == {**chat, "model": "acme/chat"}


@pytest.mark.parametrize("name", ["messages", "messages_tool", "responses", "responses_tool"])
def test_every_event_of_a_stream_has_the_public_name(books: Begin, name: str) -> None:
    kind = AnthropicStream if name.startswith("messages") else ResponsesStream
    given = (RECORDED / f"{name}.sse").read_bytes().replace(b'"metadata":null', b'"metadata":{"model":"internal"}')
    stream = kind(Call("acme/chat", {}, stream=True), "internal", books().open())
    out = stream.feed(given)
    assert stream.done
    models, names = [], []
    for line in out.split(b"\n"):
        if line.startswith(b"data: "):
            event: Any = msgspec.json.decode(line[6:])
            inner = event.get("message") or event.get("response")
            if inner:
                models.append(inner["model"])
                names.append(inner.get("metadata") or {"model": "internal"})
    assert set(models) == {"acme/chat"}
    assert names == [{"model": "internal"}] * len(models), "a client's own metadata is its own"


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        (Shape.OPENAI, b'{"model":"internal","choices":[{"finish_reason":"abort"}],"usage":{"prompt_tokens":1}}'),
        (Shape.OPENAI, b'{"model":"internal","choices":[]}'),
        (Shape.OPENAI, b'{"model":"internal","usage":{"prompt_tokens":99999999999}}'),
        (Shape.OPENAI, b'{"model":"internal","usage":{"prompt_tokens":-1}}'),
        (Shape.OPENAI, b"[" * 100_000),
        (Shape.OPENAI, b""),
        (Shape.ANTHROPIC, b'{"model":"internal","stop_reason":null,"usage":{"input_tokens":1}}'),
        (Shape.RESPONSES, b'{"model":"internal","status":"failed","usage":{"input_tokens":1}}'),
    ],
)
def test_an_answer_that_is_none_is_a_502(books: Begin, shape: Shape, body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        answers.take(shape, body, "internal", "acme/chat", books().open())
    assert caught.value.status == 502
