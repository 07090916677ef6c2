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
    "/v1/messages/count_tokens": {"model": "m", "messages": MESSAGES},
    "/v1/rerank": {"model": "m", "query": "q", "documents": ["a", "b"]},
    "/v1/score": {"model": "m", "text_1": "q", "text_2": ["a", "b"]},
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


def sent(call: bodies.Call, max_tokens: int = 0) -> dict[str, Any]:
    """What the engine gets."""
    encoded = bodies.encode(call, served_model_name="internal", cache_salt="salt", max_tokens=max_tokens)
    return dict(msgspec.json.decode(encoded))


def refused(path: str, body: dict[str, Any]) -> ApiError:
    """The refusal of a body."""
    with pytest.raises(ApiError) as caught:
        parse(path, body)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize("path", list(MINIMAL))
@pytest.mark.parametrize("field", list(DANGEROUS))
def test_dangerous_and_unknown_fields_are_refused_by_name(path: str, field: str) -> None:
    if field in bodies.SURFACES[path].allowed:
        return  # documents: what is scored, not what a template is given
    assert refused(path, {**MINIMAL[path], field: DANGEROUS[field]}).param == field


@pytest.mark.parametrize("path", list(MINIMAL))
def test_every_required_field_is_named_when_missing(path: str) -> None:
    for field in MINIMAL[path]:
        if field == "text_2":
            continue  # without it the other one is missed as well
        body = {name: value for name, value in MINIMAL[path].items() if name != field}
        assert refused(path, body).param == field


@pytest.mark.parametrize("path", list(MINIMAL))
def test_what_an_engine_has_no_use_for_is_dropped(path: str) -> None:
    name = "cache_control" if path == "/v1/messages/count_tokens" else "service_tier"
    got = sent(parse(path, {**MINIMAL[path], name: "auto"}))
    assert got["model"] == "internal"
    assert got.get("cache_salt") == (None if path == "/v1/messages/count_tokens" else "salt")
    assert got.keys() <= {*MINIMAL[path], "cache_salt", "store"}


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        ("/v1/chat/completions", {"model": 5}, "model"),
        ("/v1/chat/completions", {"model": ""}, "model"),
        ("/v1/chat/completions", {"stream": "yes"}, "stream"),
        ("/v1/chat/completions", {"max_tokens": 0}, "max_tokens"),
        ("/v1/chat/completions", {"max_tokens": -1}, "max_tokens"),
        ("/v1/chat/completions", {"max_tokens": 1.5}, "max_tokens"),
        ("/v1/chat/completions", {"max_tokens": True}, "max_tokens"),
        ("/v1/chat/completions", {"max_tokens": "9"}, "max_tokens"),
        ("/v1/chat/completions", {"max_tokens": 2**31}, "max_tokens"),
        ("/v1/chat/completions", {"max_completion_tokens": 0}, "max_completion_tokens"),
        ("/v1/chat/completions", {"max_tokens": 0, "max_completion_tokens": 5}, "max_tokens"),
        ("/v1/completions", {"max_tokens": 0}, "max_tokens"),
        ("/v1/responses", {"max_output_tokens": 0}, "max_output_tokens"),
        ("/v1/messages", {"max_tokens": 0}, "max_tokens"),
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
        ("/v1/chat/completions", {"response_format": {"type": []}}, "response_format.type"),
        ("/v1/chat/completions", {"response_format": {"type": {}}}, "response_format.type"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
            "messages[0].content[0].text",
        ),
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
        ("/v1/chat/completions", {"response_format": {"type": "text", "regex": "a"}}, "response_format.regex"),
        ("/v1/responses", {"input": [{"role": "user", "content": "x", "tool": 1}]}, "input[0].tool"),
        ("/v1/responses", {"input": [{"role": "user", "content": {"a": 1}}]}, "input[0].content"),
        ("/v1/responses", {"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ("/v1/responses", {"text": {"guided": 1}}, "text.guided"),
        ("/v1/responses", {"text": {"format": {"type": {}}}}, "text.format.type"),
        ("/v1/responses", {"instructions": [{"type": "image_url"}]}, "instructions"),
        (
            "/v1/responses",
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": 5}]}]},
            "input[0].content[0].text",
        ),
        (
            "/v1/responses",
            {"input": [{"role": "assistant", "content": [{"type": "refusal", "refusal": []}]}]},
            "input[0].content[0].refusal",
        ),
        (
            "/v1/messages",
            {"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": {}}]}]},
            "messages[0].content[0].thinking",
        ),
        ("/v1/messages", {"system": [{"type": "text", "text": 5}]}, "system[0].text"),
        ("/v1/messages", {"messages": [{"role": "user", "content": "x", "tool": 1}]}, "messages[0].tool"),
        ("/v1/messages", {"tools": [None]}, "tools[0]"),
        ("/v1/messages/count_tokens", {"mcp_servers": [{}]}, "mcp_servers"),
        ("/v1/messages/count_tokens", {"max_tokens": 5}, "max_tokens"),
        ("/v1/rerank", {"query": ["q"]}, "query"),
        ("/v1/rerank", {"query": {"content": []}}, "query"),
        ("/v1/rerank", {"documents": []}, "documents"),
        ("/v1/rerank", {"documents": [{"content": []}]}, "documents[0]"),
        ("/v1/rerank", {"documents": ["a", {"text": "b", "image_url": "http://x"}]}, "documents[1]"),
        ("/v1/rerank", {"top_n": 0}, "top_n"),
        ("/v1/rerank", {"rank_fields": ["a"]}, "rank_fields"),
        ("/v1/rerank", {"instruction": {"a": 1}}, "instruction"),
        ("/v1/score", {"text_1": {"content": []}}, "text_1"),
        ("/v1/score", {"text_2": []}, "text_2"),
        ("/v1/score", {"queries": "a", "documents": "b"}, "text_1"),
        ("/v1/messages", {"mcp_servers": [{}]}, "mcp_servers"),
        ("/v1/messages", {"tools": [{"type": "web_search_20250305"}]}, "tools[0]"),
    ],
)
def test_a_wrong_field_is_named(path: str, change: dict[str, Any], param: str) -> None:
    assert refused(path, {**MINIMAL[path], **change}).param == param


