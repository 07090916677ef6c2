"""What a client sees: every path, streamed and not, and every way to be refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.fakes.engine import Engine
    from tests.integration.gateway.conftest import Process, Usage

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "acme/chat", "messages": MESSAGES}
CALLS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "acme/chat", "prompt": "hi"},
    "/v1/responses": {"model": "acme/chat", "input": "hi"},
    "/v1/messages": {"model": "acme/chat", "messages": MESSAGES, "max_tokens": 4},
}


@pytest.mark.parametrize("path", [*CALLS, "/v1/embeddings"])
async def test_an_answer_in_one_piece_has_the_public_name_and_is_billed(
    gateway: Process, engine: Engine, usage: Usage, path: str
) -> None:
    engine.script.cached = 3
    body = CALLS.get(path, {"model": "acme/embed", "input": "hi"})
    answer = await gateway.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == body["model"]
    record = await usage.one()
    assert record.event_id == answer.headers["x-request-id"]
    assert (record.route, record.model, record.outcome, record.estimated) == (path, body["model"], "ok", False)
    assert record.prompt_tokens == 18
    assert record.completion_tokens == (0 if path == "/v1/embeddings" else 4)
    assert record.cached_tokens == (0 if path == "/v1/embeddings" else 3)
    assert (record.tenant, record.key, record.endpoint, record.generation) == ("tnt_acme", "key_acme", "ep_1", 3)
    assert (record.weight_digest, record.replica) == ("sha256:w", "rpl_1")


@pytest.mark.parametrize("path", list(CALLS))
async def test_a_stream_has_the_public_name_and_is_billed(
    gateway: Process, engine: Engine, usage: Usage, path: str
) -> None:
    answer = await gateway.http.post(path, json={**CALLS[path], "stream": True})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-accel-buffering"] == "no"
    assert "internal-name" not in answer.text
    assert '"model":"acme/chat"' in answer.text
    record = await usage.one()
    assert (record.prompt_tokens, record.completion_tokens, record.estimated) == (18, 4, False)
    assert record.outcome == "ok"


async def test_usage_nobody_asked_for_is_not_shown(gateway: Process) -> None:
    answer = await gateway.http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert "usage" not in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")


async def test_usage_asked_for_comes_once_at_the_end(gateway: Process) -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    answer = await gateway.http.post("/v1/chat/completions", json=body)
    frames = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert [bool(frame.get("usage")) for frame in frames] == [False] * 5 + [True]
    assert frames[-1]["usage"]["completion_tokens"] == 4


async def test_each_choice_of_each_prompt_is_counted(gateway: Process, engine: Engine, usage: Usage) -> None:
    body = {"model": "acme/chat", "prompt": ["a", "b", "c"], "n": 2, "stream": True}
    await gateway.http.post("/v1/completions", json=body)
    record = await usage.one()
    assert (record.prompt_tokens, record.completion_tokens, record.estimated) == (54, 24, False)


async def test_the_engine_gets_the_gateways_own_request_id_salt_name_and_usage_options(
    gateway: Process, engine: Engine
) -> None:
    body = {**CHAT, "stream": True, "user": "somebody", "metadata": {"a": "b"}, "store": True}
    answer = await gateway.http.post("/v1/chat/completions", json=body, headers={"x-request-id": "mine"})
    received = engine.received[0]
    assert received.headers["x-request-id"] == answer.headers["x-request-id"] != "mine"
    assert "authorization" not in received.headers
    assert received.body == {
        "model": "internal-name",
        "messages": MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "cache_salt": "salt-acme",
    }


async def test_responses_are_never_stored(gateway: Process, engine: Engine) -> None:
    await gateway.http.post("/v1/responses", json={"model": "acme/chat", "input": "hi", "store": True})
    assert engine.received[0].body["store"] is False


@pytest.mark.parametrize("value", ["Bearer fh_wrong", "Bearer fh_expired", "Basic fh_acme", ""])
async def test_a_wrong_key_is_refused_in_openais_shape(gateway: Process, value: str) -> None:
    answer = await gateway.http.post("/v1/chat/completions", json=CHAT, headers={"authorization": value})
    assert answer.status_code == 401
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert answer.json()["error"]["code"] == "invalid_api_key"


async def test_a_wrong_key_is_refused_in_anthropics_shape(gateway: Process) -> None:
    headers = {"authorization": "", "x-api-key": "fh_wrong"}
    answer = await gateway.http.post("/v1/messages", json=CALLS["/v1/messages"], headers=headers)
    assert answer.status_code == 401
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "authentication_error"


async def test_a_key_in_x_api_key_is_taken(gateway: Process) -> None:
    headers = {"authorization": "", "x-api-key": "fh_acme"}
    answer = await gateway.http.post("/v1/messages", json=CALLS["/v1/messages"], headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("secret", ["fh_unscoped", "fh_suspended"])
async def test_a_key_without_the_scope_and_a_suspended_tenant_are_forbidden(gateway: Process, secret: str) -> None:
    answer = await gateway.http.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {secret}"})
    assert answer.status_code == 403


@pytest.mark.parametrize("secret", ["fh_other", "fh_narrow"])
async def test_a_foreign_model_is_answered_as_one_that_does_not_exist(gateway: Process, secret: str) -> None:
    headers = {"authorization": f"Bearer {secret}"}
    foreign = await gateway.http.post("/v1/chat/completions", json=CHAT, headers=headers)
    unknown = await gateway.http.post("/v1/chat/completions", json={**CHAT, "model": "acme/none"}, headers=headers)
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.text.replace("acme/chat", "X") == unknown.text.replace("acme/none", "X")
    assert dict(foreign.headers) == dict(unknown.headers)
    listed = await gateway.http.get("/v1/models/acme/chat", headers=headers)
    missing = await gateway.http.get("/v1/models/acme/none", headers=headers)
    assert listed.text.replace("acme/chat", "X") == missing.text.replace("acme/none", "X")


async def test_a_serverless_model_is_everybodys_and_its_caller_pays(gateway: Process, usage: Usage) -> None:
    headers = {"authorization": "Bearer fh_other"}
    answer = await gateway.http.post("/v1/chat/completions", json={**CHAT, "model": "vendor/shared"}, headers=headers)
    assert answer.status_code == 200
    assert (await usage.one()).tenant == "tnt_other"


async def test_the_list_of_models_has_what_the_key_sees(gateway: Process) -> None:
    async def listed(secret: str) -> list[str]:
        answer = await gateway.http.get("/v1/models", headers={"authorization": f"Bearer {secret}"})
        return [model["id"] for model in answer.json()["data"]]

    assert await listed("fh_acme") == ["acme/chat", "acme/embed", "acme/starting", "vendor/shared"]
    assert await listed("fh_other") == ["vendor/shared"]
    assert await listed("fh_narrow") == ["acme/embed"]
    answer = await gateway.http.get("/v1/models/acme%2Fchat")
    assert answer.json()["id"] == "acme/chat"


async def test_a_known_model_without_replicas_is_503_and_names_its_phase(gateway: Process) -> None:
    answer = await gateway.http.post("/v1/chat/completions", json={**CHAT, "model": "acme/starting"})
    assert answer.status_code == 503
    assert "Starting" in answer.json()["error"]["message"]
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "path", ["/v1/load_lora_adapter", "/metrics", "/tokenize", "/invocations", "/v1/../metrics", "/"]
)
async def test_no_other_path_of_the_engine_is_reachable(gateway: Process, engine: Engine, path: str) -> None:
    answer = await gateway.http.post(path, json=CHAT)
    assert answer.status_code == 404
    assert engine.received == []


async def test_a_wrong_method_is_405(gateway: Process) -> None:
    answer = await gateway.http.get("/v1/chat/completions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (await gateway.http.post("/v1/models", json={})).status_code == 405


async def test_what_the_engine_says_about_the_request_is_passed_on_and_not_billed(
    gateway: Process, engine: Engine, usage: Usage
) -> None:
    engine.script.statuses = [400]
    answer = await gateway.http.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "engine says 400"
    await gateway.http.post("/v1/chat/completions", json=CHAT)
    assert (await usage.one()).outcome == "ok"


async def test_a_model_is_not_called_for_what_it_cannot_do(gateway: Process) -> None:
    answer = await gateway.http.post("/v1/embeddings", json={"model": "acme/chat", "input": "x"})
    assert answer.status_code == 400
    assert "generate" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
async def test_documents_are_reranked_and_billed(gateway: Process, engine: Engine, usage: Usage, path: str) -> None:
    body = {"model": "acme/embed", "query": "q", "documents": ["a", {"text": "b"}], "return_documents": True}
    answer = await gateway.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "acme/embed"
    assert [result["document"]["text"] for result in answer.json()["results"]] == ["a", "b"]
    assert engine.received[0].path == "/rerank"
    record = await usage.one()
    assert (record.route, record.prompt_tokens, record.completion_tokens) == (path, 18, 0)


@pytest.mark.parametrize("path", ["/v1/score", "/score"])
async def test_pairs_are_scored_and_billed(gateway: Process, engine: Engine, usage: Usage, path: str) -> None:
    answer = await gateway.http.post(path, json={"model": "acme/embed", "text_1": "q", "text_2": ["a"]})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["model"], answer.json()["data"][0]["score"]) == ("acme/embed", 0.5)
    assert engine.received[0].path == "/score"
    assert (await usage.one()).prompt_tokens == 18


async def test_counting_tokens_costs_nothing(gateway: Process, engine: Engine, usage: Usage) -> None:
    body = {"model": "acme/chat", "messages": MESSAGES, "system": "Be kind."}
    answer = await gateway.http.post("/v1/messages/count_tokens", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["input_tokens"] == 18
    assert engine.received[0].body == {**body, "model": "internal-name"}
    await gateway.http.post("/v1/chat/completions", json=CHAT)
    assert (await usage.one()).route == "/v1/chat/completions"


async def test_anthropics_clients_find_their_members_in_the_list_of_models(gateway: Process) -> None:
    listed = (await gateway.http.get("/v1/models")).json()
    assert (listed["has_more"], listed["last_id"]) == (False, "vendor/shared")
    assert {model["type"] for model in listed["data"]} == {"model"}
    assert listed["data"][0]["created_at"] == "1970-01-01T00:00:00Z"
