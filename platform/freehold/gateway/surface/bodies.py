"""Requests rebuilt from an allowlist of fields: nothing a client writes reaches an engine unless it is named here.

A field is allowed (copied), dropped (OpenAI knows it, an engine has no use for it) or refused: known but not taken
here, or unknown, which is a 400 as at OpenAI. Several of the engine's own fields have let strangers run code, read
files or bring a host down (chat_template, media_io_kwargs, mm_processor_kwargs, prompt_embeds, …), therefore an
allowlist. Called by app.py; what may stand inside messages is in parts.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from freehold.gateway.errors import ApiError, Shape, invalid
from freehold.gateway.slots import CHOICES
from freehold.gateway.surface import parts

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_N = 16
_BYTES_A_TOKEN = 4
_LARGEST_GUESS = 32_768  # images make bodies large, not prompts long

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A request that may be forwarded, as soon as its model is known.

    Attributes:
        model: public name asked for.
        body: for the engine; `model` and `cache_salt` are still to be set.
        stream: whether the client wants events.
        show_usage: whether the client asked for the final usage frame.
        show_every_usage: whether it asked for usage on every frame.
        prompts: how many prompts the request has (completions only; else 1).
        choices: answers to each prompt.
        prompt_guess: tokens of the prompt as its size lets one guess; billed (as an estimate) only where the engine
        was cut
            off before it said.
    """

    model: str
    body: Body
    stream: bool = False
    show_usage: bool = False
    show_every_usage: bool = False
    prompts: int = 1
    choices: int = 1
    prompt_guess: int = 1


