"""Whatever stands anywhere in a body: it is taken or refused, and what is taken can be asked about after a cut."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.gateway.errors import ApiError
from freehold.gateway.surface import bodies, estimate

LARGEST = 2 * 1024 * 1024
PNG = "data:image/png;base64,AAAA"
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}}
FORMAT = {"name": "n", "schema": {"type": "object"}, "strict": True}
PAIRS = {"instruction": "i", "truncate_prompt_tokens": 9}
SAMPLING = {
    "temperature": 0.5,
    "top_k": 4,
    "logit_bias": {"5": 1},
    "seed": 1,
    "stop": ["x"],
    "stop_token_ids": [1],
    "ignore_eos": False,
}
SOURCE = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
ANTHROPIC: dict[str, Any] = {
    "model": "m",
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "image", "source": SOURCE}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{"type": "text", "text": "r"}, {"type": "image", "source": SOURCE}],
                    "is_error": False,
                }
            ],
        },
    ],
    "tools": [{"type": "custom", "name": "f", "input_schema": {}, "cache_control": {}}],
    "tool_choice": {"type": "auto"},
    "thinking": {"type": "enabled", "budget_tokens": 5},
    "output_config": {"format": {"type": "json_schema", "schema": {}}},
}
RICH: dict[str, list[dict[str, Any]]] = {  # bodies that are taken and have one of everything
    "/v1/chat/completions": [
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "s", "name": "n"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "t", "cache_control": {}},
                        {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                        {"type": "image_url", "image_url": PNG},
                        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": [{"type": "refusal", "refusal": "no"}],
                    "reasoning": "hm",
                    "refusal": None,
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "c", "content": "r"},
            ],
            "tools": [{"type": "function", "function": FUNCTION}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": FORMAT},
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "n": 2,
            "max_tokens": 5,
            "max_completion_tokens": 5,
            "logprobs": True,
            "reasoning_effort": "low",
            "metadata": {"a": "b"},
            **SAMPLING,
        }
    ],
    "/v1/completions": [
        {"model": "m", "prompt": prompt, "stream": True, "n": 2, "response_format": {"type": "text"}, **SAMPLING}
        for prompt in ("p", ["p", "q"], [1, 2], [[1, 2], [3]])
    ],
    "/v1/embeddings": [
        {"model": "m", "input": given, "encoding_format": "base64", "dimensions": 5}
        for given in ("p", ["p", "q"], [1, 2], [[1, 2], [3]])
    ],
    "/v1/rerank": [{"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1, **PAIRS}],
    "/v1/score": [
        {"model": "m", "text_1": "q", "text_2": ["a", "b"], "queries": None, **PAIRS},
        {"model": "m", "queries": ["p", "q"], "documents": ["a", "b"], "items": None},
        {"model": "m", "data_1": ["q"], "data_2": "a", "text_1": None},
    ],
    "/v1/responses": [
        {
            "model": "m",
            "instructions": "i",
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "t"},
                        {"type": "input_image", "image_url": PNG, "detail": "low", "file_id": None},
                    ],
                },
                {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "s"}], "content": None},
                {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
                {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "o"}]},
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [
                        {"type": "output_text", "text": "t", "annotations": [], "logprobs": []},
                        {"type": "refusal", "refusal": "no"},
                    ],
                },
            ],
            "tools": [{"type": "function", **FUNCTION, "strict": True}],
            "tool_choice": {"type": "function", "name": "f"},
            "text": {"format": {"type": "json_schema", **FORMAT}, "verbosity": "low"},
            "reasoning": {"effort": "low"},
            "include": ["x"],
            "metadata": {"a": "b"},
            "max_output_tokens": 5,
            **SAMPLING,
        },
        {"model": "m", "input": "hi", "background": False},
    ],
    "/v1/messages": [{**ANTHROPIC, "max_tokens": 5, "stream": True, "stop_sequences": ["x"]}],
    "/v1/messages/count_tokens": [ANTHROPIC],
}
ALIKE = {"/v2/rerank": "/v1/rerank", "/rerank": "/v1/rerank", "/score": "/v1/score"}
WORDS = st.sampled_from(
    ["type", "text", "role", "content", "url", "image_url", "input_image", "refusal", "reasoning", "json_schema"]
) | st.text(max_size=3)
ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=4,
)
OTHERS: list[Any] = [None, True, 5, 0.5, "x", "data:,", [], ["x"], [None], [[]], [{}], {}, {"type": []}]
Place = tuple[str | int, ...]


def places(value: Any, here: Place = ()) -> list[Place]:
    """Where a value has values."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([here] if here else []), *(place for key, child in inner for place in places(child, (*here, key)))]


def at(body: Any, place: Place) -> Any:
    """The value there."""
    for key in place:
        body = body[key]
    return body


def changed(body: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """A copy that has another value there."""
    body = copy.deepcopy(body)
    at(body, place[:-1])[place[-1]] = value
    return body


def asked_bytes(path: str, body: dict[str, Any]) -> int | None:
    """Bytes of the questions about a body; None where it is refused."""
    surface = bodies.SURFACES[path]
    try:
        call = bodies.parse(surface, msgspec.json.encode(body))
    except ApiError:
        return None
    assert 1 <= call.prompt_guess <= call.prompt_bound(0)
    encoded = bodies.encode(call, served_model_name="internal", cache_salt="salt", max_tokens=7)
    return sum(len(question.body) for question in estimate.questions(surface, encoded, None))


@pytest.mark.parametrize("path", list(bodies.SURFACES))
def test_bodies_with_one_of_everything_are_taken(path: str) -> None:
    for body in RICH[ALIKE.get(path, path)]:
        asked = asked_bytes(path, body)
        assert asked is not None
        assert bool(asked) == bodies.SURFACES[path].billed


@pytest.mark.parametrize("path", list(bodies.SURFACES))
def test_any_value_anywhere_is_taken_or_refused(path: str) -> None:
    @settings(max_examples=300, deadline=None)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        body = data.draw(st.sampled_from(RICH[ALIKE.get(path, path)]))
        place = data.draw(st.sampled_from(places(body)))
        others = st.sampled_from(places(body)).map(lambda other: at(body, other))  # a value from elsewhere
        asked = asked_bytes(path, changed(body, place, data.draw(ANY | others)))
        assert asked is None or asked <= LARGEST

    check()


@pytest.mark.parametrize("path", list(bodies.SURFACES))
def test_each_value_of_another_type_is_taken_or_refused(path: str) -> None:
    for body in RICH[ALIKE.get(path, path)]:
        for place in places(body):
            for value in OTHERS:
                asked = asked_bytes(path, changed(body, place, value))
                assert asked is None or asked <= LARGEST


@pytest.mark.parametrize("path", list(bodies.SURFACES))
def test_no_body_makes_large_questions(path: str) -> None:
    @settings(max_examples=15, deadline=None)
    @given(data=st.data(), size=st.integers(1000, 2 * LARGEST))
    def check(data: st.DataObject, size: int) -> None:
        body = data.draw(st.sampled_from(RICH[ALIKE.get(path, path)]))
        long = [place for place in places(body) if at(body, place) and isinstance(at(body, place), str | list)]
        for place in data.draw(st.lists(st.sampled_from(long), min_size=1, max_size=2)):
            value: Any = at(body, place) if place in places(body) else "x"
            body = changed(body, place, value * (size // len(msgspec.json.encode(value)) // 2))
        asked = asked_bytes(path, body)
        assert asked is None or asked <= LARGEST

    check()
