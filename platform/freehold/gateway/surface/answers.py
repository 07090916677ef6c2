"""Answers in one piece: counted, renamed, and refused where the engine aborted; and the engine's own errors,
translated.

Used by relay.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from freehold.gateway.errors import ApiError, Shape
from freehold.gateway.slots import CACHED, PROMPT, REASONING
from freehold.gateway.surface import engine

if TYPE_CHECKING:
    from freehold.gateway.meter import Bill


_decode_answer: Final = engine.decode_answer
_decode_message: Final = engine.decode_message
_decode_response: Final = engine.decode_response
_decode_error: Final = engine.decode_error
_decode_members: Final = engine.decode_members
_encode: Final = msgspec.json.encode
_LONGEST_MESSAGE: Final = 2_000


def _aborted() -> ApiError:
    return ApiError(502, "The engine aborted the answer. Try again.", code="engine_failed")


def _unreadable() -> ApiError:
    return ApiError(502, "The engine's answer cannot be read. Try again.", code="engine_failed")


def count(shape: Shape, body: bytes, bill: Bill) -> None:
    """Writes the answer's own usage into the bill's slot. Raises ApiError 502 where the answer is not a whole one."""
    try:
        if shape is Shape.OPENAI:
            answer = _decode_answer(body)
            if any(choice.finish_reason in ("abort", "error") for choice in answer.choices):
                raise _aborted()
            usage = answer.usage
            numbers = usage.prompt_tokens, usage.cached, usage.completion_tokens or 0, usage.reasoning
        elif shape is Shape.ANTHROPIC:
            message = _decode_message(body)
            if message.stop_reason is None:
                raise _aborted()
            numbers = message.usage.prompt, message.usage.cached, message.usage.output_tokens, 0
        else:
            response = _decode_response(body)
            if response.status in ("failed", "cancelled"):
                raise _aborted()
            given = response.usage
            numbers = given.input_tokens, given.cached, given.output_tokens, given.reasoning
        words = bill.slot.words
        words[PROMPT], words[CACHED], words[REASONING] = numbers[0], numbers[1], numbers[3]
        bill.slot.choice(0, numbers[2])
    except (msgspec.MsgspecError, RecursionError, ValueError):  # ValueError: bytes, or numbers too large for a slot
        raise _unreadable() from None


def take(shape: Shape, body: bytes, served_model_name: str, public: str, bill: Bill) -> bytes:
    """The answer for the client, counted into the bill's slot. Raises ApiError 502."""
    count(shape, body, bill)
    return rename(shape, body, served_model_name, public)


def rename(shape: Shape, body: bytes, served_model_name: str, public: str) -> bytes:
    """The answer with the public model name."""
    if served_model_name == public:
        return body
    if shape is Shape.OPENAI:
        # Inside a JSON string every quote is escaped, and no object in these answers has members of the model's or
        # the client's making whose values are strings: the member's own bytes are the member.
        served = b'"model":' + _encode(served_model_name)
        renamed = body.replace(served, b'"model":' + _encode(public), 1)
        if renamed != body:
            return renamed
    return rename_member(body, public)


def rename_member(body: bytes, public: str) -> bytes:
    """An object with its member `model` changed, whatever else it has: the arguments that a model calls a tool with,
    a client's metadata. What is inside the members is neither looked at nor changed."""
    members = _decode_members(body)
    members["model"] = msgspec.Raw(_encode(public))
    return _encode(members)


def engine_error(status: int, body: bytes, served_model_name: str, public: str) -> ApiError:
    """The engine's own refusal for the client: what it says about the request is passed on, everything else is not."""
    if status in (400, 413, 422, 501):
        try:
            failure = _decode_error(body).error
        except (msgspec.MsgspecError, UnicodeDecodeError):
            failure = engine.EngineFailure("The engine refused the request.")
        message = failure.message.replace(served_model_name, public)[:_LONGEST_MESSAGE]
        return ApiError(413 if status == 413 else 400, message, param=failure.param)
    if status == 404:
        if b'"detail"' in body:  # no such path: an engine has only those that its model is good for
            message = f"The model `{public}` cannot be called at this path."
            return ApiError(400, message, code="wrong_task", param="model")
        return ApiError(503, "The engine does not have the model yet. Try again.", code="engine_busy", retry_after=2)
    if status in (429, 503):
        return ApiError(503, "All replicas of the model are busy. Try again.", code="engine_busy", retry_after=2)
    return ApiError(502, "The engine failed. Try again.", code="engine_failed")
