"""What the web process does before Django sees a request."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from freehold.config import bodies
from freehold.config.asgi import application
from freehold.config.bodies import LARGEST_BODY, Body

COMMIT = "/api/models/a/b/commit/main"
KEY = "key"
ACME, RIVAL = uuid.uuid4(), uuid.uuid4()


def _scope(path: str, secret: str = "") -> dict[str, Any]:
    headers = [(b"host", b"127.0.0.1")]
    if secret:
        headers.append((b"authorization", f"Bearer {secret}".encode()))
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "server": ("127.0.0.1", 80),
    }


class Client:
    """Sends pieces, keeps what comes back."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.waiting = list(pieces)
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        return {
            "type": "http.request",
            "body": self.waiting.pop(0) if self.waiting else b"",
            "more_body": bool(self.waiting),
        }

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


async def _status(path: str, pieces: list[bytes], secret: str = "") -> int:
    client = Client(pieces)
    await application(_scope(path, secret), client.receive, client.send)
    return int(client.sent[0]["status"])


async def _large(secret: str = KEY) -> Body:
    """A commit of which more has come than anybody may send."""
    client = Client([b"x" * LARGEST_BODY] * 3)
    body = Body(_scope(COMMIT, secret), client.receive)
    for _ in range(2):
        await body.receive()
    return body


async def _refusal(body: Body) -> int:
    client = Client([])
    await body.finish(client.send)
    return int(client.sent[0]["status"]) if client.sent else 200


@pytest.fixture(autouse=True)
def tenants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose keys there are."""
    monkeypatch.setattr(bodies, "committer", {KEY: ACME, "other": RIVAL}.get)
    monkeypatch.setattr(bodies, "_large", type(bodies._large)())


@pytest.mark.parametrize("path", ["/api/v1/endpoints", "/api/models/a/b/preupload/main", "/nowhere", COMMIT])
async def test_a_body_that_is_too_large_is_refused_before_it_is_kept(path: str) -> None:
    assert await _status(path, [b"x" * (LARGEST_BODY // 2)] * 3) == 413


async def test_a_key_that_may_not_write_makes_no_room() -> None:
    assert await _status(COMMIT, [b"x" * LARGEST_BODY] * 2, "guessed") == 413


async def test_a_key_makes_room_for_a_commit_and_for_nothing_else() -> None:
    assert await _refusal(await _large()) == 200
    assert await _status("/api/v1/endpoints", [b"x" * LARGEST_BODY] * 2, KEY) == 413


async def test_a_commit_has_a_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LARGEST_COMMIT", LARGEST_BODY + 1)
    assert await _refusal(await _large()) == 413


async def test_few_large_bodies_come_at_once_and_of_one_tenant_fewer() -> None:
    mine = [await _large() for _ in range(2)]
    assert await _refusal(await _large()) == 503
    theirs = [await _large("other") for _ in range(2)]
    assert await _refusal(await _large("other")) == 503
    for body in [*mine, *theirs]:
        assert await _refusal(body) == 200
    assert await _refusal(await _large()) == 200


async def test_a_body_that_stands_still_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "IDLE_SECONDS", 0.01)
    client = Client([])

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    await application(_scope("/nowhere"), receive, client.send)
    assert client.sent[0]["status"] == 408


async def test_waiting_for_a_hang_up_is_not_standing_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "IDLE_SECONDS", 0.01)
    gone = asyncio.Event()
    messages = iter([{"type": "http.request", "body": b"{}", "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    body = Body(_scope("/nowhere"), receive)
    await body.receive()
    waiting = asyncio.create_task(body.receive())
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    gone.set()
    await waiting
    assert await _refusal(body) == 200


async def test_what_is_not_http_is_left_alone() -> None:
    await application({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
