"""What is staged of a far-away tree: little, and never so that a hole is taken for content."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import pickle
import tarfile
import threading
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import pytest

from freehold.common.errors import NotFound, Refused, Unavailable
from freehold.registry import staging
from freehold.registry.inspection.pickles import pickle_problem
from freehold.registry.inspection.run import InspectedFile, inspect
from freehold.registry.staging import Limits, staged
from freehold.registry.trees import Entry
from tests.factories.models_on_disk import framed, model_files, safetensors_bytes

MIB = 1024 * 1024
TENANT = uuid.UUID(int=1)
SMALL = Limits(small=0, whole=64 * MIB, total=128 * MIB)  # then whatever is larger than 2 MiB counts as large


class FarStore:
    """A store that is elsewhere, and counts what is read of it."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.read = 0
        self._lock = threading.Lock()

    def path(self, tenant_id: uuid.UUID, sha256: str) -> None:
        return None

    def open(self, tenant_id: uuid.UUID, sha256: str) -> BinaryIO:
        if sha256 not in self.contents:
            raise FileNotFoundError(sha256)
        return Counting(self, self.contents[sha256])

    def count(self, amount: int) -> None:
        with self._lock:
            self.read += amount


class Counting(io.BytesIO):
    def __init__(self, store: FarStore, content: bytes) -> None:
        super().__init__(content)
        self._store = store

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        self._store.count(len(chunk))
        return chunk


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where things are staged; afterwards nothing is left there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, bytes]], tuple[FarStore, dict[str, Entry]]]:
    """Puts files into a far store, and returns it with their tree."""

    def put(files: dict[str, bytes]) -> tuple[FarStore, dict[str, Entry]]:
        named = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
        store = FarStore({named[path]: content for path, content in files.items()})
        monkeypatch.setattr(staging, "object_store", lambda: store)
        tree = {
            path: Entry(sha256=named[path], size=len(content), oid="0" * 40, lfs=True)
            for path, content in files.items()
        }
        return store, tree

    return put


Far = Callable[[dict[str, bytes]], tuple[FarStore, dict[str, Entry]]]


def test_a_model_is_inspected_by_its_headers(far: Far) -> None:
    files = {**model_files(), "model-2.safetensors": safetensors_bytes(fill=20 * MIB)}
    store, tree = far(files)
    with staged(TENANT, tree) as found:
        report = inspect(found)
        assert {file.path: file.location.stat().st_size for file in found} == {
            path: len(content) for path, content in files.items()
        }
    assert report.problems == ()
    assert report.weights == ("model-2.safetensors", "model.safetensors")
    assert store.read < 64 * 1024


