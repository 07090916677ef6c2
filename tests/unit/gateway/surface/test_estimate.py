"""What an engine's tokenizer is asked after a cut, and what becomes of its answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold.gateway.surface import bodies, estimate
from freehold.gateway.surface.call import Call
from freehold.gateway.surface.sse import AnthropicStream, OpenAIStream, ResponsesStream
from tests.unit.gateway.conftest import Books

Begin = Callable[..., Books]
RECORDED = Path(__file__).with_name("recorded")
MESSAGES = [{"role": "user", "content": "hi"}]
CALL = Call("acme/chat", {}, stream=True, prompt_guess=7)


def forwarded(path: str, body: dict[str, Any]) -> tuple[bodies.Surface, bytes]:
    """(surface, the body that the engine got)."""
    surface = bodies.SURFACES[path]
    call = bodies.parse(surface, msgspec.json.encode({"model": "acme/chat", **body}))
    return surface, bodies.encode(call, served_model_name="internal", cache_salt="salt")


def asked(question: estimate.Question) -> dict[str, Any]:
    """The JSON of a question."""
    return dict(msgspec.json.decode(question.body))


@pytest.mark.parametrize(
    ("path", "body", "question", "known"),
    [
        (
            "/v1/chat/completions",
            {"messages": MESSAGES, "tools": [{"type": "function", "function": {"name": "f"}}], "seed": 1},
            {
                "messages": MESSAGES,
                "tools": [{"type": "function", "function": {"name": "f"}}],
                "add_generation_prompt": True,
            },
            0,
        ),
        ("/v1/completions", {"prompt": ["a", "b"], "echo": True}, {"prompt": "ab"}, 0),
        ("/v1/completions", {"prompt": [[1, 2], [3]]}, {"prompt": ""}, 3),
        ("/v1/embeddings", {"input": ["a", "b"]}, {"prompt": "ab"}, 0),
        ("/v1/rerank", {"query": "q", "documents": ["a"]}, {"prompt": "qa"}, 0),
        ("/v1/score", {"text_1": ["p", "q"], "text_2": ["a", "b"], "queries": None}, {"prompt": "pqab"}, 0),
        (
            "/v1/responses",
            {
                "instructions": "Be kind.",
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "rain?"}]},
                    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
                    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c", "output": "rain"},
                    {"role": "assistant", "content": [{"type": "output_text", "text": "It rains."}]},
                ],
                "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": True}],
            },
            {
                "messages": [
                    {"role": "system", "content": "Be kind."},
                    {"role": "user", "content": "rain?"},
                    {
                        "role": "assistant",
                        "reasoning": "hm",
                        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                    },
                    {"role": "tool", "tool_call_id": "c", "content": "rain"},
                    {"role": "assistant", "content": "It rains."},
                ],
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
                "add_generation_prompt": True,
            },
            0,
        ),
    ],
)
def test_a_prompt_is_asked_for_with_nothing_but_what_counts(
    path: str, body: dict[str, Any], question: dict[str, Any], known: int
) -> None:
    (found,) = estimate.questions(*forwarded(path, body), None)
    assert (found.path, found.about_prompt, found.known) == (b"/tokenize", True, known)
    assert asked(found) == {"model": "internal", **question}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", {"query": "q", "documents": ["a", "b", "c"]}),
        ("/v2/rerank", {"query": "q", "documents": ["a", "b", "c"]}),
        ("/v1/score", {"text_1": "q", "text_2": ["a", "b", "c"]}),
        ("/v1/score", {"queries": ["q"], "documents": ["a", "b", "c"], "text_1": None}),
    ],
)
def test_a_text_that_is_read_with_each_other_one_is_asked_for_once(
    books: Begin, path: str, body: dict[str, Any]
) -> None:
    query, documents = estimate.questions(*forwarded(path, body), None)
    assert asked(query) == {"model": "internal", "prompt": "q"}
    assert asked(documents) == {"model": "internal", "prompt": "abc"}
    bill = books().open()
    before = bill.slot.counts()
    assert not estimate.take(query, b'{"count":10}', bill)
    assert bill.slot.counts() == before, "half of a prompt is not billed for all of it"
    assert estimate.take(documents, b'{"count":7}', bill)
    counts = bill.slot.counts()
    assert (counts.prompt, counts.estimated) == (37, True)


def test_more_tokens_than_a_slot_holds_change_nothing(books: Begin) -> None:
    bill = books().open()
    before = bill.slot.counts()
    query, documents = estimate.questions(*forwarded("/v1/rerank", {"query": "q", "documents": ["a"] * 1000}), None)
    estimate.take(query, b'{"count":100000000}', bill)
    assert not estimate.take(documents, b'{"count":7}', bill)
    assert bill.slot.counts() == before


def test_images_do_not_go_to_the_tokenizer() -> None:
    url, source = "data:image/png;base64,AAAA", {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    text = {"type": "text", "text": "what?"}
    chat = [text, {"type": "image_url", "image_url": {"url": url}}, {"type": "input_audio", "input_audio": {}}]
    messages = [{"role": "user", "content": chat}, {"role": "user", "content": chat[1:]}]
    (found,) = estimate.questions(*forwarded("/v1/chat/completions", {"messages": messages}), None)
    assert asked(found)["messages"] == [{"role": "user", "content": [text]}, {"role": "user", "content": ""}]
    image = {"type": "image", "source": source}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image, text]}
    body = {"messages": [{"role": "user", "content": [image, result]}], "max_tokens": 5}
    (found,) = estimate.questions(*forwarded("/v1/messages", body), None)
    assert asked(found)["messages"] == [{"role": "user", "content": [{**result, "content": [text]}]}]
    item = {
        "role": "user",
        "content": [{"type": "input_text", "text": "what?"}, {"type": "input_image", "image_url": url}],
    }
    (found,) = estimate.questions(*forwarded("/v1/responses", {"input": [item]}), None)
    assert asked(found)["messages"] == [{"role": "user", "content": "what?"}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a" * (1 << 20)}]}),
        ("/v1/rerank", {"query": "q" * (1 << 19), "documents": ["d"] * (1 << 18)}),
        ("/v1/responses", {"input": [{}] * 200_000}),  # small as items, large as messages
    ],
)
def test_nothing_is_asked_about_a_prompt_that_is_too_large(path: str, body: dict[str, Any]) -> None:
    assert estimate.questions(*forwarded(path, body), None) == []


def test_a_large_body_is_not_even_read_but_what_was_relayed_is_asked_for(books: Begin) -> None:
    body = b"{" * (1 << 21)
    assert estimate.questions(bodies.MESSAGES, body, None) == []
    stream = AnthropicStream(CALL, "internal", books().open())
    stream.feed(b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}\n\n')
    (found,) = estimate.questions(bodies.MESSAGES, body, stream)
    assert (asked(found)["prompt"], found.about_prompt) == ("a", False)


def test_what_costs_nothing_is_not_asked_for() -> None:
    assert estimate.questions(*forwarded("/v1/messages/count_tokens", {"messages": MESSAGES}), None) == []


def test_anthropics_prompts_are_counted_by_the_engines_own_path() -> None:
    body = {"messages": MESSAGES, "system": "Be kind.", "max_tokens": 5, "temperature": 0}
    (found,) = estimate.questions(*forwarded("/v1/messages", body), None)
    assert found.path == b"/v1/messages/count_tokens"
    assert asked(found) == {"model": "internal", "messages": MESSAGES, "system": "Be kind."}


def test_a_stream_of_messages_that_was_cut_is_asked_for_its_text_alone(books: Begin) -> None:
    bill = books().open()
    stream = AnthropicStream(CALL, "internal", bill)
    stream.feed((RECORDED / "messages.sse").read_bytes().split(b"event: message_delta")[0])
    assert not stream.exact
    (found,) = estimate.questions(*forwarded("/v1/messages", {"messages": MESSAGES, "max_tokens": 5}), stream)
    deltas = [
        msgspec.json.decode(line[6:])["delta"]["text"]
        for line in (RECORDED / "messages.sse").read_bytes().split(b"\n")
        if b'"text_delta"' in line and line.startswith(b"data: ")
    ]
    assert asked(found) == {"model": "internal", "prompt": "".join(deltas), "add_special_tokens": False}
    assert estimate.take(found, b'{"count":5,"max_model_len":9,"tokens":[1,2,3,4,5],"token_strs":null}', bill)
    counts = bill.slot.counts()
    assert (counts.prompt, counts.completion, counts.estimated) == (19, 5, True)


def test_a_response_that_was_cut_is_asked_for_prompt_and_text(books: Begin) -> None:
    bill = books().open()
    stream = ResponsesStream(CALL, "internal", bill)
    stream.feed((RECORDED / "responses.sse").read_bytes().split(b"event: response.completed")[0])
    found = estimate.questions(*forwarded("/v1/responses", {"input": "Hello"}), stream)
    assert [question.about_prompt for question in found] == [True, False]
    for question, count in zip(found, (13, 8), strict=True):
        estimate.take(question, b'{"count":%d}' % count, bill)
    counts = bill.slot.counts()
    assert (counts.prompt, counts.completion, counts.estimated) == (13, 8, True)


@pytest.mark.parametrize("name", ["chat", "messages", "responses", "completion_prompts", "messages_tool"])
def test_nothing_is_asked_where_the_engine_has_said_it_all(books: Begin, name: str) -> None:
    kinds: dict[str, tuple[Any, str, dict[str, Any], Call]] = {
        "chat": (OpenAIStream, "/v1/chat/completions", {"messages": MESSAGES}, CALL),
        "completion_prompts": (
            OpenAIStream,
            "/v1/completions",
            {"prompt": ["a", "b"], "n": 2},
            Call("acme/chat", {}, stream=True, prompts=2, choices=2),
        ),
        "messages": (AnthropicStream, "/v1/messages", {"messages": MESSAGES, "max_tokens": 8}, CALL),
        "messages_tool": (AnthropicStream, "/v1/messages", {"messages": MESSAGES, "max_tokens": 8}, CALL),
        "responses": (ResponsesStream, "/v1/responses", {"input": "Hello"}, CALL),
    }
    kind, path, body, call = kinds[name]
    bill = books().open()
    stream = kind(call, "internal", bill)
    stream.feed((RECORDED / f"{name}.sse").read_bytes())
    assert (stream.done, stream.exact, bill.slot.counts().estimated) == (True, True, False)
    assert estimate.questions(*forwarded(path, body), stream) == []


def test_thoughts_and_the_arguments_of_tools_are_text_too(books: Begin) -> None:
    def event(body: dict[str, Any]) -> bytes:
        return b"event: x\ndata: " + msgspec.json.encode(body) + b"\n\n"

    anthropic = AnthropicStream(CALL, "internal", books().open())
    anthropic.feed(
        event({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm "}})
        + event({"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f", "input": {}}})
        + event({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'}})
    )
    assert str(anthropic.text) == 'hm f{"a":1}'
    responses = ResponsesStream(CALL, "internal", books().open())
    responses.feed(
        event({"type": "response.reasoning_text.delta", "delta": "hm "})
        + event({"type": "response.output_item.added", "item": {"type": "function_call", "name": "f"}})
        + event({"type": "response.function_call_arguments.delta", "delta": '{"a":1}'})
    )
    assert str(responses.text) == 'hm f{"a":1}'


def test_of_a_very_long_text_the_rest_counts_by_its_deltas(books: Begin) -> None:
    bill = books().open()
    stream = AnthropicStream(CALL, "internal", bill)
    delta = b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"%b"}}\n\n' % (b"a" * 400_000)
    for _ in range(5):
        stream.feed(delta)
    found = estimate.questions(*forwarded("/v1/messages", {"messages": MESSAGES, "max_tokens": 8}), stream)[-1]
    assert (len(asked(found)["prompt"]), found.known) == (800_000, 3)
    estimate.take(found, b'{"count":100000}', bill)
    assert bill.slot.counts().completion == 100_003


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"count":-1}', b'{"count":null}', b'{"count":"5"}', b"\xff"])
def test_an_answer_that_cannot_be_read_changes_nothing(books: Begin, answer: bytes) -> None:
    bill = books().open()
    stream = ResponsesStream(CALL, "internal", bill)
    before = bill.slot.counts()
    (found,) = estimate.questions(*forwarded("/v1/responses", {"input": "Hello"}), stream)
    assert not estimate.take(found, answer, bill)
    assert bill.slot.counts() == before
