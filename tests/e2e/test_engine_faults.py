"""What happens to an endpoint when its engine cannot start, is killed, or its worker is; with real vLLM."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.conftest import Onebox
from tests.e2e.test_main_path import ASK, api, chat_of, client, embedding_of, endpoint_of, until

__all__ = ["api", "client"]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def get(client: httpx.Client, endpoint: str) -> dict[str, Any]:
    return dict(client.get(f"/endpoints/{endpoint}").raise_for_status().json())


def failing(endpoint: dict[str, Any]) -> dict[str, Any]:
    return next((c for c in endpoint["conditions"] if c["type"] == "Failing" and c["status"] == "True"), {})


def replicas(onebox: Onebox, endpoint: str) -> list[dict[str, Any]]:
    """What runs for an endpoint, as recorded in its replicas' folders."""
    folders = (onebox.data / "replicas" / endpoint).glob("rpl_*")
    return [onebox.read_json(folder / "state.json") | {"folder": folder} for folder in folders]


def test_vllms_own_error_reaches_the_customer_within_ten_seconds_of_its_exit(
    onebox: Onebox, api: httpx.Client, client: openai.OpenAI
) -> None:
    """A step of 32 tokens cannot serve 64 requests. What the model cannot read is refused before there is an engine."""
    model = endpoint_of(api, chat_of(onebox))["model"]
    refused = api.post("/endpoints", json={"name": "odd", "model": model, "arguments": {"max_model_len": 8_000_000}})
    assert (refused.status_code, refused.json()["field"]) == (422, "arguments.max_model_len")
    odd = {"max_num_seqs": 64, "max_num_batched_tokens": 32}
    made = api.post("/endpoints", json={"name": "odd", "model": model, "arguments": odd})
    endpoint = made.raise_for_status().json()["id"]
    ends = list[Any]()

    def ended() -> bool:
        ends[:] = list((onebox.data / "replicas" / endpoint).glob("*/exit.json"))
        return bool(ends)

    until(ended, bool, seconds=180)
    told = until(lambda: failing(get(api, endpoint)), bool, seconds=10 - (time.time() - ends[0].stat().st_mtime))
    assert told["reason"] == "EngineExited"
    assert "max_num_batched_tokens" in told["message"]
    assert "Error: " in told["message"]
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="demo/odd", messages=ASK)
    assert caught.value.status_code == 503, "a known model is never a 404"
    assert api.delete(f"/endpoints/{endpoint}").status_code == 202
    until(lambda: api.get(f"/endpoints/{endpoint}").status_code, lambda status: status == 404, seconds=90)
    assert replicas(onebox, endpoint) == []


def test_a_killed_worker_starts_nothing_twice_and_its_successor_adopts(
    onebox: Onebox, api: httpx.Client, client: openai.OpenAI
) -> None:
    endpoint = endpoint_of(api, chat_of(onebox))["id"]
    (before,) = replicas(onebox, endpoint)
    onebox.kill_and_wait("worker")
    assert client.chat.completions.create(model=chat_of(onebox), messages=ASK, max_tokens=2).choices
    generation = get(api, endpoint)["generation"]
    api.patch(f"/endpoints/{endpoint}", json={"replicas": 1}).raise_for_status()
    assert get(api, endpoint)["generation"] == generation, "nothing was asked for that was not there"
    until(lambda: get(api, endpoint)["phase"], lambda phase: phase == "Ready", seconds=30)
    (after,) = replicas(onebox, endpoint)
    assert (after["engine_pid"], after["engine_started"]) == (before["engine_pid"], before["engine_started"])


def test_a_killed_engine_becomes_a_condition_and_is_restarted(
    onebox: Onebox, api: httpx.Client, client: openai.OpenAI
) -> None:
    endpoint = endpoint_of(api, embedding_of(onebox))["id"]
    (running,) = replicas(onebox, endpoint)
    os.kill(running["engine_pid"], signal.SIGKILL)
    told = until(lambda: failing(get(api, endpoint)), bool, seconds=10)
    assert told["reason"] == "Killed"
    assert "SIGKILL" in told["message"]
    with pytest.raises(openai.APIStatusError) as caught:
        client.embeddings.create(model=embedding_of(onebox), input="Are you there?")
    assert caught.value.status_code == 503
    until(lambda: get(api, endpoint)["phase"], lambda phase: phase == "Ready", seconds=180)
    (restarted,) = replicas(onebox, endpoint)
    assert restarted["engine_pid"] != running["engine_pid"]

    def answers() -> bool:
        try:
            return bool(client.embeddings.create(model=embedding_of(onebox), input="Welcome back").data)
        except openai.APIStatusError:
            return False

    until(answers, bool, seconds=10)


def test_logs_of_an_endpoint_are_shown(onebox: Onebox, api: httpx.Client) -> None:
    endpoint = endpoint_of(api, chat_of(onebox))["id"]
    lines = until(lambda: api.get(f"/endpoints/{endpoint}/logs").raise_for_status().json()["data"], bool, seconds=15)
    assert any("vLLM" in line["text"] or "vllm" in line["text"] for line in lines)
