"""Requests rebuilt from an allowlist of fields: nothing a client writes reaches an engine unless it is named here.

A field is allowed (copied), dropped (its API has it, an engine has no use for it) or refused: known but not taken
here, or unknown, which is a 400 as at OpenAI. Called by app.py. The fields are in paths.py; plain.py is a faster way
to the same result for what is asked most.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from freehold.gateway.errors import ApiError, Shape, invalid
from freehold.gateway.slots import CHOICES
from freehold.gateway.surface import plain
from freehold.gateway.surface.call import Body, Call, Surface
from freehold.gateway.surface.paths import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    MESSAGES,
    RERANK,
    RESPONSES,
    SCORE,
    SURFACES,
)

__all__ = [
    "CHAT",
    "COMPLETIONS",
    "COUNT_TOKENS",
    "EMBEDDINGS",
    "MESSAGES",
    "RERANK",
    "RESPONSES",
    "SCORE",
    "SURFACES",
    "Call",
    "Surface",
    "encode",
    "parse",
    "require_task",
]

MAX_N: Final = 16
MAX_TOKENS: Final = 2**31 - 1
DEPTH: Final = 100  # of nested JSON: engines answer deeper ones with a 500, or not at all
_BYTES_A_TOKEN: Final = 4
_LARGEST_GUESS: Final = 32_768  # images make bodies large, not prompts long


def parse(surface: Surface, raw: bytes) -> Call:
    """The call in a request's body. Raises ApiError 400 naming the field."""
    call = plain.read(surface, raw)
    if call is None:
        call = _read(surface, raw)
    call.prompt_guess = min(max(len(raw) // _BYTES_A_TOKEN, 1), _LARGEST_GUESS)
    return call


def encode(call: Call, *, served_model_name: str, cache_salt: str, max_tokens: int = 0) -> bytes:
    """The bytes for the engine; they become the call's `prefix` too.

    Args:
        max_tokens: what each answer may have, where it is not left to the client and the engine (0).
    """
    body = call.body
    if isinstance(body, dict):
        body["model"] = served_model_name
        if "cache_salt" in body:
            body["cache_salt"] = cache_salt
        if max_tokens and call.max_tokens_field:
            body[call.max_tokens_field] = max_tokens
        call.prefix = msgspec.json.encode(body)
    else:
        call.prefix = plain.write(call, served_model_name, cache_salt, max_tokens)
    return call.prefix


def require_task(surface: Surface, task: str, model: str) -> None:
    """Raises ApiError 400 where the model cannot do what the path is for."""
    if task != surface.task:
        raise ApiError(
            400,
            f"The model `{model}` cannot be called at {surface.path}: its task is `{task}`.",
            code="wrong_task",
            param="model",
        )


def _read(surface: Surface, raw: bytes) -> Call:
    try:
        given = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise invalid("The body is not valid JSON. Send a JSON object.", code="invalid_json") from None
    if not isinstance(given, dict):
        raise invalid("The body must be a JSON object.", code="invalid_json")
    if raw.count(b"[") + raw.count(b"{") > DEPTH:
        _require_shallow(given)
    body = _rebuild(surface, given)
    for name in ("model", *surface.required):
        if body.get(name) is None:
            raise invalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    model = body["model"]
    if not isinstance(model, str) or not model:
        raise invalid("'model' must be a non-empty string.", "model", "invalid_type")
    stream = _flag(body, "stream")
    extent = surface.check(body)
    show_usage, show_every_usage = _stream_options(body, stream) if surface.shape is Shape.OPENAI else (False, False)
    prompts = extent.sequences if surface.max_tokens else 1
    choices = _choice_count(body)
    if prompts * choices > CHOICES:
        raise invalid(f"At most {CHOICES} completions in one request: prompts × n is {prompts * choices}.", "prompt")
    field, max_tokens = _max_tokens(surface, body)
    logprobs = body.get("logprobs")
    if surface.salted:
        body["cache_salt"] = ""  # its place; set by encode
    return Call(
        model=model,
        body=body,
        stream=stream,
        show_usage=show_usage,
        show_every_usage=show_every_usage,
        logprobs=not (logprobs is None or logprobs is False),  # 0 is a number of them
        prompts=prompts,
        choices=choices,
        outputs=prompts * choices if surface.max_tokens else 0,
        max_tokens=max_tokens,
        default_max_tokens=surface.default_max_tokens,
        max_tokens_field=field,
        bytes_bound=len(raw) + extent.margin,
        sequences=extent.sequences,
        media=extent.media,
    )


def _require_shallow(given: Body) -> None:
    level: list[Any] = [given]
    for _ in range(DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    raise invalid(f"The body is nested too deeply. {DEPTH} levels are taken.", code="invalid_json")


def _rebuild(surface: Surface, given: Body) -> Body:
    body: Body = {name: given[name] for name in surface.first if name in given}
    for name, value in given.items():
        if name in surface.allowed:
            body[name] = value
        elif name in surface.refused:
            if value is not None and value is not False:
                raise invalid(f"'{name}' is not supported here: {surface.refused[name]}", name, "unsupported_parameter")
        elif name not in surface.dropped:
            raise invalid(f"Unrecognized request argument supplied: {name[:100]}", name[:100], "unknown_parameter")
    return body


def _flag(body: Body, name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid(f"'{name}' must be true or false.", name, "invalid_type")
    return bool(value)


def _stream_options(body: Body, stream: bool) -> tuple[bool, bool]:
    """Which usage the client wants to see; sets what the engine must report."""
    options = body.pop("stream_options", None)
    if options is not None:
        if not stream:
            raise invalid("'stream_options' is only allowed when 'stream' is true.", "stream_options")
        if not isinstance(options, dict):
            raise invalid("'stream_options' must be an object.", "stream_options", "invalid_type")
        unknown = options.keys() - {"include_usage", "continuous_usage_stats", "include_obfuscation"}
        if unknown:
            name = f"stream_options.{min(unknown)[:100]}"
            raise invalid(f"Unrecognized request argument supplied: {name}", name, "unknown_parameter")
    if not stream:
        return False, False
    body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    if options is None:
        return False, False
    show = _flag(options, "include_usage")
    return show, show and _flag(options, "continuous_usage_stats")


def _choice_count(body: Body) -> int:
    value = body.get("n")
    if value is None:
        body.pop("n", None)
        return 1
    if type(value) is not int or not 1 <= value <= MAX_N:
        raise invalid(f"'n' must be an integer from 1 to {MAX_N}.", "n", "invalid_value")
    return value


def _max_tokens(surface: Surface, body: Body) -> tuple[str, int]:
    """(the field that says how much may be generated, what it says; 0: nothing). Of two fields one is left."""
    found = ""
    for name in surface.max_tokens:
        value = body.get(name)
        if value is None:
            body.pop(name, None)
            continue
        if type(value) is not int or not 1 <= value <= MAX_TOKENS:
            remedy = "" if name in surface.required else " Leave it out to have as much as context and limits allow."
            raise invalid(f"'{name}' must be an integer of at least 1.{remedy}", name, "invalid_value")
        if found:
            del body[name]
        found = found or name
    if found:
        return found, body[found]
    return surface.max_tokens[-1] if surface.max_tokens else "", 0
