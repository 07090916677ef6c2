"""/models/{id}/sizing and /models/{id}/tensors: what a model needs, and what is inside of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from freehold.fleet import services as fleet
from freehold.registry.services import content_add, model_create, revision_commit
from freehold.registry.trees import Add
from freehold.tenancy.models import Tenant
from tests.factories.models_on_disk import safetensors_bytes
from tests.factories.tenants import SYSTEM, actor_in
from tests.integration.api.client import Api

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def model(acme: Tenant) -> str:
    """The id of a model whose configuration is Qwen3-8B's, and whose weights are one small tensor."""
    actor = actor_in(acme)
    made = model_create(actor=actor, tenant_id=acme.pk, name="qwen")
    files = {
        "config.json": json.dumps(CONFIG).encode(),
        "model.safetensors": safetensors_bytes({"b": ("BF16", [8, 4], 64), "a.weight": ("F32", [4], 16)}),
    }
    operations = [
        Add(path=path, entry=content_add(actor=actor, tenant_id=acme.pk, content=content))
        for path, content in files.items()
    ]
    revision_commit(actor=actor, tenant_id=acme.pk, repo="qwen", operations=operations, message="first")
    return made.public_id


@pytest.fixture
def flavors(acme: Tenant) -> None:
    """A large accelerator, a small one, a CPU, and one that the operator has said too little of."""
    fleet.flavor_create(actor=SYSTEM, name="h100", accelerator="H100", memory_bytes=80 * 1024**3)
    fleet.flavor_create(actor=SYSTEM, name="tiny", accelerator="T4", memory_bytes=3 * 1024**3)
    fleet.flavor_create(actor=SYSTEM, name="cpu", accelerator="cpu", kv_cache_bytes=4 * 1024**3)
    fleet.flavor_create(actor=SYSTEM, name="unknown", accelerator="X1")


@pytest.mark.usefixtures("flavors")
def test_every_flavor_is_answered_for_step_by_step(api: Api, model: str) -> None:
    body = api.get(f"/models/{model}/sizing", context=32768, concurrency=4).body
    assert (body["context_length"], body["concurrency"], body["unsized"]) == (32768, 4, ["unknown"])
    found: dict[str, dict[str, Any]] = {fit["flavor"]: fit for fit in body["fits"]}
    assert found["h100"]["fits"]
    assert found["h100"]["kv_token_bytes"] == 2 * 36 * 8 * 128 * 2
    assert found["h100"]["max_concurrency"] > 4
    assert not found["tiny"]["fits"]
    assert found["tiny"]["reason"]
    assert any("8 KV heads" in step["text"] for step in found["h100"]["steps"])
    assert body["fits"][0]["fits"]


@pytest.mark.usefixtures("flavors")
def test_a_context_that_the_model_does_not_read_is_said(api: Api, model: str) -> None:
    body = api.get(f"/models/{model}/sizing", context=1000000).body
    assert {fit["verdict"] for fit in body["fits"]} == {"context"}


def test_bad_input_names_the_field(api: Api, model: str) -> None:
    for field, value in (("context", "0"), ("concurrency", "many"), ("kv_cache_dtype", "q4")):
        answer = api.get(f"/models/{model}/sizing", **{field: value})
        assert answer.status == 400
        assert field in str(answer.body)


def test_a_revision_without_a_configuration_cannot_be_sized(api: Api, acme: Tenant) -> None:
    empty = model_create(actor=actor_in(acme), tenant_id=acme.pk, name="empty").public_id
    answer = api.get(f"/models/{empty}/sizing")
    assert answer.status == 409
    assert "config.json" in answer.body["detail"]


def test_every_tensor_is_listed_with_its_bytes(api: Api, model: str) -> None:
    body = api.get(f"/models/{model}/tensors").body
    assert body["data"] == [
        {"name": "b", "dtype": "BF16", "shape": [8, 4], "bytes": 64, "file": "model.safetensors"},
        {"name": "a.weight", "dtype": "F32", "shape": [4], "bytes": 16, "file": "model.safetensors"},
    ]
    assert (body["total"], body["total_bytes"], body["next_offset"]) == (2, 80, None)
    filtered = api.get(f"/models/{model}/tensors", q="weight", limit=1).body
    assert [tensor["name"] for tensor in filtered["data"]] == ["a.weight"]
    first = api.get(f"/models/{model}/tensors", limit=1).body
    assert (first["total"], first["next_offset"]) == (2, 1)


def test_another_tenant_sees_neither(rival_api: Api, model: str) -> None:
    for what in ("sizing", "tensors", "archive"):
        assert rival_api.get(f"/models/{model}/{what}").status == 404
