"""Downloads by signed link, without a web server around them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import uuid
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from django.conf import settings

from freehold.hub.blobs import blobs
from freehold.registry.content_links import BlobLink, download_sign
from freehold.registry.storage import object_store
from freehold.registry.storage.local import LocalStore

TENANT = uuid.uuid4()
CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ETAG = f'"{SHA256}"'


class _Elsewhere(LocalStore):
    """A store that has neither a path nor a URL for its content."""

    def path(self, tenant_id: uuid.UUID, sha256: str) -> None:  # type: ignore[override]
        """None."""

    def size(self, tenant_id: uuid.UUID, sha256: str) -> int:
        return len(CONTENT)

    def open(self, tenant_id: uuid.UUID, sha256: str) -> BinaryIO:
        return io.BytesIO(CONTENT)


@pytest.fixture(autouse=True)
def stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The content, where it lies."""
    monkeypatch.setattr(settings, "OBJECT_STORE_PATH", tmp_path)
    writer = object_store().writer(TENANT, sha256=SHA256, size=len(CONTENT))
    writer.write(CONTENT)
    writer.commit()
    return tmp_path / str(TENANT) / SHA256


async def _get(method: str = "GET", *, pathsend: bool = False, **headers: str) -> tuple[int, dict[str, str], Any]:
    """Status, headers, and the body: bytes, or the path that the server is to send."""
    link = BlobLink(tenant_id=TENANT, sha256=SHA256, size=len(CONTENT), filename="a.bin")
    scope = {
        "type": "http",
        "method": method,
        "path": download_sign(origin="", link=link),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "extensions": {"http.response.pathsend": {}} if pathsend else {},
    }
    sent: list[dict[str, Any]] = []
    waiting = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        return waiting.pop() if waiting else await _never()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await blobs(scope, receive, send)
    start, *rest = sent
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    body = rest[0].get("path") or b"".join(message.get("body", b"") for message in rest)
    return start["status"], answered, body


async def _never() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_whole_file_is_left_to_the_server(stored: Path) -> None:
    status, headers, body = await _get(pathsend=True)
    assert (status, headers["content-length"], body) == (200, str(len(CONTENT)), str(stored))


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=300000-", 300_000, len(CONTENT) - 1),
        ("bytes=-5", len(CONTENT) - 5, len(CONTENT) - 1),
    ],
)
async def test_a_range_is_exactly_that(wanted: str, first: int, last: int) -> None:
    status, headers, body = await _get(pathsend=True, range=wanted)
    assert (status, headers["content-range"]) == (206, f"bytes {first}-{last}/{len(CONTENT)}")
    assert body == CONTENT[first : last + 1]


async def test_a_range_that_is_not_there_is_416() -> None:
    status, headers, body = await _get(range=f"bytes={len(CONTENT)}-")
    assert (status, headers["content-range"], body) == (416, f"bytes */{len(CONTENT)}", b"")


@pytest.mark.parametrize(
    ("condition", "status"), [(ETAG, 206), (f"W/{ETAG}", 200), ('"other"', 200), ("Tue, 01 Dec 2026 00:00:00 GMT", 200)]
)
async def test_a_range_on_condition_is_whole_where_the_condition_fails(condition: str, status: int) -> None:
    answer = await _get(range="bytes=5-9", if_range=condition)
    assert (answer[0], answer[2]) == (status, CONTENT[5:10] if status == 206 else CONTENT)


async def test_head_knows_no_ranges_and_has_no_body() -> None:
    status, headers, body = await _get("HEAD", range="bytes=5-9")
    assert (status, headers["content-length"], headers["etag"], body) == (200, str(len(CONTENT)), ETAG, b"")


async def test_what_is_gone_is_404() -> None:
    object_store().delete(TENANT, SHA256)
    status, _, body = await _get(pathsend=True)
    assert (status, b"gone" in body) == (404, True)


async def test_a_store_without_path_and_url_is_read_through(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("freehold.hub.blob_downloads.object_store", lambda: _Elsewhere(tmp_path))
    status, _, body = await _get(pathsend=True)
    assert (status, body) == (200, CONTENT)
    assert (await _get(range="bytes=-7"))[2] == CONTENT[-7:]


async def test_other_methods_are_405() -> None:
    assert (await _get("DELETE"))[0] == 405
