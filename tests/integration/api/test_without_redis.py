"""With Redis down, people still get their work done; only what comes from Redis is missing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from freehold.wire import connection, hints
from tests.factories.tenants import make_fleet, make_revision, make_tenant
from tests.integration.api.client import Api, api_of


@pytest.fixture
def api(committed_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A tenant with a model and a fleet, before Redis went away."""
    tenant = make_tenant()
    make_fleet()
    make_revision(tenant)
    ready = api_of(tenant)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    for cached in (connection.client, hints._sender):
        cached.cache_clear()
    yield ready
    for cached in (connection.client, hints._sender):
        cached.cache_clear()


def test_writes_go_through_and_do_not_keep_anybody_waiting(api: Api) -> None:
    began = time.monotonic()
    made = api.post("/endpoints", {"name": "chat", "model": "acme/tiny"}, key="k1")
    assert made.status == 201
    assert api.patch(f"/endpoints/{made.body['id']}", {"replicas": 2}).status == 200
    assert api.post("/api-keys", {"name": "ci", "role": "viewer"}).status == 201
    assert time.monotonic() - began < 5


def test_logs_are_unavailable_and_nothing_else(api: Api) -> None:
    made = api.post("/endpoints", {"name": "chat", "model": "acme/tiny"}).body
    assert api.get(f"/endpoints/{made['id']}/logs").problem == (503, "unavailable", None)
    assert api.get(f"/endpoints/{made['id']}").body == made
