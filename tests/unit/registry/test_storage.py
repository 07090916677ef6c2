"""The object store in a folder: what is visible is whole, and nothing else stays."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import pytest

from freehold.common.errors import InvalidInput, Refused
from freehold.registry.storage import BlobWriter, LocalStore, put

TENANT = uuid.UUID(int=1)
OTHER = uuid.UUID(int=2)


def test_content_is_found_by_its_own_tenant_only(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    sha256 = put(store, TENANT, b"weights")
    assert store.size(TENANT, sha256) == 7
    with store.open(TENANT, sha256) as stream:
        assert stream.read() == b"weights"
    assert store.size(OTHER, sha256) is None
    assert put(store, TENANT, b"weights") == sha256


@pytest.mark.parametrize(("content", "size"), [(b"other..", 7), (b"short", 7), (b"too long", 7)])
def test_a_mismatch_leaves_nothing(tmp_path: Path, content: bytes, size: int) -> None:
    store = LocalStore(tmp_path)
    sha256 = hashlib.sha256(b"weights").hexdigest()
    writer = store.writer(TENANT, sha256=sha256, size=size)
    with pytest.raises(Refused):
        _write(writer, content)
    writer.abort()
    assert store.size(TENANT, sha256) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def _write(writer: BlobWriter, content: bytes) -> None:
    writer.write(content)
    writer.commit()


@pytest.mark.parametrize("sha256", ["../../etc/passwd", "", "A" * 64, "a" * 63])
def test_a_key_that_is_no_hash_is_refused(tmp_path: Path, sha256: str) -> None:
    with pytest.raises(InvalidInput):
        LocalStore(tmp_path).size(TENANT, sha256)
