"""Frames that vLLM 0.32 sent (recorded/), read the short way and the long way: the client gets the same bytes and the
slot the same numbers. Also where an engine sends what it never did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.gateway.slots import Counts
from freehold.gateway.surface.call import Call
from freehold.gateway.surface.frames import Shortcut
from freehold.gateway.surface.sse import OpenAIStream
from tests.unit.gateway.conftest import Books

RECORDED = Path(__file__).with_name("recorded")
PLAIN = ["chat", "chat_tool", "completion"]  # one answer, no logprobs
CALL = Call("acme/chat", {}, stream=True)


def recorded(name: str) -> list[bytes]:
    """The events of a recorded stream, each with its blank line."""
    return [event + b"\n\n" for event in (RECORDED / f"{name}.sse").read_bytes().split(b"\n\n")[:-1]]


def relay(books: Books, frames: list[bytes], call: Call, *, shortly: bool) -> tuple[bytes, Counts, bool, str | None]:
    """(what the client gets, the slot's numbers, done, failure)."""
    bill = books.open()
    stream = OpenAIStream(call, "internal", bill)
    if not shortly:
        stream._shortcut = None
    out = b"".join(stream.feed(event) for event in frames)
    counts = bill.slot.counts()
    books.slots.give_back(bill.slot)
    return out, counts, stream.done, stream.failure


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Books:
    return Books(tmp_path_factory.mktemp("frames"))


@pytest.mark.parametrize("show", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_recorded_streams_are_read_alike(life: Books, name: str, show: bool) -> None:
    call = Call("acme/chat", {}, stream=True, show_usage=show)
    frames = recorded(name)
    assert relay(life, frames, call, shortly=True) == relay(life, frames, call, shortly=False)


@pytest.mark.parametrize("name", ["chat", "completion"])
def test_most_frames_are_read_the_short_way(name: str) -> None:
    shortcut = Shortcut(b'"model":"internal"', b'"model":"acme/chat"')
    events = [event[:-2] for event in recorded(name) if b'"finish_reason":null' in event]
    read = 0
    for event in events:
        if shortcut.read(event) is None:
            shortcut.learn(event)
        else:
            read += 1
    assert read >= len(events) - 2 >= 5


def reasoning(event: bytes, tokens: int) -> bytes:
    """The frame as an engine with a reasoning parser sends it."""
    details = b'"completion_tokens_details":{"reasoning_tokens":%d}' % tokens
    return event.replace(b'"completion_tokens_details":null', details)


def test_reasoning_tokens_are_counted_frame_by_frame(life: Books) -> None:
    role, *content = recorded("chat")[:6]
    frames = [role] + [reasoning(event, number + 1) for number, event in enumerate(content)]
    short, long = (relay(life, frames, CALL, shortly=shortly) for shortly in (True, False))
    assert short == long
    assert short[1].reasoning == 5
    assert b"reasoning_tokens" not in short[0]


TEXTS = [
    '"usage":{"prompt_tokens":1}',
    ',"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":19,"total_tokens":5,"completion_tokens":9}}',
    '"model":"internal"',
    'data: {"choices":[{"index":0,',
    "\n\ndata: [DONE]\n\n",
    '","finish_reason":"abort',
    "\\",
    '\\"',
    "ä€😀\x00\x7f",
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.sampled_from(TEXTS) | st.text(max_size=30), min_size=1, max_size=6))
def test_whatever_a_model_writes_reaches_the_client_and_changes_no_number(life: Books, texts: list[str]) -> None:
    role, content = recorded("chat")[:2]
    frames = [role, content] + [content.replace(b'"it"', msgspec.json.encode(text)) for text in texts]
    short, long = (relay(life, frames, CALL, shortly=shortly) for shortly in (True, False))
    assert short == long
    out, counts, *_ = short
    events: list[Any] = [msgspec.json.decode(event[6:]) for event in out.split(b"\n\n")[:-1]]
    assert [event["choices"][0]["delta"].get("content") for event in events] == ["", "it", *texts]
    assert all(event["model"] == "acme/chat" and "usage" not in event for event in events)
    assert (counts.prompt, counts.completion) == (19, 1)


FRAGMENTS = [
    b"",
    b'"',
    b"}",
    b"{",
    b"]",
    b",",
    b"1",
    b"null",
    b'"finish_reason":"abort",',
    b',"finish_reason":"stop"',
    b',"finish_reason":null',
    b'"index":3,',
    b'"index":0,',
    b'{"index":1,"delta":{},"finish_reason":"error"},',
    b',"error":{"message":"x"}',
    b',"usage":null',
    b',"usage":{"prompt_tokens":7,"total_tokens":9,"completion_tokens":2}',
    b'"model":"internal",',
    b'"model":"other",',
    b',"x":{"y":{}}',
    b"\n\n",
    b"\\",
    b"99999999999",
]


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(PLAIN))
def test_frames_that_no_engine_sends_are_read_alike(life: Books, data: st.DataObject, name: str) -> None:
    frames = recorded(name)
    for _ in range(data.draw(st.integers(1, 2))):
        number = data.draw(st.integers(0, len(frames) - 1))
        event = frames[number]
        structure = [at for at, byte in enumerate(event) if byte in b'{}[],:"']
        start = data.draw(st.sampled_from([0, len(event), *structure]))
        end = start + data.draw(st.integers(0, 3))
        frames[number] = event[:start] + data.draw(st.sampled_from(FRAGMENTS)) + event[end:]
    assert relay(life, frames, CALL, shortly=True) == relay(life, frames, CALL, shortly=False)


def test_several_choices_logprobs_and_usage_on_every_frame_go_the_long_way(life: Books) -> None:
    for name, call in (
        ("chat_n2", Call("acme/chat", {}, stream=True, choices=2, outputs=2)),
        ("completion_prompts", Call("acme/chat", {}, stream=True, prompts=2, choices=2, outputs=4)),
        ("chat_logprobs", Call("acme/chat", {}, stream=True, logprobs=True)),
        ("completion_logprobs", Call("acme/chat", {}, stream=True, logprobs=True)),
        ("chat", Call("acme/chat", {}, stream=True, show_usage=True, show_every_usage=True)),
    ):
        bill = life.open()
        stream = OpenAIStream(call, "internal", bill)
        assert stream._shortcut is None
        frames = recorded(name)
        content = [event for event in frames if b'"choices":[{' in event]
        out = b"".join(stream.feed(event) for event in content)
        assert stream.exact
        by_frame = bill.slot.counts()
        out += b"".join(stream.feed(event) for event in frames[len(content) :])
        assert stream.done
        assert by_frame.completion == bill.slot.counts().completion > 0
        assert by_frame.prompt == bill.slot.counts().prompt
        assert b"internal" not in out
        assert (b'"usage":{' in out) == call.show_usage
        life.slots.give_back(bill.slot)