@pytest.mark.parametrize("header", [b"{" + b" " * (9 * MIB), b"[]", b'{"a": 1}', b""])
def test_malformed_headers_are_refused_as_ever(far: Far, header: bytes) -> None:
    _, tree = far({**model_files(), "model.safetensors": framed(header) + bytes(100)})
    with staged(TENANT, tree) as found:
        assert [problem.file for problem in inspect(found).problems] == ["model.safetensors"]


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _tar(members: dict[str, bytes], *, kind: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


PICKLE = pickle.dumps(print)
OLD_PICKLE = pickle.dumps(print, protocol=0)
NOISE = bytes(range(32, 127)) * (4 * MIB // 95)
LATE = {"ballast.txt": NOISE, "last": PICKLE}


@pytest.mark.parametrize(
    "content",
    {
        "a pickle": PICKLE + NOISE,
        "an old pickle": OLD_PICKLE + NOISE,
        "an old pickle behind a long text": b"S'" + b"a" * (3 * MIB) + b"'\n0" + OLD_PICKLE + NOISE,
        "an old pickle behind long bytes": b"X"
        + (3 * MIB).to_bytes(4, "little")
        + b"a" * (3 * MIB)
        + b"0"
        + OLD_PICKLE,
        "an old pickle behind many numbers": b"I1\n0" * (200 * 1024 // 4) + OLD_PICKLE + NOISE,
        "an old pickle after what ends the first": b"N." * (100 * 1024) + OLD_PICKLE + NOISE,
        "a zip": _zip(LATE),
        "a zip behind something else": NOISE + _zip({"a": PICKLE}),
        "a zip with a long comment": _zip(LATE)[:-2] + (60_000).to_bytes(2, "little") + b"c" * 60_000,
        "a tar": _tar(LATE),
        "an old tar": _tar(LATE, kind=tarfile.USTAR_FORMAT),
        "a tar without magic": _tar(LATE, kind=tarfile.GNU_FORMAT).replace(b"ustar", b"\0\0\0\0\0"),
        "gzip": gzip.compress(b"I1\n0" * MIB + OLD_PICKLE + os.urandom(3 * MIB), compresslevel=1),
        "bzip2": bz2.compress(OLD_PICKLE + os.urandom(4 * MIB), 1),
        "xz": lzma.compress(OLD_PICKLE + os.urandom(4 * MIB), preset=0),
        "lzma": lzma.compress(OLD_PICKLE + os.urandom(4 * MIB), format=lzma.FORMAT_ALONE, preset=0),
        "zlib": zlib.compress(OLD_PICKLE + os.urandom(4 * MIB), 1),
        "7-Zip": b"7z\xbc\xaf\x27\x1c" + NOISE,
        "a NumPy array of objects": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', }" + NOISE,
        "noise": NOISE,
        "random": os.urandom(4 * MIB),
        "zeros": bytes(4 * MIB),
        "GGUF": b"GGUF\x03\x00\x00\x00" + os.urandom(4 * MIB),
        "text": b"Once upon a time, " * (4 * MIB // 18),
    }.items(),
    ids=lambda item: item[0],
)
def test_the_verdict_on_a_large_file_is_that_on_the_whole(far: Far, content: tuple[str, bytes]) -> None:
    _, tree = far({"file": content[1]})
    expected = pickle_problem("file", io.BytesIO(content[1]))
    with staged(TENANT, tree, limits=SMALL) as [file], file.location.open("rb") as stream:
        assert pickle_problem("file", stream) == expected


@pytest.mark.parametrize(("path", "content"), [("model.gguf", NOISE * 4), ("pytorch_model.bin", _zip(LATE))])
def test_only_the_ends_of_large_files_are_fetched(far: Far, path: str, content: bytes) -> None:
    store, tree = far({path: content})
    with staged(TENANT, tree, limits=SMALL):
        assert store.read < 2.5 * MIB


def test_what_is_packed_and_too_large_is_refused(far: Far) -> None:
    _, tree = far({"data.tar": _tar(LATE)})
    limits = Limits(small=0, whole=3 * MIB, total=128 * MIB)
    with (
        pytest.raises(Refused, match=r"data\.tar: is packed, .* too large .* Unpack it"),
        _opened(tree, limits),
    ):
        pass


def test_too_much_to_look_through_is_refused(far: Far) -> None:
    _, tree = far({f"{number}.txt": os.urandom(100) for number in range(5)})
    with pytest.raises(Refused, match="and 4 other files"), _opened(tree, Limits(total=400)):
        pass


def test_content_that_is_gone_or_cut_is_named(far: Far) -> None:
    store, tree = far({"a.txt": b"12", "b.txt": b"345"})
    store.contents[tree["a.txt"].sha256] = b"1"
    with pytest.raises(Refused, match=r"a\.txt: what arrived is not 2 bytes"), _opened(tree, None):
        pass
    del store.contents[tree["a.txt"].sha256]
    with pytest.raises(NotFound, match=r"a\.txt: its content is gone"), _opened(tree, None):
        pass


def test_a_store_that_breaks_off_is_to_be_asked_again(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    store, tree = far({"a.txt": b"12"})

    def broken(*_: object) -> BinaryIO:
        raise ConnectionError("broken")

    monkeypatch.setattr(store, "open", broken)
    with pytest.raises(Unavailable, match="Commit again"), _opened(tree, None):
        pass


def test_a_full_disk_is_said_to_be(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    _, tree = far({"a.txt": b"12"})
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1}))
    with pytest.raises(Unavailable, match="has no room for 2 B"), _opened(tree, None):
        pass


def test_what_a_killed_process_left_is_removed(far: Far, temporary: Path) -> None:
    left = temporary / "freehold-inspection-left"
    left.mkdir()
    os.utime(left, (0, 0))
    _, tree = far({"a.txt": b"12"})
    with staged(TENANT, tree):
        assert not left.exists()


def _opened(tree: dict[str, Entry], limits: Limits | None) -> AbstractContextManager[list[InspectedFile]]:
    return staged(TENANT, tree, limits=limits)
