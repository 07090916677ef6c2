"""Finds pickles, which run code when loaded, by name and by content, whatever they are called or wrapped in."""

from __future__ import annotations

import bz2
import io
import lzma
import pickletools
import re
import tarfile
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import BinaryIO, Final

from freehold.registry.inspection.problems import Problem

NAMES: Final = frozenset(
    {".bin", ".pt", ".pt2", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".npy", ".npz", ".mar"}
)
_REMEDY = (
    "Convert it to safetensors (safetensors.torch.save_file, or save_pretrained of transformers) and upload it; where "
    "the weights are there as safetensors already, leave this file out."
)
_SNIFFED = 1024 * 1024
_MEMBERS = 10_000
_IMPORT = re.compile(r"[\w.]+ [\w.]+")


def name_problem(path: str) -> Problem | None:
    """Why a file is refused by its name alone: asked before it is even uploaded."""
    if PurePosixPath(path.lower()).suffix in NAMES:
        return _problem(path, "is a pickle by its name, which can run code when loaded")
    return None


def pickle_problem(path: str, stream: BinaryIO) -> Problem | None:
    """Why the file is refused as a pickle, or None. `stream` is seekable and at its beginning.

    Not for *.safetensors: those are read strictly, and their tensors may look like anything.
    """
    by_name = name_problem(path)
    if by_name is not None:
        return by_name
    head = stream.read(_SNIFFED)
    if is_pickle(head):
        return _problem(path, "is a pickle, which can run code when loaded, whatever its name says")
    if is_pickle(_unpacked(head)):
        return _problem(path, "is a compressed pickle, which can run code when loaded")
    stream.seek(0)
    if _archive_holds_pickle(stream, head):
        return _problem(path, "is an archive with a pickle inside, which can run code when loaded")
    return None


def _problem(path: str, detail: str) -> Problem:
    return Problem(file=path, reason="pickle", detail=detail, remedy=_REMEDY)


def is_pickle(head: bytes) -> bool:
    """Whether bytes are the beginning of a pickle of any protocol that could do something when loaded."""
    if head[:1] == b"\x80" and head[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}:
        return True
    # Protocols 0 and 1 have no magic number: take the opcodes as an unpickler would, without running them.
    stream, imports = io.BytesIO(head), False
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            imports = imports or opcode.name == "STACK_GLOBAL"
            imports = imports or (opcode.name in {"GLOBAL", "INST"} and _IMPORT.fullmatch(str(argument)) is not None)
    except (ValueError, IndexError, UnicodeError, OverflowError, MemoryError):
        return imports and len(head) == _SNIFFED and stream.tell() == len(head)  # a longer one, cut by us
    return imports


def _unpacked(head: bytes) -> bytes:
    """The first bytes of what a compressed file holds; empty where it is not one."""
    try:
        if head[:2] == b"\x1f\x8b":
            return zlib.decompressobj(wbits=31).decompress(head, 4096)
        if head[:1] == b"\x78":
            return zlib.decompressobj().decompress(head, 4096)
        if head[:3] == b"BZh":
            return bz2.BZ2Decompressor().decompress(head, 4096)
        if head[:6] == b"\xfd7zXZ\x00" or head[:3] == b"\x5d\x00\x00":
            return lzma.LZMADecompressor(memlimit=64 * 1024 * 1024).decompress(head, 4096)
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError):
        return b""
    return b""


def _archive_holds_pickle(stream: BinaryIO, head: bytes) -> bool:
    if zipfile.is_zipfile(stream):
        stream.seek(0)
        return _zip_holds_pickle(stream)
    if head[257:262] == b"ustar":
        stream.seek(0)
        return _tar_holds_pickle(stream)
    return False


def _zip_holds_pickle(stream: BinaryIO) -> bool:
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            if len(members) > _MEMBERS:
                return True
            for member in members:
                if PurePosixPath(member.filename.lower()).suffix in NAMES or member.flag_bits & 1:
                    return True
                with archive.open(member) as content:
                    if is_pickle(content.read(4096)):
                        return True
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, RuntimeError, EOFError):
        return True  # an archive that cannot be read through is not known to be free of pickles
    return False


def _tar_holds_pickle(stream: BinaryIO) -> bool:
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for count, member in enumerate(archive):
                if count > _MEMBERS or PurePosixPath(member.name.lower()).suffix in NAMES:
                    return True
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None and is_pickle(content.read(4096)):
                    return True
    except (tarfile.TarError, OSError, ValueError, EOFError):
        return True
    return False
