"""The API as it is served: granian, ASGI, a real socket and a real key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest

from freehold.api.parsing import MAX_BODY

if TYPE_CHECKING:
    from tests.integration.hub.live import Web


@pytest.fixture(scope="module")
def web(django_db_setup: None) -> Iterator[Web]:
    from tests.integration.hub.live import web_process

    with web_process() as running:
        yield running


@pytest.fixture
def client(web: Web, committed_db: None) -> Iterator[httpx.Client]:
    """A client with the key of an admin of `acme`."""
    from tests.integration.hub.live import customer

    secret = customer("acme").secret
    with httpx.Client(
        base_url=f"{web.url}/api/v1", headers={"Authorization": f"Bearer {secret}"}, timeout=30
    ) as running:
        yield running


def test_a_model_is_made_once_and_read(client: httpx.Client) -> None:
    for _ in range(2):
        made = client.post("/models", json={"name": "tiny"}, headers={"Idempotency-Key": "k1"})
        assert made.status_code == 201
    assert made.headers["Idempotent-Replayed"] == "true"
    assert client.get(made.headers["Location"].removeprefix("/api/v1")).json()["name"] == "acme/tiny"
    assert [model["name"] for model in client.get("/models").json()["data"]] == ["acme/tiny"]
    assert client.get("/endpoints/ep_x").headers["Content-Type"] == "application/problem+json"


def test_a_body_in_chunks_is_told_to_state_its_length(client: httpx.Client) -> None:
    answer = client.post("/models", content=iter([b'{"name": "tiny"}']), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (411, "length_required")


def test_a_body_too_large_is_refused(client: httpx.Client) -> None:
    answer = client.post("/models", content=b" " * (MAX_BODY + 1), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_the_description_is_served_to_anybody(web: Web) -> None:
    assert httpx.get(f"{web.url}/api/v1/schema", timeout=30).text.startswith("openapi: 3.")
