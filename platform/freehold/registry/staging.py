"""Puts the files of a tree where the inspection, which knows no network, can read them. Called by commits.py.

Content in a local store is read where it lies. From elsewhere only what the inspection reads is fetched, into sparse
files of the real size: of weights the header, of other large files beginning and end. Where anything but a weight file
may hold something in between that the inspection would look at (an archive, a compressed file, the start of a pickle),
all of it is fetched, or the tree refused: a hole is never read as if it were content.
"""

from __future__ import annotations

import errno
import io
import shutil
import tarfile
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final

from freehold.common.errors import NotFound, Refused, Unavailable
from freehold.common.logging import get_logger
from freehold.registry.accounts import in_words
from freehold.registry.inspection.opcodes import is_pickle
from freehold.registry.inspection.pickles import name_problem
from freehold.registry.inspection.run import InspectedFile
from freehold.registry.inspection.weights import HEADER_BYTES
from freehold.registry.storage import object_store

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterator, Sequence

    from freehold.registry.storage.base import ObjectStore
    from freehold.registry.trees import Entry, Tree

    _Fetch = Callable[[BinaryIO, InspectedFile], bool]

log = get_logger(__name__)

_THREADS: Final = 8
_CHUNK: Final = 1024 * 1024
_PREFIX: Final = "freehold-inspection-"
_FORGOTTEN_SECONDS: Final = 3600.0

_HEAD: Final = 2 * 1024 * 1024  # readers of README, licence and templates end before; zlib is unpacked from 1 MiB
_TAIL: Final = 128 * 1024  # a zip's end record is within its last 64 KiB + 22 bytes (Lib/zipfile.py, _EndRecData)
_WALKED: Final = 64 * 1024  # text stops making sense as pickle opcodes within a line or two