@dataclass(frozen=True, slots=True)
class Surface:
    """One path and what may be sent to it.

    Attributes:
        path: here and at the engine.
        shape: of errors.
        task: of the routes it can call.
        required: fields without which it is a 400.
        allowed, dropped: see the module.
        refused: known fields that are a 400 unless null, with the remedy.
        check: the fields' contents; may change the body.
    """

    path: str
    shape: Shape
    task: str
    required: tuple[str, ...]
    allowed: frozenset[str]
    dropped: frozenset[str]
    refused: dict[str, str]
    check: Callable[[Body], None]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def parse(surface: Surface, raw: bytes) -> Call:
    """The call in a request's body. Raises ApiError 400 naming the field."""
    try:
        given = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise invalid("The body is not valid JSON. Send a JSON object.", code="invalid_json") from None
    if not isinstance(given, dict):
        raise invalid("The body must be a JSON object.", code="invalid_json")
    body = _rebuild(surface, given)
    for name in ("model", *surface.required):
        if body.get(name) is None:
            raise invalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    model = body["model"]
    if not isinstance(model, str) or not model:
        raise invalid("'model' must be a non-empty string.", "model", "invalid_type")
    stream = _flag(body, "stream")
    surface.check(body)
    show_usage, show_every_usage = _stream_options(body, stream) if surface.shape is Shape.OPENAI else (False, False)
    prompts = _count_texts(body["prompt"], "prompt") if "prompt" in body else 1
    choices = _choice_count(body)
    if prompts * choices > CHOICES:
        raise invalid(f"At most {CHOICES} completions in one request: prompts × n is {prompts * choices}.", "prompt")
    return Call(
        model=model,
        body=body,
        stream=stream,
        show_usage=show_usage,
        show_every_usage=show_every_usage,
        prompts=prompts,
        choices=choices,
        prompt_guess=min(max(len(raw) // _BYTES_A_TOKEN, 1), _LARGEST_GUESS),
    )


def encode(call: Call, *, served_model_name: str, cache_salt: str) -> bytes:
    """The bytes for the engine."""
    return msgspec.json.encode({**call.body, "model": served_model_name, "cache_salt": cache_salt})


def _rebuild(surface: Surface, given: Body) -> Body:
    body: Body = {}
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
        return 1
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_N:
        raise invalid(f"'n' must be an integer from 1 to {MAX_N}.", "n", "invalid_value")
    return value


def _count_texts(given: Any, param: str) -> int:
    """Prompts of a completion, inputs of an embedding: text, texts, tokens, or lists of tokens. Nothing else."""
    if isinstance(given, str):
        return 1
    if isinstance(given, list) and given:
        if all(type(item) is int for item in given):
            return 1
        texts = all(isinstance(item, str) for item in given)
        if texts or all(isinstance(item, list) and all(type(token) is int for token in item) for item in given):
            return len(given)
    raise invalid(
        f"'{param}' must be a string, a list of strings, a list of tokens or a list of those.", param, "invalid_type"
    )


def _check_chat(body: Body) -> None:
    parts.check_messages(body["messages"])
    parts.check_response_format(body.get("response_format"), "response_format")
    parts.check_function_tools(body.get("tools"))


def _check_completion(body: Body) -> None:
    parts.check_response_format(body.get("response_format"), "response_format")


def _check_embedding(body: Body) -> None:
    # The engine also takes chat messages here, whose images it would fetch.
    _count_texts(body["input"], "input")
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise invalid("'encoding_format' must be 'float' or 'base64'.", "encoding_format", "invalid_value")


def _check_responses(body: Body) -> None:
    parts.check_items(body["input"])
    parts.check_function_tools(body.get("tools"))
    text = body.get("text")
    if isinstance(text, dict):
        parts.check_response_format(text.get("format"), "text.format")
    body["store"] = False


def _check_anthropic(body: Body) -> None:
    parts.check_anthropic(body["messages"], body.get("system"))
    parts.check_anthropic_tools(body.get("tools"))


_SAMPLING = (
    "temperature top_p top_k min_p presence_penalty frequency_penalty repetition_penalty logit_bias seed stop "
    "stop_token_ids ignore_eos include_stop_str_in_output skip_special_tokens"
)
_FOR_THE_BILL = "user metadata service_tier safety_identifier prompt_cache_key prompt_cache_retention"
_TEMPLATE = "the endpoint's own chat template is used."
_MEDIA = "images go into the messages as data: URLs."
_OWN = "it is set by the platform."
_ENGINE_REFUSED = {
    "chat_template": _TEMPLATE,
    "chat_template_kwargs": _TEMPLATE,
    "media_io_kwargs": _MEDIA,
    "mm_processor_kwargs": _MEDIA,
    "mm_payload": _MEDIA,
    "prompt_embeds": "send text or tokens.",
    "bad_words": "use 'logit_bias'.",
    "cache_salt": _OWN,
    "request_id": _OWN,
    "priority": _OWN,
}

CHAT = Surface(
    path="/v1/chat/completions",
    shape=Shape.OPENAI,
    task="generate",
    required=("messages",),
    allowed=_names(
        "model messages stream stream_options n max_tokens max_completion_tokens logprobs top_logprobs response_format "
        f"tools tool_choice parallel_tool_calls reasoning_effort include_reasoning min_tokens {_SAMPLING}"
    ),
    dropped=_names(f"{_FOR_THE_BILL} store prediction verbosity modalities"),
    refused={
        **_ENGINE_REFUSED,
        "audio": "models answer in text.",
        "functions": "use 'tools'.",
        "function_call": "use 'tool_choice'.",
        "web_search_options": "the model has no access to the web.",
    },
    check=_check_chat,
)
COMPLETIONS = Surface(
    path="/v1/completions",
    shape=Shape.OPENAI,
    task="generate",
    required=("prompt",),
    allowed=_names(
        f"model prompt stream stream_options n max_tokens logprobs echo suffix response_format min_tokens {_SAMPLING}"
    ),
    dropped=_names(_FOR_THE_BILL),
    refused={**_ENGINE_REFUSED, "best_of": "use 'n'."},
    check=_check_completion,
)
EMBEDDINGS = Surface(
    path="/v1/embeddings",
    shape=Shape.OPENAI,
    task="embed",
    required=("input",),
    allowed=_names("model input encoding_format dimensions truncate_prompt_tokens"),
    dropped=_names(_FOR_THE_BILL),
    refused=_ENGINE_REFUSED,
    check=_check_embedding,
)
RESPONSES = Surface(
    path="/v1/responses",
    shape=Shape.RESPONSES,
    task="generate",
    required=("input",),
    allowed=_names(
        "model input instructions stream max_output_tokens max_tool_calls metadata parallel_tool_calls reasoning text "
        f"tool_choice tools top_logprobs truncation include {_SAMPLING}"
    ),
    dropped=_names("user service_tier safety_identifier prompt_cache_key prompt_cache_retention store stream_options"),
    refused={
        **_ENGINE_REFUSED,
        "previous_response_id": "responses are never stored; send the whole conversation in 'input'.",
        "conversation": "responses are never stored; send the whole conversation in 'input'.",
        "background": "responses are never stored; wait for the answer or stream it.",
        "prompt": "prompt templates are not kept here; send the text.",
        "context_management": "send what the model shall see.",
    },
    check=_check_responses,
)
MESSAGES = Surface(
    path="/v1/messages",
    shape=Shape.ANTHROPIC,
    task="generate",
    required=("messages", "max_tokens"),
    allowed=_names(
        "model messages max_tokens system stop_sequences stream temperature tool_choice tools top_k top_p thinking "
        "output_config"
    ),
    dropped=_names("metadata service_tier cache_control inference_geo"),
    refused={
        **_ENGINE_REFUSED,
        "container": "the platform runs no containers for a model.",
        "mcp_servers": "the platform calls no servers for a model.",
        "context_management": "send what the model shall see.",
    },
    check=_check_anthropic,
)

SURFACES = {surface.path: surface for surface in (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES)}


def require_task(surface: Surface, task: str, model: str) -> None:
    """Raises ApiError 400 where the model cannot do what the path is for."""
    if task != surface.task:
        raise ApiError(
            400,
            f"The model `{model}` cannot be called at {surface.path}: its task is `{task}`.",
            code="wrong_task",
            param="model",
        )
