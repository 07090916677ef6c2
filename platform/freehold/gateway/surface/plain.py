"""The short way from a body to a call, for what is asked most: messages that are plain text, sampling parameters,
tokens allowed. Called by bodies.py.

A body is decoded straight into a struct that knows no field and no type beyond these, and encoded from it. Where that
fails, for whatever reason, the long way decides: it knows all that is allowed, and says what is wrong. So this module
may only take what the long way takes, and must make the same of it (tests/unit/gateway/surface/test_plain.py).
Nothing but text, numbers and flags fits into the structs: no object of the client's own, and no field twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET

from freehold.gateway.surface import plain_bodies
from freehold.gateway.surface.call import Call
from freehold.gateway.surface.plain_bodies import Asked, Chat, Completion, Embedding, Messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from freehold.gateway.surface.call import Surface

_EVERY_USAGE: Final = Asked(include_usage=True, continuous_usage_stats=True)
# As in paths.py and texts.py.
_TEMPLATE_TOKENS: Final = 512
_MESSAGE_TOKENS: Final = 32
_SPECIAL: Final = 16


def _stream_options(body: Chat | Completion, call: Call) -> bool:
    """Sets what the engine must report and what the client sees. False: it is not for this module."""
    options = body.stream_options
    if body.stream:
        call.stream = True
        if isinstance(options, Asked) and options.include_usage is True:
            call.show_usage = True
            call.show_every_usage = options.continuous_usage_stats is True
        body.stream_options = _EVERY_USAGE
        return True
    body.stream_options = UNSET
    return not isinstance(options, Asked)


def _chat(body: Chat, size: int) -> Call | None:
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


def _completion(body: Completion, size: int) -> Call | None:
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


def _embedding(body: Embedding, size: int) -> Call:
    body.user = UNSET
    count = len(body.input) if isinstance(body.input, list) else 1
    return Call(body.model, body, outputs=0, max_tokens_field="", bytes_bound=size + _SPECIAL * count, sequences=count)


def _messages(body: Messages, size: int) -> Call:
    bound = size + _TEMPLATE_TOKENS + _MESSAGE_TOKENS * len(body.messages)
    return Call(body.model, body, stream=body.stream is True, max_tokens=body.max_tokens, bytes_bound=bound)


_KINDS: Final[dict[str, tuple[Any, Callable[[Any, int], Call | None]]]] = {
    "/v1/chat/completions": (plain_bodies.decode_chat, _chat),
    "/v1/completions": (plain_bodies.decode_completion, _completion),
    "/v1/embeddings": (plain_bodies.decode_embedding, _embedding),
    "/v1/messages": (plain_bodies.decode_messages, _messages),
}
_encode: Final = msgspec.json.Encoder().encode


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
