"""The object store as a local folder: nothing becomes content before it is whole and its hash is right."""

from __future__ import annotations

import hashlib
import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from freehold.common import clock
from freehold.common.errors import InvalidInput, NotFound, Refused, Unavailable
from freehold.registry.storage.base import MOST_PARTS, PART_BYTES, Multipart, Part, Writer, part_bytes_of
from freehold.registry.storage.local import LocalStore

TENANT, OTHER = uuid.uuid4(), uuid.uuid4()
CONTENT = b"first." + b"second" + b"3rd"


def put(store: LocalStore, tenant: uuid.UUID, content: bytes) -> str:
    """Stores content; returns its hash."""
    writer = store.writer(tenant, sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    return _write(writer, content)


def _write(writer: Writer, content: bytes) -> str:
    try:
        writer.write(content)
        return writer.commit()
    finally:
        writer.abort()


def _begin(store: LocalStore, content: bytes = CONTENT, *, named: bool = True) -> Multipart:
    """A transfer in parts of 6 bytes."""
    sha256 = hashlib.sha256(content).hexdigest() if named else ""
    begun = store.multipart_begin(TENANT, sha256=sha256, size=len(content))
    return Multipart(tenant_id=TENANT, id=begun.id, sha256=begun.sha256, size=begun.size, part_bytes=6)


def _send(store: LocalStore, multipart: Multipart, *numbers: int, content: bytes = CONTENT) -> list[Part]:
    for number in numbers:
        start = (number - 1) * multipart.part_bytes
        part = content[start : start + multipart.length(number)]
        _write(store.part_writer(multipart, number=number), part)
    return store.parts(multipart)


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_content_is_kept_under_its_tenant_and_hash_only(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    sha256 = put(store, TENANT, b"weights")
    assert store.size(TENANT, sha256) == 7
    with store.open(TENANT, sha256) as stream:
        assert stream.read() == b"weights"
    assert store.size(OTHER, sha256) is None
    assert put(store, TENANT, b"weights") == sha256
    assert [(stored.sha256, stored.size) for stored in store.listing(TENANT)] == [(sha256, 7)]
    assert list(store.listing(OTHER)) == []


@pytest.mark.parametrize("content", [b"other..", b"short", b"too long"])
def test_a_mismatch_leaves_nothing(tmp_path: Path, content: bytes) -> None:
    store = LocalStore(tmp_path)
    sha256 = hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(Refused):
        _write(store.writer(TENANT, sha256=sha256, size=7), content)
    assert store.size(TENANT, sha256) is None
    assert _files(tmp_path) == []


def test_what_dead_writers_left_is_swept(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    writer = store.writer(TENANT, sha256="a" * 64, size=7)
    writer.write(b"wei")
    assert store.sweep(before=clock.now() - timedelta(hours=1)) == 0
    assert store.sweep(before=clock.now() + timedelta(hours=1)) == 1
    assert _files(tmp_path) == []
    writer.abort()


@pytest.mark.parametrize("sha256", ["../../etc/passwd", "", "A" * 64, "a" * 63])
def test_a_key_that_is_no_hash_is_refused(tmp_path: Path, sha256: str) -> None:
    with pytest.raises(InvalidInput):
        LocalStore(tmp_path).size(TENANT, sha256)


@pytest.mark.parametrize(
    ("size", "part"),
    [(1, PART_BYTES), (PART_BYTES * MOST_PARTS, PART_BYTES), (PART_BYTES * MOST_PARTS + 1, 2 * PART_BYTES)],
)
def test_a_transfer_has_at_most_as_many_parts_as_s3_takes(size: int, part: int) -> None:
    assert part_bytes_of(size) == part


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_parts_become_content_in_whatever_order_they_come(tmp_path: Path, order: tuple[int, ...]) -> None:
    store = LocalStore(tmp_path)
    multipart = _begin(store)
    parts = _send(store, multipart, *order)
    assert [(part.number, part.size) for part in parts] == [(1, 6), (2, 6), (3, 3)]
    assert store.size(TENANT, multipart.sha256) is None
    completed = store.multipart_complete(multipart, parts)
    assert (completed.sha256, completed.verified) == (multipart.sha256, True)
    assert store.path(TENANT, multipart.sha256).read_bytes() == CONTENT
    assert len(_files(tmp_path)) == 1
    assert store.multipart_complete(multipart, parts).sha256 == multipart.sha256


def test_parts_that_came_in_order_are_not_read_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, hash_seconds=-1)
    multipart = _begin(store)
    assert store.multipart_complete(multipart, _send(store, multipart, 1, 2, 3)).verified


def test_what_takes_too_long_to_hash_is_left_to_somebody_else(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, hash_seconds=-1)
    multipart = _begin(store)
    parts = _send(store, multipart, 2, 1, 3)
    completed = store.multipart_complete(multipart, parts)
    assert (completed.sha256, completed.verified) == (multipart.sha256, False)
    assert store.size(TENANT, multipart.sha256) == len(CONTENT)


def test_a_content_without_a_name_gets_its_hash_at_the_end(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, hash_seconds=-1)
    multipart = _begin(store, named=False)
    completed = store.multipart_complete(multipart, _send(store, multipart, 3, 2, 1))
    assert (completed.sha256, completed.verified) == (hashlib.sha256(CONTENT).hexdigest(), True)


def test_a_transfer_goes_on_in_another_process(tmp_path: Path) -> None:
    before, after = LocalStore(tmp_path), LocalStore(tmp_path)
    multipart = _begin(before)
    _send(before, multipart, 1)
    assert [part.number for part in after.parts(multipart)] == [1]
    assert after.multipart_complete(multipart, _send(after, multipart, 2, 3)).verified


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1)])
def test_parts_of_another_content_are_thrown_away(tmp_path: Path, order: tuple[int, ...]) -> None:
    store = LocalStore(tmp_path)
    multipart = _begin(store)
    parts = _send(store, multipart, *order, content=CONTENT[::-1])
    with pytest.raises(Refused, match="Upload the file again"):
        store.multipart_complete(multipart, parts)
    assert _files(tmp_path) == []
    with pytest.raises(NotFound):
        store.parts(multipart)