@pytest.mark.parametrize("given", ["hi", ["hi", "ho"], [1, 2], [[1, 2], [3]]])
def test_texts_and_tokens_can_be_embedded(given: object) -> None:
    assert sent(parse("/v1/embeddings", {"model": "m", "input": given}))["input"] == given


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
    assert "cache_control" not in sent(call)["messages"][0]["content"][0]


def test_an_earlier_answer_sent_back_by_an_sdk_is_taken_without_its_ornaments() -> None:
    answer = {"role": "assistant", "content": "x", "refusal": None, "annotations": None, "audio": None}
    call = parse("/v1/chat/completions", {"model": "m", "messages": [*MESSAGES, answer]})
    assert sent(call)["messages"][1] == {"role": "assistant", "content": "x"}


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
    assert sent(call)["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


@pytest.mark.parametrize(("prompt", "count"), [("a", 1), ([1, 2], 1), (["a", "b"], 2), ([[1], [2], [3]], 3)])
def test_prompts_are_counted(prompt: object, count: int) -> None:
    assert parse("/v1/completions", {"model": "m", "prompt": prompt}).prompts == count


NESTED = 100_000


@pytest.mark.parametrize("path", list(MINIMAL))
@pytest.mark.parametrize(
    "value",
    [b"[" * NESTED, b"[" * NESTED + b"]" * NESTED, b'{"a":' * NESTED + b"1" + b"}" * NESTED, b"[" * 101 + b"]" * 101],
)
def test_json_that_is_nested_too_deeply_is_refused(path: str, value: bytes) -> None:
    for name in ("messages", "tools", "metadata"):
        raw = msgspec.json.encode(MINIMAL[path])[:-1] + b',"' + name.encode() + b'":' + value + b"}"
        with pytest.raises(ApiError) as caught:
            bodies.parse(bodies.SURFACES[path], raw)
        assert caught.value.code == "invalid_json"


def test_a_field_sent_twice_does_not_smuggle_what_is_refused() -> None:
    image = b'[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}]'
    text = b'[{"role":"user","content":"hi"}]'
    raw = b'{"model":"m","messages":%b,"messages":%b}'
    call = bodies.parse(bodies.CHAT, raw % (image, text))
    assert bodies.encode(call, served_model_name="i", cache_salt="s").count(b'"messages"') == 1
    assert b"http" not in bodies.encode(call, served_model_name="i", cache_salt="s")
    with pytest.raises(ApiError):
        bodies.parse(bodies.CHAT, raw % (text, image))
    part = b'{"type":"text","text":"x","type":"image_url","image_url":{"url":"data:,","url":"http://x"}}'
    with pytest.raises(ApiError):
        bodies.parse(bodies.CHAT, b'{"model":"m","messages":[{"role":"user","content":[%b]}]}' % part)


def test_names_and_values_written_with_escapes_are_what_they_are() -> None:
    for raw in (
        rb'{"model":"m","messages":[{"role":"user","content":"x"}],"\u0063hat_template":"{{ x }}"}',
        rb'{"model":"m","messages":[{"role":"user","content":[{"type":"image_\u0075rl","image_url":{"url":"http://x"}}]}]}',
        rb'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"\u0075rl":"http://x"}}]}]}',
    ):
        with pytest.raises(ApiError):
            bodies.parse(bodies.CHAT, raw)


@pytest.mark.parametrize(
    ("path", "asked", "field"),
    [
        ("/v1/chat/completions", {}, "max_tokens"),
        ("/v1/chat/completions", {"max_tokens": 9}, "max_tokens"),
        ("/v1/chat/completions", {"max_completion_tokens": 9}, "max_completion_tokens"),
        ("/v1/chat/completions", {"max_tokens": 99, "max_completion_tokens": 9}, "max_completion_tokens"),
        ("/v1/chat/completions", {"max_tokens": 9, "tools": []}, "max_tokens"),
        ("/v1/completions", {}, "max_tokens"),
        ("/v1/responses", {"max_output_tokens": 9}, "max_output_tokens"),
        ("/v1/responses", {"max_output_tokens": None}, "max_output_tokens"),
        ("/v1/messages", {"max_tokens": 9}, "max_tokens"),
    ],
)
def test_tokens_granted_are_set_where_the_client_asked_for_them(path: str, asked: dict[str, Any], field: str) -> None:
    call = parse(path, {**MINIMAL[path], **asked})
    assert call.max_tokens == (9 if 9 in asked.values() else 0)
    assert call.default_max_tokens == (16 if path == "/v1/completions" else 0)
    names = {"max_tokens", "max_completion_tokens", "max_output_tokens"}
    assert {name: value for name, value in sent(call, 7).items() if name in names} == {field: 7}
    left = parse(path, {**MINIMAL[path], **asked})
    assert {name for name in sent(left) if name in names} == ({field} if call.max_tokens else set())


@pytest.mark.parametrize(
    ("path", "change", "outputs"),
    [
        ("/v1/chat/completions", {"n": 3}, 3),
        ("/v1/completions", {"prompt": ["a", "b"], "n": 3}, 6),
        ("/v1/completions", {"prompt": [[1], [2]]}, 2),
        ("/v1/embeddings", {"input": ["a", "b"]}, 0),
        ("/v1/rerank", {}, 0),
        ("/v1/messages/count_tokens", {}, 0),
    ],
)
def test_answers_that_are_generated_are_counted(path: str, change: dict[str, Any], outputs: int) -> None:
    assert parse(path, {**MINIMAL[path], **change}).outputs == outputs


def bound(path: str, body: dict[str, Any], max_model_len: int = 0) -> int:
    """The prompt's most tokens."""
    return parse(path, body).prompt_bound(max_model_len)


def test_a_prompt_has_at_most_a_token_for_each_byte_and_what_the_template_adds() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "ä" * 500}]}
    size = len(msgspec.json.encode(body))
    assert size > 1000
    assert bound("/v1/chat/completions", body) == size + 512 + 32
    assert bound("/v1/chat/completions", body, 800) == 800
    assert bound("/v1/chat/completions", body, 1 << 20) == size + 512 + 32


