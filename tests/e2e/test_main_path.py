"""The product as a customer uses it, from outside: SDKs against the gateway, HTTP against the API, real vLLM behind."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.e2e.conftest import Onebox

pytestmark = pytest.mark.engine

ASK: list[Any] = [{"role": "user", "content": "Who owns the place where you live?"}]


def openai_client(onebox: Onebox, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{onebox.facts['gateway_url']}/v1", api_key=key, max_retries=0)


@pytest.fixture
def client(onebox: Onebox) -> Iterator[openai.OpenAI]:
    with openai_client(onebox, onebox.facts["api_key"]) as client:
        yield client


@pytest.fixture
def api(onebox: Onebox) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {onebox.facts['api_key']}"}
    with httpx.Client(base_url=onebox.facts["api_url"], headers=headers, timeout=30) as client:
        yield client


def chat_of(onebox: Onebox) -> str:
    return str(onebox.facts["models"]["chat"])


def embedding_of(onebox: Onebox) -> str:
    return str(onebox.facts["models"]["embedding"])


def until(read: Callable[[], Any], accept: Callable[[Any], bool], *, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    seen = read()
    while not accept(seen):
        assert time.monotonic() < deadline, f"never came about; last seen: {seen}"
        time.sleep(0.1)
        seen = read()
    return seen


def usage_of(api: httpx.Client, model: str) -> dict[str, Any]:
    lines = api.get("/usage").raise_for_status().json()["data"]
    return next((line for line in lines if line["model"] == model), {})


def engine_counters(onebox: Onebox, api: httpx.Client, model: str) -> tuple[int, int]:
    """(prompt tokens, generated tokens) as the engine itself counts them."""
    folder = next((onebox.data / "replicas" / endpoint_of(api, model)["id"]).glob("rpl_*"))
    port = onebox.read_json(folder / "request.json")["port"]
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    totals = {"vllm:prompt_tokens_total": 0.0, "vllm:generation_tokens_total": 0.0}
    for line in text.splitlines():
        name = line.split("{")[0].split(" ")[0]
        if name in totals:
            totals[name] += float(line.rsplit(" ", 1)[1])
    return int(totals["vllm:prompt_tokens_total"]), int(totals["vllm:generation_tokens_total"])


def endpoint_of(api: httpx.Client, model: str) -> dict[str, Any]:
    listed = api.get("/endpoints", params={"limit": 100}).raise_for_status().json()["data"]
    return next(dict(endpoint) for endpoint in listed if endpoint["model_name"] == model)


def test_models_are_listed_by_their_public_names(onebox: Onebox, client: openai.OpenAI) -> None:
    assert {chat_of(onebox), embedding_of(onebox)} <= {model.id for model in client.models.list()}


def test_embeddings_of_related_sentences_are_close(onebox: Onebox, client: openai.OpenAI) -> None:
    sentences = ["A man is eating food.", "A man eats a piece of bread.", "The quarterly ledger was audited."]
    answer = client.embeddings.create(model=embedding_of(onebox), input=sentences)
    first, related, unrelated = (item.embedding for item in answer.data)

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    assert len(first) == 384
    assert cosine(first, related) > 0.4 > cosine(first, unrelated) + 0.2
    assert answer.model == embedding_of(onebox)


def test_what_is_billed_is_what_was_answered_and_what_the_engine_counted(
    onebox: Onebox, client: openai.OpenAI, api: httpx.Client
) -> None:
    model = chat_of(onebox)
    before_engine, before = engine_counters(onebox, api, model), usage_of(api, model)
    told = [0, 0]
    for number in range(3):
        plain = client.chat.completions.create(model=model, messages=ASK, max_tokens=7 + number)
        assert plain.model == model
        assert plain.usage is not None
        asked = plain.usage.prompt_tokens
        told[0] += asked
        told[1] += plain.usage.completion_tokens
        stream = client.chat.completions.create(
            model=model, messages=ASK, max_tokens=11, n=2, stream=True, stream_options={"include_usage": True}
        )
        last = [chunk.usage for chunk in stream if chunk.usage is not None][-1]
        told[0] += last.prompt_tokens
        told[1] += last.completion_tokens
    hidden = client.chat.completions.create(model=model, messages=ASK, max_tokens=5, stream=True)
    assert all(chunk.usage is None for chunk in hidden), "usage that was not asked for is not shown"
    text = client.completions.create(model=model, prompt="Freehold", max_tokens=4)
    assert text.usage is not None
    told[0] += asked + text.usage.prompt_tokens
    told[1] += 5 + text.usage.completion_tokens
    engine = engine_counters(onebox, api, model)

    def billed() -> tuple[int, int]:
        now = usage_of(api, model)
        return (
            now.get("prompt_tokens", 0) - before.get("prompt_tokens", 0),
            now.get("completion_tokens", 0) - before.get("completion_tokens", 0),
        )

    until(billed, lambda seen: seen == tuple(told), seconds=15)
    assert engine[1] - before_engine[1] == told[1]
    # The engine reads a prompt once for each of n answers and counts it so; the answer, and the bill, have it once.
    assert engine[0] - before_engine[0] == told[0] + 3 * asked
    assert usage_of(api, model)["cost"]["amount_nanos"] > before.get("cost", {}).get("amount_nanos", 0)


def test_responses_and_anthropic_messages_are_answered(onebox: Onebox, client: openai.OpenAI) -> None:
    response = client.responses.create(model=chat_of(onebox), input="Hello", max_output_tokens=16)
    assert response.model == chat_of(onebox)
    origin, key = onebox.facts["gateway_url"], onebox.facts["api_key"]
    with anthropic.Anthropic(base_url=origin, api_key=key, max_retries=0) as claude:
        message = claude.messages.create(model=chat_of(onebox), max_tokens=8, messages=ASK)
        assert message.usage.output_tokens == 8
        with claude.messages.stream(model=chat_of(onebox), max_tokens=8, messages=ASK) as stream:
            assert stream.get_final_message().usage.output_tokens == 8


def test_a_revoked_key_stops_working_within_five_seconds(onebox: Onebox, api: httpx.Client) -> None:
    made = api.post("/api-keys", json={"name": "short-lived", "role": "inference"}).raise_for_status().json()
    with openai_client(onebox, made["secret"]) as client:

        def answered() -> str:
            try:
                client.models.list()
            except openai.AuthenticationError as error:
                return str(error.code)
            return "models"

        until(answered, lambda seen: seen == "models", seconds=5)
        assert api.get("/models", headers={"Authorization": f"Bearer {made['secret']}"}).status_code == 403
        api.delete(f"/api-keys/{made['id']}").raise_for_status()
        until(answered, lambda seen: seen == "invalid_api_key", seconds=5)


def test_an_unknown_model_is_404_in_openais_shape(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="somebody/else", messages=ASK)
    assert caught.value.code == "model_not_found"


def test_engines_routes_outside_the_allowlist_are_unreachable(onebox: Onebox) -> None:
    headers = {"Authorization": f"Bearer {onebox.facts['api_key']}"}
    for path in ("/metrics", "/tokenize", "/invocations", "/v1/load_lora_adapter", "/collective_rpc", "/sleep"):
        answer = httpx.post(f"{onebox.facts['gateway_url']}{path}", json={}, headers=headers)
        assert answer.status_code == 404, path
