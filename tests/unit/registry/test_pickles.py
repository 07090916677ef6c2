"""Pickles that hide: built against the walker of opcodes, against archives, against names."""

from __future__ import annotations

import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.registry.inspection.pickles import name_problem, pickle_problem

# Harmless here: it would only print. Protocol 0, so that nothing at its beginning gives it away.
_CALL = b"cbuiltins\nprint\n(S'it ran'\ntR."
_HARMLESS = [pickle.dumps(value, 0) for value in (1, "x", [1, 2])]


def _reason(content: bytes, path: str = "notes.txt") -> str | None:
    problem = pickle_problem(path, io.BytesIO(content))
    return None if problem is None else problem.reason


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(_CALL[:-1], id="that never stops"),
        pytest.param(_CALL[:-1] + b"\xff\xff not a pickle any more", id="with junk behind the call"),
        pytest.param(b"I0x10\n0" + _CALL, id="behind a number only one unpickler reads"),
        pytest.param(b"L99\n0F1_0\n0" + _CALL, id="behind other odd numbers"),
        pytest.param(b"X\x00\x00\x20\x00" + b"a" * 0x200000 + b"0" + _CALL, id="behind two megabytes of text"),
        pytest.param(b"V" + b"a" * 2_000_000 + b"\n0" + _CALL, id="behind a long line"),
        pytest.param(b"N0" * 100_000 + _CALL, id="behind much ado about nothing"),
        pytest.param(b"I1\n." + _CALL, id="behind another pickle"),
        pytest.param(b"L119547037146038801333356L\n.I1001\n.(d." + _CALL, id="as old PyTorch files are"),
        pytest.param(b"(S'it ran'\nibuiltins\nprint\n.", id="by INST"),
        pytest.param(b"(cbuiltins\nprint\nS'it ran'\no.", id="by OBJ"),
        pytest.param(b"\x8c\x08builtins\x8c\x05print\x93\x8c\x06it ran\x85R.", id="by STACK_GLOBAL, with no protocol"),
        pytest.param(b"\x80\x00" + _CALL, id="with protocol 0 stated"),
        pytest.param(b"\x82\x01)R.", id="by a registered extension"),
        pytest.param(b"cbuiltins\nobject\n)\x81}b.", id="by NEWOBJ and BUILD"),
    ],
)
def test_a_pickle_that_hides_is_found(content: bytes) -> None:
    assert _reason(content) == "pickle"


@given(st.binary(max_size=64), st.sampled_from(_HARMLESS))
def test_whatever_follows_a_call_changes_nothing(junk: bytes, before: bytes) -> None:
    assert _reason(before + _CALL[:-1] + junk) == "pickle"


@given(st.text(max_size=400))
def test_ordinary_text_is_no_pickle(text: str) -> None:
    assert _reason(("# Notes\n\n" + text).encode()) is None


@pytest.mark.parametrize(
    "content",
    [b"cat\ndog\nRest", b"cat\ncats\n(emu\nfox", b"config of\nthe model\nR", b"import os\nprint('hi')\n", b"\x0a\x0b"],
)
def test_words_are_no_pickle(content: bytes) -> None:
    assert _reason(content) is None


def _zip(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def _tar(name: str, content: bytes, form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def _without_magic(tar: bytes) -> bytes:
    """The same tar as the seventh edition of Unix wrote it."""
    header = bytearray(tar[:512])
    header[257:265] = bytes(8)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + tar[512:]


_LONG = b"X\x00\x00\x02\x00" + b"a" * 0x20000 + b"0" + _CALL


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(_zip("weights", _LONG), "pickle", id="zip, behind long text"),
        pytest.param(_tar("weights", _LONG), "pickle", id="tar, behind long text"),
        pytest.param(_without_magic(_tar("weights", _CALL, tarfile.USTAR_FORMAT)), "pickle", id="old tar"),
        pytest.param(_zip("a/data.PKL", b""), "pickle", id="zip, by name"),
        pytest.param(gzip.compress(_LONG), "pickle", id="gzip, behind long text"),
        pytest.param(lzma.compress(_CALL), "pickle", id="xz"),
        pytest.param(lzma.compress(_CALL, lzma.FORMAT_ALONE), "pickle", id="lzma"),
        pytest.param(zlib.compress(_CALL), "pickle", id="zlib"),
        pytest.param(gzip.compress(_tar("x", _CALL)), "archive", id="tar.gz"),
        pytest.param(gzip.compress(_zip("x", _CALL)), "archive", id="zip.gz"),
        pytest.param(gzip.compress(gzip.compress(_CALL)), "archive", id="gzip twice"),
        pytest.param(_zip("x", _zip("x", _CALL)), "archive", id="zip in zip"),
        pytest.param(_tar("x", gzip.compress(_CALL)), "archive", id="gzip in tar"),
        pytest.param(b"7z\xbc\xaf\x27\x1c" + bytes(64), "archive", id="7-Zip"),
        pytest.param(b"Rar!\x1a\x07\x01\x00" + bytes(64), "archive", id="RAR"),
        pytest.param(b"\x28\xb5\x2f\xfd" + bytes(64), "archive", id="Zstandard"),
        pytest.param(gzip.compress(_CALL)[:12], "archive", id="broken gzip"),
        pytest.param(_zip("x", b"hello" * 99)[:40] + _zip("x", b"hello" * 99)[44:], "archive", id="broken zip"),
        pytest.param(b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False}\n", "pickle", id="NumPy objects"),
        pytest.param(b"\x93NUMPY\x01\x00v\x00{'descr': [('a', '|O8')]}\n", "pickle", id="NumPy records of objects"),
        pytest.param(b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'shape': (3,)}\n", None, id="NumPy numbers"),
        pytest.param(gzip.compress(b"hello" * 1000), None, id="gzip of text"),
        pytest.param(_zip("notes/readme.txt", b"hello"), None, id="zip of text"),
        pytest.param(_tar("readme.txt", b"hello"), None, id="tar of text"),
        pytest.param(b"x marks the spot\n", None, id="text that begins as zlib might"),
        pytest.param(b"]\x00\x00 no lzma", None, id="bytes that begin as lzma might"),
        pytest.param(b"GGUF\x03\x00\x00\x00" + bytes(64), None, id="GGUF"),
        pytest.param(b"\x89HDF\r\n\x1a\n" + bytes(64), None, id="HDF5"),
    ],
)
def test_an_archive_is_read_through_or_refused(content: bytes, reason: str | None) -> None:
    assert _reason(content) == reason


@pytest.mark.parametrize(
    "path",
    ["training_args.bin", "adapter_model.bin", "deep/er/model.PT", "model.ptl", "model.jit", "asr.nemo", "m.keras"],
)
def test_names_that_libraries_unpickle_are_refused_before_any_byte(path: str) -> None:
    assert name_problem(path) is not None


@pytest.mark.parametrize("path", ["modeling_x.py", "model.gguf", "tf_model.h5", "flax_model.msgpack", "data.jsonl"])
def test_files_that_nothing_opens_are_let_through_by_name(path: str) -> None:
    assert name_problem(path) is None


def test_the_cost_of_an_ordinary_large_file_is_small() -> None:
    reads: list[int] = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reads.append(size or 0)
            return super().read(size)

    walk: Callable[[], object] = lambda: pickle_problem("text.txt", Counted(b"Some words. " * 1_000_000))  # noqa: E731
    assert walk() is None
    assert sum(reads) < 200_000
