"""Answers in one piece: counted, renamed, and refused where the engine aborted; and the engine's own errors,
translated.

Used by relay.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from freehold.gateway.errors import ApiError, Shape
from freehold.gateway.slots import CACHED, PROMPT, REASONING
from freehold.gateway.surface.usage import AnthropicUsage, OpenAIUsage, ResponsesUsage

if TYPE_CHECKING:
    from freehold.gateway.meter import Bill


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _OpenAIAnswer(msgspec.Struct):
    usage: OpenAIUsage
    choices: list[_Choice] = []


class _AnthropicAnswer(msgspec.Struct):
    usage: AnthropicUsage
    stop_reason: str | None = None


class _ResponsesAnswer(msgspec.Struct):
    usage: ResponsesUsage
    status: str


class _EngineFailure(msgspec.Struct):
    message: str = ""
    param: str | None = None


class _EngineError(msgspec.Struct):
    error: _EngineFailure


_openai = msgspec.json.Decoder(_OpenAIAnswer)
_anthropic = msgspec.json.Decoder(_AnthropicAnswer)
_responses = msgspec.json.Decoder(_ResponsesAnswer)
_errors = msgspec.json.Decoder(_EngineError)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])

_LONGEST_MESSAGE = 2_000


def _aborted() -> ApiError:
    return ApiError(502, "The engine aborted the answer. Try again.", code="engine_failed")


def _unreadable() -> ApiError:
    return ApiError(502, "The engine's answer cannot be read. Try again.", code="engine_failed")


def count(shape: Shape, body: bytes, bill: Bill) -> None:
    """Writes the answer's own usage into the bill's slot. Raises ApiError 502 where the answer is not a whole one."""
    try:
        if shape is Shape.OPENAI:
            answer = _openai.decode(body)
            if any(choice.finish_reason in ("abort", "error") for choice in answer.choices):
                raise _aborted()
            usage = answer.usage
            numbers = usage.prompt_tokens, usage.cached, usage.completion_tokens or 0, usage.reasoning
        elif shape is Shape.ANTHROPIC:
            message = _anthropic.decode(body)
            if message.stop_reason is None:
                raise _aborted()
            numbers = message.usage.prompt, message.usage.cached, message.usage.output_tokens, 0
        else:
            response = _responses.decode(body)
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
        served = b'"model":' + msgspec.json.encode(served_model_name)
        renamed = body.replace(served, b'"model":' + msgspec.json.encode(public), 1)
        if renamed != body:
            return renamed
    return rename_member(body, public)


def rename_member(body: bytes, public: str) -> bytes:
    """An object with its member `model` changed, whatever else it has: the arguments that a model calls a tool with,
    a client's metadata. What is inside the members is neither looked at nor changed."""
    members = _members.decode(body)
    members["model"] = msgspec.Raw(msgspec.json.encode(public))
    return msgspec.json.encode(members)


def engine_error(status: int, body: bytes, served_model_name: str, public: str) -> ApiError:
    """The engine's own refusal for the client: what it says about the request is passed on, everything else is not."""
    if status in (400, 413, 422, 501):
        try:
            failure = _errors.decode(body).error
        except (msgspec.MsgspecError, UnicodeDecodeError):
            failure = _EngineFailure("The engine refused the request.")
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