def test_missing_and_misnamed_parts_are_refused_and_kept(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    multipart = _begin(store)
    with pytest.raises(Refused, match="1 of 3 parts have not arrived"):
        store.multipart_complete(multipart, _send(store, multipart, 1, 2))
    parts = _send(store, multipart, 3)
    with pytest.raises(Refused, match="not those that have arrived"):
        store.multipart_complete(multipart, parts[:2])
    assert store.parts(multipart) == parts
    with pytest.raises(InvalidInput, match="1 to 3"):
        store.part_writer(multipart, number=4)


def test_a_part_that_breaks_off_counts_for_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    multipart = _begin(store)
    with pytest.raises(Refused, match="3 bytes early"):
        _write(store.part_writer(multipart, number=1), b"fir")
    with pytest.raises(Refused, match="longer"):
        _write(store.part_writer(multipart, number=1), b"first.s")
    assert store.parts(multipart) == []
    assert store.multipart_complete(multipart, _send(store, multipart, 1, 2, 3)).verified


def test_a_part_is_written_by_one_at_a_time_and_once(tmp_path: Path) -> None:
    store, elsewhere = LocalStore(tmp_path), LocalStore(tmp_path)
    multipart = _begin(store)
    writer = store.part_writer(multipart, number=1)
    with pytest.raises(Unavailable, match="somebody else"):
        elsewhere.part_writer(multipart, number=1)
    writer.write(b"first.")
    writer.commit()
    with pytest.raises(Unavailable, match="just arrived"):
        elsewhere.part_writer(multipart, number=1)


def test_a_transfer_that_is_gone_says_so(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    multipart = _begin(store)
    writer = store.part_writer(multipart, number=1)
    store.multipart_abort(multipart)
    store.multipart_abort(multipart)
    with pytest.raises(NotFound, match="Start it again"):
        _write(writer, b"first.")
    with pytest.raises(NotFound):
        store.part_writer(multipart, number=1)
    with pytest.raises(NotFound):
        store.multipart_complete(multipart, [])
    assert _files(tmp_path) == []
