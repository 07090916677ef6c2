"""Nothing reaches an engine that is not named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from freehold.gateway.errors import ApiError
from freehold.gateway.surface import bodies

MESSAGES = [{"role": "user", "content": "hi"}]
MINIMAL: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "m", "messages": MESSAGES},
    "/v1/completions": {"model": "m", "prompt": "hi"},
    "/v1/embeddings": {"model": "m", "input": "hi"},
    "/v1/responses": {"model": "m", "input": "hi"},
    "/v1/messages": {"model": "m", "messages": MESSAGES, "max_tokens": 5},
}
DANGEROUS = {
    "chat_template": "{{ x }}",
    "chat_template_kwargs": {"a": 1},
    "media_io_kwargs": {"a": {}},
    "mm_processor_kwargs": {"a": 1},
    "mm_payload": {"a": 1},
    "prompt_embeds": "AAAA",
    "bad_words": ["a"],
    "cache_salt": "another tenant's",
    "request_id": "x",
    "priority": -1,
    "kv_transfer_params": {"a": 1},
    "ec_transfer_params": {"a": 1},
    "vllm_xargs": {"a": 1},
    "structured_outputs": {"regex": "(a+)+"},
    "guided_regex": "(a+)+",
    "prompt_logprobs": 5,
    "return_token_ids": True,
    "use_beam_search": True,
    "stream_interval": 9,
    "documents": [],
    "echo_everything": 1,
    "session_id": "x",
    "previous_input_messages": [],
}


def parse(path: str, body: dict[str, Any]) -> bodies.Call:
    """The call in a body."""
    return bodies.parse(bodies.SURFACES[path], msgspec.json.encode(body))


def refused(path: str, body: dict[str, Any]) -> ApiError:
    """The refusal of a body."""
    with pytest.raises(ApiError) as caught:
        parse(path, body)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize("path", list(MINIMAL))
@pytest.mark.parametrize("field", list(DANGEROUS))
def test_dangerous_and_unknown_fields_are_refused_by_name(path: str, field: str) -> None:
    assert refused(path, {**MINIMAL[path], field: DANGEROUS[field]}).param == field


@pytest.mark.parametrize("path", list(MINIMAL))
def test_every_required_field_is_named_when_missing(path: str) -> None:
    for field in MINIMAL[path]:
        body = {name: value for name, value in MINIMAL[path].items() if name != field}
        assert refused(path, body).param == field


@pytest.mark.parametrize("path", list(MINIMAL))
def test_what_an_engine_has_no_use_for_is_dropped(path: str) -> None:
    call = parse(path, {**MINIMAL[path], "service_tier": "auto"})
    assert "service_tier" not in call.body
    sent = msgspec.json.decode(bodies.encode(call, served_model_name="internal", cache_salt="salt"))
    assert (sent["model"], sent["cache_salt"]) == ("internal", "salt")
    assert sent.keys() <= {*MINIMAL[path], "cache_salt", "store"}


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        ("/v1/chat/completions", {"model": 5}, "model"),
        ("/v1/chat/completions", {"model": ""}, "model"),
        ("/v1/chat/completions", {"stream": "yes"}, "stream"),
        ("/v1/chat/completions", {"n": 0}, "n"),
        ("/v1/chat/completions", {"n": 17}, "n"),
        ("/v1/chat/completions", {"n": True}, "n"),
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/chat/completions", {"messages": "hi"}, "messages"),
        ("/v1/chat/completions", {"messages": ["hi"]}, "messages[0]"),
        ("/v1/chat/completions", {"messages": [{"content": "x"}]}, "messages[0].role"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "x": 5}]}, "messages[0].x"),
        ("/v1/chat/completions", {"stream_options": {"include_usage": True}}, "stream_options"),
        ("/v1/chat/completions", {"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
        ("/v1/chat/completions", {"response_format": {"type": "structural_tag"}}, "response_format.type"),
        ("/v1/chat/completions", {"tools": [{"type": "code_interpreter"}]}, "tools[0]"),
        ("/v1/chat/completions", {"functions": [{}]}, "functions"),
        ("/v1/completions", {"prompt": []}, "prompt"),
        ("/v1/completions", {"prompt": {"a": 1}}, "prompt"),
        ("/v1/completions", {"prompt": ["a"] * 65, "n": 2}, "prompt"),
        ("/v1/embeddings", {"encoding_format": "bytes"}, "encoding_format"),
        ("/v1/embeddings", {"input": []}, "input"),
        ("/v1/embeddings", {"input": 5}, "input"),
        ("/v1/embeddings", {"input": [True]}, "input"),
        ("/v1/embeddings", {"input": ["a", 5]}, "input"),
        ("/v1/embeddings", {"input": {"prompt": "a"}}, "input"),
        ("/v1/embeddings", {"input": [{"role": "user", "content": "hi"}]}, "input"),
        (
            "/v1/embeddings",
            {"input": [[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]]},
            "input",
        ),
        ("/v1/responses", {"previous_response_id": "resp_1"}, "previous_response_id"),
        ("/v1/responses", {"background": True}, "background"),
        ("/v1/responses", {"conversation": "c"}, "conversation"),
        ("/v1/responses", {"tools": [{"type": "mcp"}]}, "tools[0]"),
        ("/v1/responses", {"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ("/v1/messages", {"mcp_servers": [{}]}, "mcp_servers"),
        ("/v1/messages", {"tools": [{"type": "web_search_20250305"}]}, "tools[0]"),
    ],
)
def test_a_wrong_field_is_named(path: str, change: dict[str, Any], param: str) -> None:
    assert refused(path, {**MINIMAL[path], **change}).param == param


@pytest.mark.parametrize("given", ["hi", ["hi", "ho"], [1, 2], [[1, 2], [3]]])
def test_texts_and_tokens_can_be_embedded(given: object) -> None:
    assert parse("/v1/embeddings", {"model": "m", "input": given}).body["input"] == given


@pytest.mark.parametrize("null", ["previous_response_id", "background", "conversation"])
def test_null_and_false_are_as_good_as_absent(null: str) -> None:
    parse("/v1/responses", {**MINIMAL["/v1/responses"], null: None})
    parse("/v1/responses", {**MINIMAL["/v1/responses"], "background": False})


URLS = ["http://169.254.169.254/latest", "https://x/y.png", "file:///etc/passwd", "", None, 5, {"url": "http://x"}]
PNG = "data:image/png;base64,AAAA"


@pytest.mark.parametrize("url", URLS)
def test_an_image_that_is_not_in_the_request_is_refused(url: object) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    refused("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": [part]}]})
    flat = {"type": "image_url", "image_url": url}
    refused("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": [flat]}]})
    item = {"role": "user", "content": [{"type": "input_image", "image_url": url}]}
    refused("/v1/responses", {"model": "m", "input": [item]})
    source = {"type": "url", "url": url}
    message = {"role": "user", "content": [{"type": "image", "source": source}]}
    refused("/v1/messages", {"model": "m", "messages": [message], "max_tokens": 1})
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": source}]}
    message = {"role": "user", "content": [result]}
    refused("/v1/messages", {"model": "m", "messages": [message], "max_tokens": 1})


@pytest.mark.parametrize("kind", ["video_url", "audio_url", "image_embeds", "image_pil", "file", "input_file", None])
def test_other_kinds_of_parts_are_refused(kind: str | None) -> None:
    part = {"type": kind, str(kind): "x"}
    refused("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": [part]}]})
    refused("/v1/responses", {"model": "m", "input": [{"role": "user", "content": [part]}]})


def test_a_second_medium_does_not_ride_along_in_a_part() -> None:
    part = {"type": "text", "text": "x", "image_url": "http://x"}
    refused("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": [part]}]})


def test_images_as_data_are_taken() -> None:
    part = {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}
    parse("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": [part]}]})
    parse(
        "/v1/responses",
        {"model": "m", "input": [{"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}]},
    )
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    message = {"role": "user", "content": [{"type": "image", "source": source, "cache_control": {"type": "ephemeral"}}]}
    call = parse("/v1/messages", {"model": "m", "messages": [message], "max_tokens": 1})
    assert "cache_control" not in call.body["messages"][0]["content"][0]


def test_an_earlier_answer_sent_back_by_an_sdk_is_taken_without_its_ornaments() -> None:
    answer = {"role": "assistant", "content": "x", "refusal": None, "annotations": None, "audio": None}
    call = parse("/v1/chat/completions", {"model": "m", "messages": [*MESSAGES, answer]})
    assert call.body["messages"][1] == {"role": "assistant", "content": "x"}


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (None, (False, False)),
        ({}, (False, False)),
        ({"include_usage": True}, (True, False)),
        ({"include_usage": True, "continuous_usage_stats": True}, (True, True)),
        ({"continuous_usage_stats": True}, (False, False)),
        ({"include_obfuscation": True}, (False, False)),
    ],
)
def test_the_engine_always_reports_usage_and_the_client_sees_what_it_asked_for(
    options: dict[str, bool] | None, shown: tuple[bool, bool]
) -> None:
    body = {**MINIMAL["/v1/chat/completions"], "stream": True, "stream_options": options}
    call = parse("/v1/chat/completions", body)
    assert (call.show_usage, call.show_every_usage) == shown
    assert call.body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


@pytest.mark.parametrize(("prompt", "count"), [("a", 1), ([1, 2], 1), (["a", "b"], 2), ([[1], [2], [3]], 3)])
def test_prompts_are_counted(prompt: object, count: int) -> None:
    assert parse("/v1/completions", {"model": "m", "prompt": prompt}).prompts == count
