"""The short way from a body to a call, for what is asked most: messages that are plain text, sampling parameters,
tokens allowed. Called by bodies.py.

A body is decoded straight into a struct that knows no field and no type beyond these, and encoded from it. Where that
fails, for whatever reason, the long way decides: it knows all that is allowed, and says what is wrong. So this module
may only take what the long way takes, and must make the same of it (tests/unit/gateway/surface/test_plain.py).
Nothing but text, numbers and flags fits into the structs: no object of the client's own, and no field twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from freehold.gateway.surface.call import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from freehold.gateway.surface.call import Surface

_Number = float | int | UnsetType | None
_Whole = int | UnsetType | None
_Flag = bool | UnsetType | None
_Text = str | UnsetType | None
_Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)] | UnsetType
_Count = Annotated[int, Meta(ge=1, le=16)] | UnsetType
_Name = Annotated[str, Meta(min_length=1)]


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: _Text = UNSET
    name: str | UnsetType = UNSET


class _Asked(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    include_usage: _Flag = UNSET
    continuous_usage_stats: _Flag = UNSET
    include_obfuscation: _Flag = UNSET


class _Chat(msgspec.Struct, forbid_unknown_fields=True):
    messages: Annotated[list[_Message], Meta(min_length=1)]
    model: _Name
    stream: _Flag = UNSET
    stream_options: _Asked | UnsetType | None = UNSET
    n: _Count = UNSET
    max_tokens: _Tokens = UNSET
    max_completion_tokens: _Tokens = UNSET
    temperature: _Number = UNSET
    top_p: _Number = UNSET
    top_k: _Whole = UNSET
    min_p: _Number = UNSET
    presence_penalty: _Number = UNSET
    frequency_penalty: _Number = UNSET
    repetition_penalty: _Number = UNSET
    seed: _Whole = UNSET
    stop: str | list[str] | UnsetType | None = UNSET
    logprobs: _Flag = UNSET
    top_logprobs: _Whole = UNSET
    user: _Text = UNSET


class _Completion(msgspec.Struct, forbid_unknown_fields=True):
    prompt: str
    model: _Name
    stream: _Flag = UNSET
    stream_options: _Asked | UnsetType | None = UNSET
    n: _Count = UNSET
    max_tokens: _Tokens = UNSET
    temperature: _Number = UNSET
    top_p: _Number = UNSET
    top_k: _Whole = UNSET
    seed: _Whole = UNSET
    stop: str | list[str] | UnsetType | None = UNSET
    logprobs: _Whole = UNSET
    user: _Text = UNSET


class _Embedding(msgspec.Struct, forbid_unknown_fields=True):
    input: str | Annotated[list[str], Meta(min_length=1)]
    model: _Name
    encoding_format: Literal["float", "base64"] | UnsetType | None = UNSET
    dimensions: _Whole = UNSET
    user: _Text = UNSET


class _AnthropicMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: str


class _Messages(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    system: _Text = UNSET
    messages: Annotated[list[_AnthropicMessage], Meta(min_length=1)]
    model: _Name
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    stream: _Flag = UNSET
    temperature: _Number = UNSET
    top_p: _Number = UNSET
    top_k: _Whole = UNSET
    stop_sequences: list[str] | UnsetType | None = UNSET


_EVERY_USAGE = _Asked(include_usage=True, continuous_usage_stats=True)
_TEMPLATE_TOKENS, _MESSAGE_TOKENS, _SPECIAL = 512, 32, 16  # as in paths.py and texts.py


def _stream_options(body: _Chat | _Completion, call: Call) -> bool:
    """Sets what the engine must report and what the client sees. False: it is not for this module."""
    options = body.stream_options
    if body.stream:
        call.stream = True
        if isinstance(options, _Asked) and options.include_usage is True:
            call.show_usage = True
            call.show_every_usage = options.continuous_usage_stats is True
        body.stream_options = _EVERY_USAGE
        return True
    body.stream_options = UNSET
    return not isinstance(options, _Asked)


def _chat(body: _Chat, size: int) -> Call | None:
    body.user = UNSET
    call = Call(body.model, body)
    if not _stream_options(body, call):
        return None
    if body.max_completion_tokens is not UNSET:
        call.max_tokens, call.max_tokens_field = body.max_completion_tokens, "max_completion_tokens"
        body.max_tokens = UNSET
    elif body.max_tokens is not UNSET:
        call.max_tokens = body.max_tokens
    if body.n is not UNSET:
        call.choices = call.outputs = body.n
    call.logprobs = body.logprobs is True
    call.bytes_bound = size + _TEMPLATE_TOKENS + _MESSAGE_TOKENS * len(body.messages)
    return call


def _completion(body: _Completion, size: int) -> Call | None:
    body.user = UNSET
    call = Call(body.model, body, default_max_tokens=16, bytes_bound=size + _SPECIAL)
    if not _stream_options(body, call):
        return None
    if body.max_tokens is not UNSET:
        call.max_tokens = body.max_tokens
    if body.n is not UNSET:
        call.choices = call.outputs = body.n
    call.logprobs = body.logprobs is not UNSET and body.logprobs is not None
    return call


def _embedding(body: _Embedding, size: int) -> Call:
    body.user = UNSET
    count = len(body.input) if isinstance(body.input, list) else 1
    return Call(body.model, body, outputs=0, max_tokens_field="", bytes_bound=size + _SPECIAL * count, sequences=count)


def _messages(body: _Messages, size: int) -> Call:
    bound = size + _TEMPLATE_TOKENS + _MESSAGE_TOKENS * len(body.messages)
    return Call(body.model, body, stream=body.stream is True, max_tokens=body.max_tokens, bytes_bound=bound)


_KINDS: dict[str, tuple[Any, Callable[[Any, int], Call | None]]] = {
    "/v1/chat/completions": (msgspec.json.Decoder(_Chat).decode, _chat),
    "/v1/completions": (msgspec.json.Decoder(_Completion).decode, _completion),
    "/v1/embeddings": (msgspec.json.Decoder(_Embedding).decode, _embedding),
    "/v1/messages": (msgspec.json.Decoder(_Messages).decode, _messages),
}
_encode = msgspec.json.Encoder().encode


def read(surface: Surface, raw: bytes) -> Call | None:
    """The call in a plain body; None where it is not one. `prompt_guess` is left to bodies.py."""
    kind = _KINDS.get(surface.path)
    if kind is None:
        return None
    try:
        body = kind[0](raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return kind[1](body, len(raw))


def write(call: Call, served_model_name: str, cache_salt: str, max_tokens: int) -> bytes:
    """The bytes for the engine, of a call that `read` made."""
    body: Any = call.body
    body.model = served_model_name
    if max_tokens and call.max_tokens_field:
        setattr(body, call.max_tokens_field, max_tokens)
    # No struct has the field, so that no client can send it.
    return b"".join((memoryview(_encode(body))[:-1], b',"cache_salt":', _encode(cache_salt), b"}"))
