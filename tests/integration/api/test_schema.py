"""The OpenAPI description is valid, whole and public."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import get_resolver
from drf_spectacular.generators import SchemaGenerator

from freehold.api.urls import urlpatterns


@pytest.fixture
def schema() -> dict[str, Any]:
    response = Client().get("/api/v1/schema", {"format": "json"})
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def test_it_generates_without_a_warning(tmp_path: Path) -> None:
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "schema.yaml"))


def test_it_describes_every_address(schema: dict[str, Any]) -> None:
    assert get_resolver() is not None
    described = {path.removeprefix("/api/v1/") for path in schema["paths"]}
    addresses = {
        str(pattern.pattern).replace("<str:", "{").replace("<path:", "{").replace(">", "}") for pattern in urlpatterns
    }
    assert described == addresses - {"schema", "^.*$"}


def test_every_operation_wants_a_key_and_describes_its_problems(schema: dict[str, Any]) -> None:
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation["security"] == [{"apiKey": []}], (method, path)
            refusal = operation["responses"]["401"]["content"]
            assert list(refusal) == ["application/problem+json"], (method, path)


def test_every_post_takes_an_idempotency_key(schema: dict[str, Any]) -> None:
    posts = [operations["post"] for operations in schema["paths"].values() if "post" in operations]
    assert posts
    for post in posts:
        assert "Idempotency-Key" in [parameter["name"] for parameter in post["parameters"]]


def test_answers_match_their_description(schema: dict[str, Any]) -> None:
    """The fields that must be there in an endpoint, by name."""
    fields = set(schema["components"]["schemas"]["EndpointOut"]["properties"])
    assert {
        "id", "name", "model_name", "model", "revision", "billing_mode", "kind", "replicas", "ready_replicas",
        "generation", "observed_generation", "phase", "conditions", "flavor", "region", "arguments", "weight_digest",
        "engine_digest", "created_at", "replica_list", "requests_per_minute", "tokens_per_minute", "concurrency",
        "default_max_tokens",
    } == fields  # fmt: skip


def test_it_is_made_once(schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def again(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(SchemaGenerator, "get_schema", again)
    answer = Client().get("/api/v1/schema", {"format": "json"})
    assert answer.json() == schema