# How files begin that are unpacked from end to end (inspection.pickles).
_PACKED: Final = (b"PK", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x5d\x00\x00")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bytes of what is fetched for one inspection.

    Attributes:
        small: what is no larger is fetched whole, whatever it is; more than any reader takes.
        whole: the largest file that is fetched whole because it is packed.
        total: of one tree.
    """

    small: int = 64 * 1024 * 1024
    whole: int = 2 * 1024**3
    total: int = 8 * 1024**3


class _Further(Exception):
    """What was looked at goes on behind the beginning that is known."""


class _Beginning(io.BytesIO):
    """The beginning of something longer: reading over its end is an error, not the end."""

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        if size is None or len(chunk) != size:
            raise _Further
        return chunk

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n"):
            raise _Further
        return line


@contextmanager
def staged(tenant_id: uuid.UUID, tree: Tree, *, limits: Limits | None = None) -> Iterator[list[InspectedFile]]:
    """The files by path, readable until the end of the block.

    Raises NotFound for content that is gone from the store, Refused for what is too large to be looked through, and
    Unavailable where the store or the disk fails.
    """
    store = object_store()
    here = {path: store.path(tenant_id, entry.sha256) for path, entry in tree.items()}
    if all(location is not None for location in here.values()):
        yield [_inspected(path, tree[path], location) for path, location in sorted(here.items()) if location]
        return
    _sweep()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
        stage = _Stage(store, tenant_id, Path(folder), limits or Limits())
        yield stage.fetch(tree)


def _inspected(path: str, entry: Entry, location: Path) -> InspectedFile:
    return InspectedFile(path=path, location=location, size=entry.size)


class _Stage:
    """One tree on its way to a folder."""

    def __init__(self, store: ObjectStore, tenant_id: uuid.UUID, folder: Path, limits: Limits) -> None:
        self._store, self._tenant_id, self._folder, self._limits = store, tenant_id, folder, limits

    def fetch(self, tree: Tree) -> list[InspectedFile]:
        """Fetches what the inspection reads."""
        files = [
            _inspected(path, entry, self._folder / str(number))
            for number, (path, entry) in enumerate(sorted(tree.items()))
        ]
        self._check_room([file for file in files if self._is_whole(file)])
        packed = [file for file, done in zip(files, self._each(self._begin, tree, files), strict=True) if not done]
        self._check_room(packed)
        self._each(self._complete, tree, packed)
        return files

    def _is_whole(self, file: InspectedFile) -> bool:
        return not _is_weights(file) and file.size <= self._limits.small

    def _check_room(self, files: Sequence[InspectedFile]) -> None:
        largest = max(files, key=lambda file: file.size, default=None)
        if largest is None:
            return
        if largest.size > self._limits.whole:
            raise Refused(
                f"{largest.path}: is packed, and with {in_words(largest.size)} too large to be looked through (at most "
                f"{in_words(self._limits.whole)}). Unpack it and upload what is in it, or leave it out.",
                field=largest.path,
            )
        wanted = sum(file.size for file in files)
        if wanted > self._limits.total:
            raise Refused(
                f"{largest.path} and {len(files) - 1} other files that are no safetensors have {in_words(wanted)}; at "
                f"most {in_words(self._limits.total)} of a model are looked through. Leave out what is not served.",
                field=largest.path,
            )
        if wanted > shutil.disk_usage(self._folder).free:
            raise _no_room(wanted)

    def _each(self, fetch: _Fetch, tree: Tree, files: Sequence[InspectedFile]) -> list[bool]:
        """`fetch` for every file, several at once."""
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="stage") as pool:
            try:
                return list(pool.map(lambda file: self._opened(fetch, tree[file.path], file), files))
            except BaseException:  # also an interruption: what has not begun need not
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _opened(self, fetch: _Fetch, entry: Entry, file: InspectedFile) -> bool:
        try:
            with self._store.open(self._tenant_id, entry.sha256) as source:
                if source.seek(0, io.SEEK_END) != file.size:
                    raise Refused(f"{file.path}: what arrived is not {file.size} bytes long. Upload it again.")
                source.seek(0)
                return fetch(source, file)
        except FileNotFoundError:
            raise NotFound(f"{file.path}: its content is gone from the object store. Upload it again.") from None
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise _no_room(file.size) from error
            log.warning("staging_failed", path=file.path, error=str(error))
            raise Unavailable(f"{file.path} could not be read from the object store. Commit again.") from error

    def _begin(self, source: BinaryIO, file: InspectedFile) -> bool:
        """Fetches what is read of the file; whether that is enough."""
        with file.location.open("xb+") as target:
            target.truncate(file.size)
            if _is_weights(file):
                prefix = _copy(source, target, 0, 8)
                length = int.from_bytes(prefix, "little")
                if length <= HEADER_BYTES:  # a longer one is refused by its length
                    _copy(source, target, 8, length)
                return True
            if file.size <= max(self._limits.small, _HEAD):
                _copy(source, target, 0, file.size)
                return True
            head = _copy(source, target, 0, _HEAD)
            _copy(source, target, file.size - _TAIL, _TAIL)
            return name_problem(file.path) is not None or not _goes_on(head, target)

    def _complete(self, source: BinaryIO, file: InspectedFile) -> bool:
        with file.location.open("rb+") as target:
            _copy(source, target, 0, file.size)
        return True


def _copy(source: BinaryIO, target: BinaryIO, start: int, length: int) -> bytes:
    """Copies a range to the same place; returns its first chunk."""
    source.seek(start)
    target.seek(start)
    first = b""
    while length > 0:
        chunk = source.read(min(length, _CHUNK))
        if not chunk:
            break
        first = first or chunk
        target.write(chunk)
        length -= len(chunk)
    target.flush()
    return first


def _goes_on(head: bytes, sparse: BinaryIO) -> bool:
    """Whether the inspection would look behind the beginning: then the whole is needed. Says yes where in doubt."""
    if head.startswith(_PACKED) or _is_tar(head):
        return True
    if zipfile.is_zipfile(sparse):  # by its end
        return True
    try:
        is_pickle(_Beginning(head[:_WALKED]))
    except _Further:
        return True
    return False


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def _is_weights(file: InspectedFile) -> bool:
    return PurePosixPath(file.path.lower()).suffix == ".safetensors"  # as inspection.files has it


def _no_room(wanted: int) -> Unavailable:
    return Unavailable(
        f"The machine that inspects uploads has no room for {in_words(wanted)} now. Commit again later; the operator "
        "can give it a larger TMPDIR."
    )


def _sweep() -> None:
    """Removes what processes left behind that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            forgotten = time.time() - folder.stat().st_mtime > _FORGOTTEN_SECONDS
        except FileNotFoundError:
            continue
        if forgotten:
            shutil.rmtree(folder, ignore_errors=True)
