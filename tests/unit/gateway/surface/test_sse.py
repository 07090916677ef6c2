"""Frames as vLLM 0.32 sends them, cut anywhere."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.gateway.surface.call import Call
from freehold.gateway.surface.sse import AnthropicStream, OpenAIStream, ResponsesStream
from tests.unit.gateway.conftest import Books

Begin = Callable[..., Books]
HEAD = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795450119,"model":"internal","choices":'


def chunk(index: int, tokens: int, content: bytes = b"a", finish: bytes = b"null") -> bytes:
    """A content frame, byte for byte."""
    choice = b'{"index":%d,"delta":{"content":"%s"},"logprobs":null,"finish_reason":%s,"token_ids":null}'
    usage = b'{"prompt_tokens":18,"total_tokens":%d,"completion_tokens":%d,"completion_tokens_details":null}'
    return HEAD + b"[" + choice % (index, content, finish) + b'],"usage":' + usage % (18 + tokens, tokens) + b"}\n\n"


FINAL = (
    HEAD + b'[],"usage":{"prompt_tokens":18,"total_tokens":21,"completion_tokens":3,'
    b'"prompt_tokens_details":{"cached_tokens":16,"created_cache_tokens":0}},"system_fingerprint":"vllm-0.32.0"}\n\n'
)
DONE = b"data: [DONE]\n\n"
WHOLE = chunk(0, 1) + chunk(1, 1) + chunk(0, 2, finish=b'"stop"') + FINAL + DONE
CALL = Call("acme/chat", {}, stream=True, choices=2)


def test_tokens_of_each_choice_are_counted_as_they_are_relayed(books: Begin) -> None:
    bill = books().open()
    stream = OpenAIStream(CALL, "internal", bill)
    stream.feed(chunk(0, 1) + chunk(1, 1) + chunk(0, 2))
    counts = bill.slot.counts()
    assert (counts.prompt, counts.completion) == (18, 3)
    stream.feed(FINAL)
    counts = bill.slot.counts()
    assert (counts.completion, counts.cached) == (3, 16)
    assert not stream.done
    stream.feed(DONE)
    assert stream.done


def test_the_name_is_changed_and_usage_is_taken_out(books: Begin) -> None:
    out = OpenAIStream(CALL, "internal", books().open()).feed(WHOLE)
    expected = (chunk(0, 1) + chunk(1, 1) + chunk(0, 2, finish=b'"stop"')).replace(b'"internal"', b'"acme/chat"')
    for tokens in (1, 2):
        usage = (
            b',"usage":{"prompt_tokens":18,"total_tokens":%d,"completion_tokens":%d,"completion_tokens_details":null}'
        )
        expected = expected.replace(usage % (18 + tokens, tokens), b"")
    assert out == expected + DONE


def test_text_that_looks_like_usage_or_a_name_is_left_alone(books: Begin) -> None:
    text = rb",\"usage\":{\"a\":1},\"model\":\"internal\""
    out = OpenAIStream(CALL, "internal", books().open()).feed(chunk(0, 1, text))
    assert text in out
    assert b'"prompt_tokens"' not in out


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_where_the_bytes_are_cut_makes_no_difference(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    life = Books(tmp_path_factory.mktemp("cuts"))
    whole = OpenAIStream(CALL, "internal", life.open()).feed(WHOLE)
    bill = life.open()
    stream = OpenAIStream(CALL, "internal", bill)
    edges = [0, *sorted(cuts), len(WHOLE)]
    out = b"".join(stream.feed(WHOLE[start:end]) for start, end in pairwise(edges))
    assert out == whole
    assert bill.slot.counts().completion == 3


@pytest.mark.parametrize(
    "broken",
    [
        b'data: {"error":{"message":"EngineCore encountered an issue.","type":"X","param":null,"code":500}}\n\n',
        chunk(0, 2, finish=b'"abort"'),
        b"data: {nonsense\n\n",
        b'data: {"choices":"no"}\n\n',
    ],
)
def test_after_a_failure_nothing_but_an_error_follows(books: Begin, broken: bytes) -> None:
    bill = books().open()
    stream = OpenAIStream(CALL, "internal", bill)
    out = stream.feed(chunk(0, 1) + broken + DONE)
    assert stream.failure is not None
    assert not stream.done
    assert b"[DONE]" not in out
    assert out.count(b'"error"') == 1
    assert bill.slot.counts().completion == 1
    assert stream.finish() == b""


def test_an_end_without_done_is_an_error(books: Begin) -> None:
    stream = OpenAIStream(CALL, "internal", books().open())
    stream.feed(chunk(0, 1) + FINAL)
    assert b'"error"' in stream.finish()


def test_prompts_not_seen_yet_make_a_completion_estimated(books: Begin) -> None:
    bill = books().open()
    stream = OpenAIStream(Call("acme/chat", {}, stream=True, prompts=2, choices=2), "internal", bill)
    stream.feed(chunk(0, 1))
    assert (bill.slot.counts().prompt, bill.slot.counts().estimated) == (18, True)
    stream.feed(chunk(2, 1))
    assert (bill.slot.counts().prompt, bill.slot.counts().estimated) == (36, False)


def test_an_anthropic_stop_without_a_reason_is_an_abort(books: Begin) -> None:
    stream = AnthropicStream(CALL, "internal", books().open())
    out = stream.feed(
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":null,"stop_sequence":null},'
        b'"usage":{"input_tokens":2,"output_tokens":4,"cache_read_input_tokens":16}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )
    assert out.startswith(b"event: error\n")
    assert b"message_stop" not in out


def test_anthropic_prompts_include_what_came_from_the_cache(books: Begin) -> None:
    bill = books().open()
    stream = AnthropicStream(CALL, "internal", bill)
    stream.feed(
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
        b'"usage":{"input_tokens":2,"output_tokens":4,"cache_read_input_tokens":16}}\n\n'
    )
    counts = bill.slot.counts()
    assert (counts.prompt, counts.cached, counts.completion, counts.estimated) == (18, 16, 4, False)


def test_a_response_without_its_end_is_estimated_and_an_error(books: Begin) -> None:
    bill = books().open()
    stream = ResponsesStream(Call("acme/chat", {}, stream=True, prompt_guess=7), "internal", bill)
    kind = b"response.output_text.delta"
    delta = b'event: %s\ndata: {"type":"%s","sequence_number":4,"delta":"a"}\n\n' % (kind, kind)
    assert stream.feed(delta) == delta
    assert b'"sequence_number":5' in stream.finish()
    counts = bill.slot.counts()
    assert (counts.prompt, counts.completion, counts.estimated) == (7, 1, True)
