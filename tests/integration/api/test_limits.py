"""Limits over the API: of keys by an admin, of endpoints by their owner."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from tests.integration.api.client import Api, api_of

CHAT: dict[str, Any] = {"name": "chat", "model": "acme/tiny"}
KEY: dict[str, Any] = {"name": "app", "role": "inference"}


def _limits(body: dict[str, Any]) -> tuple[Any, Any, Any]:
    return body["requests_per_minute"], body["tokens_per_minute"], body["concurrency"]


def test_a_key_is_limited_from_the_start_and_later(api: Api) -> None:
    made = api.post("/api-keys", {**KEY, "requests_per_minute": 60, "concurrency": None})
    assert (made.status, _limits(made.body)) == (201, (60, None, None))
    address = f"/api-keys/{made.body['id']}"
    changed = api.patch(address, {"requests_per_minute": None, "tokens_per_minute": 10_000})
    assert (changed.status, _limits(changed.body)) == (200, (None, 10_000, None))
    assert _limits(api.get("/api-keys").body["data"][0]) == (None, 10_000, None)
    assert "secret" not in changed.body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"tokens_per_minute": -5}, "tokens_per_minute"),
        ({"concurrency": "many"}, "concurrency"),
        ({"concurrency": 2**31}, "concurrency"),
        ({"default_max_tokens": 1}, "default_max_tokens"),
        ({"name": "other"}, "name"),
        ({}, None),
    ],
)
def test_bad_limits_of_a_key_are_named(api: Api, body: dict[str, Any], field: str | None) -> None:
    made = api.post("/api-keys", KEY).body
    assert api.patch(f"/api-keys/{made['id']}", body).problem == (400, "invalid_input", field)
    if field not in ("name", None):
        assert api.post("/api-keys", {**KEY, **body}).problem == (400, "invalid_input", field)


def test_whose_keys_may_be_limited(api: Api, rival_api: Api, acme: Tenant) -> None:
    made = api.post("/api-keys", KEY).body
    address = f"/api-keys/{made['id']}"
    assert rival_api.patch(address, {"concurrency": 1}).problem == (404, "not_found", None)
    assert api_of(acme, Role.DEVELOPER).patch(address, {"concurrency": 1}).problem[0] == 403
    api.delete(address)
    assert api.patch(address, {"concurrency": 1}).problem == (409, "conflict", None)


def test_an_endpoint_is_limited_without_a_new_generation(served: Tenant, api: Api) -> None:
    made = api.post("/endpoints", {**CHAT, "concurrency": 8, "default_max_tokens": 256}).body
    assert (_limits(made), made["default_max_tokens"]) == ((None, None, 8), 256)
    changed = api.patch(f"/endpoints/{made['id']}", {"concurrency": None, "tokens_per_minute": 5_000}).body
    assert (_limits(changed), changed["default_max_tokens"]) == ((None, 5_000, None), 256)
    assert changed["generation"] == made["generation"] == 1
    both = api.patch(f"/endpoints/{made['id']}", {"replicas": 2, "default_max_tokens": None}).body
    assert (both["replicas"], both["generation"], both["default_max_tokens"]) == (2, 2, None)


@pytest.mark.parametrize("field", ["requests_per_minute", "tokens_per_minute", "concurrency", "default_max_tokens"])
def test_bad_limits_of_an_endpoint_are_named(served: Tenant, api: Api, field: str) -> None:
    assert api.post("/endpoints", {**CHAT, field: 0}).problem == (400, "invalid_input", field)
    made = api.post("/endpoints", CHAT).body
    assert api.patch(f"/endpoints/{made['id']}", {field: -1}).problem == (400, "invalid_input", field)


def test_a_change_that_half_fails_changes_nothing(served: Tenant, api: Api) -> None:
    made = api.post("/endpoints", CHAT).body
    assert api.patch(f"/endpoints/{made['id']}", {"concurrency": 1, "replicas": 60}).status >= 400
    assert _limits(api.get(f"/endpoints/{made['id']}").body) == (None, None, None)
