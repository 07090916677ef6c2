"""The paths that applications may call, and for each the fields that may be sent: an allowlist.

Several of the engine's own fields have let strangers run code, read files or bring a host down (chat_template,
media_io_kwargs, mm_processor_kwargs, prompt_embeds, …). Used by bodies.py.
"""

from __future__ import annotations

from freehold.gateway.errors import Shape, invalid
from freehold.gateway.surface import blocks, items, parts, texts
from freehold.gateway.surface.call import Body, Extent, Surface

_TEMPLATE_TOKENS = 512  # of a chat template: a default system prompt, instructions for tools
_MESSAGE_TOKENS = 32  # around each message and each tool


def _chat_extent(count: int, media: int) -> Extent:
    return Extent(margin=_TEMPLATE_TOKENS + _MESSAGE_TOKENS * count, media=media)


_CHAT_FORMAT = frozenset({"type", "json_schema"})
_TEXT_FORMAT = frozenset({"type", "name", "schema", "strict", "description"})


def _check_chat(body: Body) -> Extent:
    media = parts.check_messages(body["messages"])
    parts.check_response_format(body.get("response_format"), "response_format", _CHAT_FORMAT)
    tools = parts.check_function_tools(body.get("tools"))
    return _chat_extent(len(body["messages"]) + tools, media)


def _check_completion(body: Body) -> Extent:
    parts.check_response_format(body.get("response_format"), "response_format", _CHAT_FORMAT)
    return texts.extent_of_texts(texts.count_texts(body["prompt"], "prompt"))


def _check_embedding(body: Body) -> Extent:
    count = texts.count_texts(body["input"], "input")
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise invalid("'encoding_format' must be 'float' or 'base64'.", "encoding_format", "invalid_value")
    return texts.extent_of_texts(count)


def _check_responses(body: Body) -> Extent:
    count, media = items.check_items(body["input"])
    tools = parts.check_function_tools(body.get("tools"))
    if not isinstance(body.get("instructions"), str | None):
        raise parts.wrong_type("instructions", "a string")
    text = body.get("text")
    if text is not None:
        if not isinstance(text, dict):
            raise parts.wrong_type("text", "an object")
        parts.require_only(text, frozenset({"format", "verbosity"}), "text")
        parts.check_response_format(text.get("format"), "text.format", _TEXT_FORMAT)
    body["store"] = False
    return _chat_extent(count + tools, media)


def _check_anthropic(body: Body) -> Extent:
    media = blocks.check_anthropic(body["messages"], body.get("system"))
    tools = blocks.check_anthropic_tools(body.get("tools"))
    return _chat_extent(len(body["messages"]) + tools, media)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SAMPLING = (
    "temperature top_p top_k min_p presence_penalty frequency_penalty repetition_penalty logit_bias seed stop "
    "stop_token_ids ignore_eos include_stop_str_in_output skip_special_tokens"
)
_CACHE = "prompt_cache_key prompt_cache_options prompt_cache_retention"
_FOR_THE_BILL = f"user metadata service_tier safety_identifier {_CACHE}"
_TEMPLATE = "the endpoint's own chat template is used."
_MEDIA = "images go into the messages as data: URLs."
_OWN = "it is set by the platform."
_TEXT = "models answer in text."
_MODERATION = "check texts in your application."
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
        "audio": _TEXT,
        "moderation": _MODERATION,
        "functions": "use 'tools'.",
        "function_call": "use 'tool_choice'.",
        "web_search_options": "the model has no access to the web.",
    },
    check=_check_chat,
    first=("messages", "tools"),
    max_tokens=("max_completion_tokens", "max_tokens"),
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
    first=("prompt",),
    max_tokens=("max_tokens",),
    default_max_tokens=16,  # OpenAI's and vLLM's
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
    first=("input",),
)
# vLLM has these two without a version; under /v1 it logs a warning for every call.
RERANK = Surface(
    path="/v1/rerank",
    engine_path="/rerank",
    shape=Shape.OPENAI,
    task="embed",
    required=("query", "documents"),
    allowed=_names(
        "model query documents top_n instruction truncate_prompt_tokens max_tokens_per_query max_tokens_per_doc"
    ),
    dropped=_names(f"{_FOR_THE_BILL} return_documents max_chunks_per_doc"),
    refused={**_ENGINE_REFUSED, "rank_fields": "send each document as one text."},
    check=texts.check_rerank,
    first=("query", "documents"),
)
SCORE = Surface(
    path="/v1/score",
    engine_path="/score",
    shape=Shape.OPENAI,
    task="embed",
    required=(),
    allowed=_names(
        "model text_1 text_2 queries documents items data_1 data_2 instruction truncate_prompt_tokens "
        "max_tokens_per_query max_tokens_per_doc"
    ),
    dropped=_names(_FOR_THE_BILL),
    refused=_ENGINE_REFUSED,
    check=texts.check_score,
    first=("text_1", "queries", "data_1"),
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
    dropped=_names(f"user service_tier safety_identifier {_CACHE} store stream_options access_programs"),
    refused={
        **_ENGINE_REFUSED,
        "previous_response_id": "responses are never stored; send the whole conversation in 'input'.",
        "conversation": "responses are never stored; send the whole conversation in 'input'.",
        "background_options": "responses are never stored; wait for the answer or stream it.",
        "background": "responses are never stored; wait for the answer or stream it.",
        "image": _TEXT,
        "moderation": _MODERATION,
        "prompt": "prompt templates are not kept here; send the text.",
        "context_management": "send what the model shall see.",
    },
    check=_check_responses,
    first=("instructions", "input", "tools"),
    max_tokens=("max_output_tokens",),
)
_ANTHROPIC_REFUSED = {
    **_ENGINE_REFUSED,
    "container": "the platform runs no containers for a model.",
    "mcp_servers": "the platform calls no servers for a model.",
    "context_management": "send what the model shall see.",
}
MESSAGES = Surface(
    path="/v1/messages",
    shape=Shape.ANTHROPIC,
    task="generate",
    required=("messages", "max_tokens"),
    allowed=_names(
        "model messages max_tokens system stop_sequences stream temperature tool_choice tools top_k top_p thinking "
        "output_config"
    ),
    dropped=_names("metadata service_tier cache_control inference_geo diagnostics speed user_profile_id"),
    refused=_ANTHROPIC_REFUSED,
    check=_check_anthropic,
    first=("system", "messages", "tools"),
    max_tokens=("max_tokens",),
)
COUNT_TOKENS = Surface(
    path="/v1/messages/count_tokens",
    shape=Shape.ANTHROPIC,
    task="generate",
    required=("messages",),
    allowed=_names("model messages system tool_choice tools thinking output_config"),
    dropped=_names("cache_control speed user_profile_id"),
    refused=_ANTHROPIC_REFUSED,
    check=_check_anthropic,
    first=("system", "messages", "tools"),
    salted=False,
    billed=False,
)

SURFACES = {
    surface.path: surface
    for surface in (
        CHAT,
        COMPLETIONS,
        EMBEDDINGS,
        RERANK,
        RERANK.at("/v2/rerank"),  # Cohere's clients
        RERANK.at("/rerank"),  # vLLM's and TEI's own
        SCORE,
        SCORE.at("/score"),
        RESPONSES,
        MESSAGES,
        COUNT_TOKENS,
    )
}
