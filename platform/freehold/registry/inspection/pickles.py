"""Finds pickles, which run code when loaded, by name and by content, whatever they are called or wrapped in."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import BinaryIO, Final, cast

from freehold.registry.inspection.opcodes import is_pickle
from freehold.registry.inspection.problems import Problem

# Pickles, archives of pickles (PyTorch, TorchServe, NeMo, NumPy), and Keras's, whose layers may be marshalled code.
NAMES: Final = frozenset(
    {".bin", ".pt", ".pt2", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".npy", ".npz", ".mar"}
    | {".ptl", ".jit", ".torchscript", ".nemo", ".keras", ".cloudpickle"}
)
_REMEDY = (
    "Convert it to safetensors (safetensors.torch.save_file, or save_pretrained of transformers) and upload it; where "
    "the weights are there as safetensors already, leave this file out."
)
_UNREAD_REMEDY = "Unpack it and upload what is in it, or leave it out."
_MEMBERS = 10_000
_HEAD_BYTES = 4096
_UNPACKED_BYTES = 1024 * 1024

_NUMPY: Final = b"\x93NUMPY"
_NUMPY_OBJECTS: Final = re.compile(rb"['|<>=,(]O\d*['\"]")
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
# Archives that the standard library does not read, so nobody can say that there is no pickle inside.
_UNREADABLE: Final = {
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!\x1a\x07": "RAR",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\x04\x22\x4d\x18": "LZ4",
    b"\x1f\x9d": "compress",
    b"!<arch>\n": "ar",
    b"MSCF": "cabinet",
}
_BROKEN: Final = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, ValueError, NotImplementedError,
    RuntimeError, EOFError, MemoryError,
)  # fmt: skip


def name_problem(path: str) -> Problem | None:
    """Why a file is refused by its name alone: asked before it is even uploaded."""
    if _is_named_so(path):
        return _problem(path, "is a pickle by its name, which can run code when loaded")
    return None


def _is_named_so(path: str) -> bool:
    return PurePosixPath(path.lower()).suffix in NAMES


def pickle_problem(path: str, stream: BinaryIO) -> Problem | None:
    """Why the file is refused as a pickle, or None. `stream` is seekable and at its beginning.

    Not for *.safetensors: those are read strictly, and their tensors may look like anything.
    """
    by_name = name_problem(path)
    if by_name is not None:
        return by_name
    head = stream.read(_HEAD_BYTES)
    stream.seek(0)
    if _holds_objects(head) or is_pickle(stream):
        return _problem(path, "is a pickle, which can run code when loaded, whatever its name says")
    for magic, kind in _UNREADABLE.items():
        if head.startswith(magic):
            return _unread(path, f"is a {kind} archive")
    try:
        found = _in_compressed(stream, head) or _in_archive(stream, head)
    except _BROKEN:
        found = "is an archive that cannot be read"
    if found is None:
        return None
    return _problem(path, found) if found.startswith("is a pickle") else _unread(path, found)


def _problem(path: str, detail: str) -> Problem:
    return Problem(file=path, reason="pickle", detail=detail, remedy=_REMEDY)


def _unread(path: str, what: str) -> Problem:
    detail = f"{what}, which is not read through and so not known to be free of pickles"
    return Problem(file=path, reason="archive", detail=detail, remedy=_UNREAD_REMEDY)


def _holds_objects(head: bytes) -> bool:
    """Whether it is a NumPy array of Python objects, which are pickled."""
    return head.startswith(_NUMPY) and _NUMPY_OBJECTS.search(head) is not None


def _in_compressed(stream: BinaryIO, head: bytes) -> str | None:
    content = _unpacked(stream, head)
    if content is None:
        return None
    try:
        start = content.read(_HEAD_BYTES)
        content.seek(0)
        if _holds_objects(start) or is_pickle(content):
            return "is a pickle, compressed, which can run code when loaded"
    except _BROKEN:
        return None if head[:1] in b"\x78\x5d" else "is a compressed file that cannot be read"
    return "is an archive within a compressed file" if _is_container(start) else None


def _unpacked(stream: BinaryIO, head: bytes) -> BinaryIO | None:
    """What a compressed file holds, unpacked as it is read; None where it is not one."""
    stream.seek(0)
    if head[:2] == b"\x1f\x8b":
        return cast("BinaryIO", gzip.GzipFile(fileobj=stream, mode="rb"))
    if head[:3] == b"BZh":
        return cast("BinaryIO", bz2.BZ2File(stream))
    if head[:6] == b"\xfd7zXZ\x00" or head[:3] == b"\x5d\x00\x00":
        return cast("BinaryIO", lzma.LZMAFile(stream))
    if head[:1] == b"\x78":  # zlib, or any text that begins with an x
        try:
            return io.BytesIO(zlib.decompressobj().decompress(stream.read(_UNPACKED_BYTES), _UNPACKED_BYTES))
        except zlib.error:
            return None
    return None


def _is_container(head: bytes) -> bool:
    """Whether bytes begin an archive or a compressed file. Not by what lies at their end: they are a beginning."""
    return head.startswith((*_ZIP, b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", *_UNREADABLE)) or _is_tar(head)


def _is_tar(head: bytes) -> bool:
    """By its first header's checksum: the oldest tars have no magic number."""
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def _in_archive(stream: BinaryIO, head: bytes) -> str | None:
    """What is wrong with the archive; None where nothing is, or it is none."""
    stream.seek(0)
    if zipfile.is_zipfile(stream):
        stream.seek(0)
        with zipfile.ZipFile(stream) as zipped:
            return _in_zip(zipped)
    if _is_tar(head):
        stream.seek(0)
        with tarfile.open(fileobj=stream, mode="r:") as tarred:
            return _in_tar(tarred)
    return None


def _in_zip(archive: zipfile.ZipFile) -> str | None:
    members = archive.infolist()
    if len(members) > _MEMBERS:
        return f"is an archive of {len(members)} files"
    for member in members:
        if member.flag_bits & 1:
            return "is an archive with a password"
        with archive.open(member) as content:
            found = _in_member(member.filename, cast("BinaryIO", content))
        if found is not None:
            return found
    return None


def _in_tar(archive: tarfile.TarFile) -> str | None:
    for count, member in enumerate(archive):
        if count > _MEMBERS:
            return f"is an archive of more than {_MEMBERS} files"
        content = archive.extractfile(member) if member.isfile() else None
        found = _in_member(member.name, cast("BinaryIO", content) if content is not None else io.BytesIO())
        if found is not None:
            return found
    return None


def _in_member(name: str, content: BinaryIO) -> str | None:
    head = content.read(_HEAD_BYTES)
    content.seek(0)
    if _is_named_so(name) or _holds_objects(head) or is_pickle(content):
        return "is a pickle, in an archive, which can run code when loaded"
    return "is an archive within an archive" if _is_container(head) else None