def test_each_prompt_of_a_request_may_be_as_long_as_the_context() -> None:
    body = {"model": "m", "prompt": ["a" * 500] * 4}
    assert bound("/v1/completions", body, 100) == 400


def test_a_guess_is_never_more_than_the_prompt_can_have() -> None:
    call = parse("/v1/completions", {"model": "m", "prompt": ["a" * 4000] * 2})
    assert call.prompt_guess > 2000
    assert call.guess(0) == call.guess(100_000) == call.prompt_guess
    assert call.guess(500) == 1000


def test_images_may_be_as_long_as_the_context() -> None:
    part = {"type": "image_url", "image_url": {"url": PNG}}
    body = {"model": "m", "messages": [{"role": "user", "content": [part]}]}
    assert bound("/v1/chat/completions", body, 30_000) == 30_000
    assert bound("/v1/chat/completions", body) > 16_384


def test_a_reranker_reads_the_query_with_every_document() -> None:
    body = {"model": "m", "query": "q" * 1000, "documents": ["d"] * 50}
    assert 50_000 < bound("/v1/rerank", body) < 100_000
    assert bound("/v1/rerank", body, 512) == 512 * 50
    body = {"model": "m", "text_1": "q" * 1000, "text_2": ["d"] * 50}
    assert 50_000 < bound("/v1/score", body) < 100_000


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_documents_are_texts_or_objects_with_a_text(path: str) -> None:
    body = {"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "return_documents": False, "top_n": 1}
    call = parse(path, body)
    assert sent(call)["documents"] == ["a", "b"]
    assert bodies.SURFACES[path].engine_path == "/rerank"


def test_what_comes_first_in_a_prompt_comes_first_in_the_body() -> None:
    changes: list[dict[str, Any]] = [{}, {"tools": []}, {"temperature": None}]
    for change in changes:
        body = {"model": "m", "stream": True, "messages": MESSAGES, **change}
        call = parse("/v1/chat/completions", body)
        encoded = bodies.encode(call, served_model_name="internal", cache_salt="salt")
        assert encoded.startswith(b'{"messages":[{"role":"user","content":"hi"}]')
        assert call.prefix == encoded
