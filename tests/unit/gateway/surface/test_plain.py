"""The short way and the long way from a body to a call agree, whatever the body is."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.gateway.errors import ApiError
from freehold.gateway.surface import bodies, plain
from freehold.gateway.surface.call import Call

TEXT = st.text(max_size=8) | st.sampled_from(["http://x", "url", '{"url":1}', "\\u0075rl", "data:,", "a\nb", "float\n"])
ODD: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
PLAIN: dict[str, st.SearchStrategy[Any]] = {  # values that the short way takes
    "stream": st.none() | st.booleans(),
    "n": st.integers(1, 16),
    "max_tokens": st.integers(1, 2**31 - 1),
    "max_completion_tokens": st.integers(1, 2**31 - 1),
    "stop": st.none() | TEXT | st.lists(TEXT, max_size=3),
    "stop_sequences": st.none() | st.lists(TEXT, max_size=3),
    "user": st.none() | TEXT,
    "system": st.none() | TEXT,
    "encoding_format": st.sampled_from(["float", "base64", None]),
    "dimensions": st.none() | st.integers(-1, 500),
    "top_logprobs": st.none() | st.integers(0, 20),
    "top_k": st.none() | st.integers(-1, 2**70),
    "seed": st.none() | st.integers(-(2**70), 2**70),
    **{
        name: st.none() | st.integers(-3, 3) | st.floats(-2, 2)
        for name in (
            "temperature",
            "top_p",
            "min_p",
            "presence_penalty",
            "frequency_penalty",
            "repetition_penalty",
        )
    },
}
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "video_url"])},
    optional={"text": TEXT, "image_url": st.fixed_dictionaries({"url": TEXT}) | TEXT, "x": ODD},
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]) | ODD},
    optional={
        "content": st.none() | TEXT | st.lists(PART, max_size=2) | ODD,
        "name": TEXT | ODD,
        "tool_calls": ODD,
        "refusal": st.none(),
        "url": TEXT,
    },
)
SPOILT: dict[str, st.SearchStrategy[Any]] = {  # values that it may not take, or that nobody takes
    "messages": st.lists(MESSAGE, max_size=3) | ODD,
    "n": st.integers(-1, 20) | st.none() | st.just(1.0) | ODD,
    "max_tokens": st.sampled_from([0, -1, 2**31, 2**64, 1.0, None, True]) | ODD,
    "max_completion_tokens": st.sampled_from([0, 2**31, None]) | ODD,
    "stream_options": st.none()
    | st.dictionaries(
        st.sampled_from(["include_usage", "continuous_usage_stats", "include_obfuscation", "x"]), st.booleans() | ODD
    ),
    "logprobs": st.none() | st.booleans() | st.integers(0, 3) | ODD,
    "prompt": st.lists(TEXT, max_size=3) | ODD,
    "input": st.lists(st.integers(0, 9) | TEXT, max_size=3) | ODD,
    "encoding_format": st.sampled_from(["float\n", "bytes", ""]) | ODD,
    "tools": st.none() | ODD,
    "metadata": ODD,
    "chat_template": TEXT | st.none(),
    **dict.fromkeys(("model", "stream", "stop", "user", "temperature", "top_k", "system", "anything"), ODD),
}
MESSAGES = st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT}), min_size=1, max_size=3)
NAMED = st.fixed_dictionaries(
    {"role": TEXT}, optional={"content": st.none() | TEXT, "name": TEXT}
)  # what chat completions take beyond Anthropic's messages
REQUIRED: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "/v1/chat/completions": {"messages": MESSAGES | st.lists(NAMED, min_size=1, max_size=3)},
    "/v1/completions": {"prompt": TEXT},
    "/v1/embeddings": {"input": TEXT | st.lists(TEXT, min_size=1, max_size=3)},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": PLAIN["max_tokens"]},
}


@st.composite
def any_body(draw: st.DrawFn, path: str) -> dict[str, Any]:
    """A body that the short way takes, or one that was such until a field or two were spoilt."""
    body = {"model": draw(st.sampled_from(["m", "acme/chat"]))}
    body |= {name: draw(values) for name, values in REQUIRED[path].items()}
    optional = [name for name in PLAIN if name in bodies.SURFACES[path].allowed and name not in body]
    for name in draw(st.lists(st.sampled_from(sorted(optional)), unique=True, max_size=4)):
        body[name] = draw(PLAIN[name])
    for name in draw(st.lists(st.sampled_from(sorted(SPOILT)), max_size=2)):
        body[name] = draw(SPOILT[name])
    return body


def read(surface: bodies.Surface, raw: bytes, *, shortly: bool) -> tuple[dict[str, Any], Any] | str | None:
    """(call, what the engine gets) by one of the two ways; how it was refused; None: not taken."""
    try:
        call = plain.read(surface, raw) if shortly else bodies._read(surface, raw)
        if call is None:
            return None
        encoded = bodies.encode(call, served_model_name="internal", cache_salt="salt", max_tokens=7)
    except ApiError as error:
        return f"{error.code} {error.param}"
    call.forget()
    call.prefix = b""
    return {name: getattr(call, name) for name in Call.__slots__}, msgspec.json.decode(encoded)


@pytest.mark.parametrize("path", list(REQUIRED))
def test_both_ways_agree(path: str) -> None:
    taken = 0
    surface = bodies.SURFACES[path]

    @settings(max_examples=400, deadline=None)
    @given(body=any_body(path))
    def agree(body: dict[str, Any]) -> None:
        nonlocal taken
        raw = msgspec.json.encode(body)
        short = read(surface, raw, shortly=True)
        if short is not None:
            taken += 1
            assert short == read(surface, raw, shortly=False)

    agree()
    assert taken > 50


def test_what_is_asked_most_goes_the_short_way() -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    body = {
        "model": "m",
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 128,
        "temperature": 0.7,
        "user": "somebody",
    }
    call = plain.read(bodies.CHAT, msgspec.json.encode(body))
    assert call is not None
    assert (call.stream, call.show_usage, call.max_tokens) == (True, True, 128)
    assert plain.read(bodies.CHAT, msgspec.json.encode({**body, "tools": []})) is None


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=40) | st.builds(lambda a, b: b'{"model":"m",' + a + b + b"}", st.binary(), st.binary()))
def test_whatever_the_bytes_are_nothing_but_a_refusal_is_raised(raw: bytes) -> None:
    for surface in bodies.SURFACES.values():
        with suppress(ApiError):
            bodies.parse(surface, raw)
