"""The object store as a folder of this machine, or one that several machines share.

<root>/<tenant id>/<sha256>          content, complete
<root>/.partial/<sha256>.<random>    a content on its way, in one piece
<root>/.multipart/<id>/content       one on its way in parts, each at its place in the file
<root>/.multipart/<id>/<number>      says that this part has arrived whole
<root>/.multipart/<id>/<number>.lock held (flock) by whoever writes this part
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from freehold.common.errors import NotFound, Refused, Unavailable
from freehold.registry.storage.base import Completed, Multipart, Part, Stored, check_sha256, part_bytes_of
from freehold.registry.storage.prefixes import Prefixes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PARTIAL: Final = ".partial"
_MULTIPART: Final = ".multipart"
_CONTENT: Final = "content"
_CHUNK: Final = 1024 * 1024
_PAGE: Final = 4096
# A client waits for the end of its transfer, and proxies on its way wait a minute. What cannot be hashed in time is
# left to a worker.
_HASH_SECONDS: Final = 20.0


class LocalStore:
    """ObjectStore over a folder."""

    def __init__(self, root: Path, *, hash_seconds: float = _HASH_SECONDS) -> None:
        self._root, self._hash_seconds = root, hash_seconds
        self._prefixes = Prefixes()

    def path(self, tenant_id: uuid.UUID, sha256: str) -> Path:
        """As ObjectStore, and always somewhere. Raises InvalidInput for what is not a SHA-256."""
        return self._root / str(tenant_id) / check_sha256(sha256)

    def size(self, tenant_id: uuid.UUID, sha256: str) -> int | None:
        """As ObjectStore."""
        try:
            return self.path(tenant_id, sha256).stat().st_size
        except FileNotFoundError:
            return None

    def open(self, tenant_id: uuid.UUID, sha256: str) -> BinaryIO:
        """As ObjectStore."""
        return self.path(tenant_id, sha256).open("rb")

    def writer(self, tenant_id: uuid.UUID, *, sha256: str, size: int) -> LocalWriter:
        """As ObjectStore."""
        target = self.path(tenant_id, sha256)
        partial = self._root / _PARTIAL / f"{sha256}.{secrets.token_hex(8)}"
        for folder in (target.parent, partial.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return LocalWriter(partial=partial, target=target, sha256=sha256, size=size)

    def delete(self, tenant_id: uuid.UUID, sha256: str) -> None:
        """As ObjectStore."""
        self.path(tenant_id, sha256).unlink(missing_ok=True)

    def listing(self, tenant_id: uuid.UUID) -> Iterator[Stored]:
        """As ObjectStore."""
        folder = self._root / str(tenant_id)
        if not folder.is_dir():
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # removed meanwhile
                    continue
                moment = datetime.fromtimestamp(found.st_mtime, tz=UTC)
                yield Stored(sha256=entry.name, size=found.st_size, modified_at=moment)

    def sweep(self, *, before: datetime) -> int:
        """As ObjectStore."""
        removed = 0
        for partial in (self._root / _PARTIAL).glob("*"):
            try:
                modified_at = datetime.fromtimestamp(partial.stat().st_mtime, tz=UTC)
            except FileNotFoundError:  # it has become content, or its writer gave up
                continue
            if modified_at < before:
                partial.unlink(missing_ok=True)
                removed += 1
        return removed

    def upload_url(self, tenant_id: uuid.UUID, *, sha256: str, size: int, seconds: int) -> None:
        """None: it goes through the hub."""

    def download_url(self, tenant_id: uuid.UUID, *, sha256: str, filename: str, seconds: int) -> None:
        """None: it goes through the hub."""

    def multipart_begin(self, tenant_id: uuid.UUID, *, sha256: str, size: int) -> Multipart:
        """As ObjectStore."""
        multipart = Multipart(
            tenant_id=tenant_id, id=uuid.uuid4().hex, sha256=sha256, size=size, part_bytes=part_bytes_of(size)
        )
        folder = self._folder(multipart)
        folder.mkdir(mode=0o700, parents=True)
        with (folder / _CONTENT).open("xb") as file:
            file.truncate(size)
        return multipart

    def part_url(self, multipart: Multipart, *, number: int, seconds: int) -> None:
        """None: it goes through the hub."""

    def part_writer(self, multipart: Multipart, *, number: int) -> LocalPartWriter:
        """As ObjectStore."""
        multipart.length(number)
        return LocalPartWriter(
            folder=self._existing(multipart), multipart=multipart, number=number, prefixes=self._prefixes
        )

    def parts(self, multipart: Multipart) -> list[Part]:
        """As ObjectStore."""
        numbers = sorted(int(marker.name) for marker in self._existing(multipart).iterdir() if marker.name.isdigit())
        return [Part(number=number, size=multipart.length(number), etag=_etag(number)) for number in numbers]

    def multipart_complete(self, multipart: Multipart, parts: Sequence[Part]) -> Completed:
        """As ObjectStore. Parts that came one after the other through this process have been hashed on their way;
        else the content is read, about a second a gigabyte. Where that takes too long and its hash is declared, it is
        taken unverified."""
        if multipart.sha256 and self.size(multipart.tenant_id, multipart.sha256) == multipart.size:
            self.multipart_abort(multipart)
            return Completed(sha256=multipart.sha256, verified=False)
        folder = self._existing(multipart)
        _check_parts(multipart, named=parts, arrived=self.parts(multipart))
        content = folder / _CONTENT
        found = self._hash(multipart, content)
        if found is not None and multipart.sha256 not in {"", found}:
            self.multipart_abort(multipart)
            raise _differs(found, multipart.sha256)
        _fsync(content)
        sha256 = found or multipart.sha256
        target = self.path(multipart.tenant_id, sha256)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content.replace(target)
        _fsync(target.parent)
        self.multipart_abort(multipart)
        return Completed(sha256=sha256, verified=found is not None)

    def _hash(self, multipart: Multipart, content: Path) -> str | None:
        """The SHA-256 of the whole, or None where it would take too long and is declared."""
        known = self._prefixes.of(multipart.id)
        digest = known.digest.copy()
        deadline = time.monotonic() + self._hash_seconds
        buffer = memoryview(bytearray(_CHUNK))
        with content.open("rb", buffering=0) as file:
            file.seek(known.position)
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                if multipart.sha256 and time.monotonic() > deadline:
                    return None
        return digest.hexdigest()

    def multipart_abort(self, multipart: Multipart) -> None:
        """As ObjectStore."""
        self._prefixes.forget(multipart.id)
        shutil.rmtree(self._folder(multipart), ignore_errors=True)

    def _folder(self, multipart: Multipart) -> Path:
        return self._root / _MULTIPART / uuid.UUID(multipart.id).hex

    def _existing(self, multipart: Multipart) -> Path:
        folder = self._folder(multipart)
        if not folder.is_dir():
            raise _gone()
        return folder


class LocalWriter:
    """Writes to a temporary file, hashing on the way; an atomic rename makes it a content."""

    def __init__(self, *, partial: Path, target: Path, sha256: str, size: int) -> None:
        self._partial, self._target, self._sha256, self._size = partial, target, sha256, size
        self._hash = hashlib.sha256()
        self._written = 0
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """As Writer."""
        self._written += len(chunk)
        if self._written > self._size:
            raise Refused(f"More than the declared {self._size} bytes came. Upload the file again.")
        self._hash.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[self._file.write(view) :]

    def commit(self) -> str:
        """As Writer."""
        try:
            self._verify()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self._target)
            _fsync(self._target.parent)
        except BaseException:  # also an interruption: nothing half-written may stay
            self.abort()
            raise
        return self._sha256

    def _verify(self) -> None:
        if self._written != self._size:
            raise Refused(f"{self._written} bytes came, not the declared {self._size}. Upload the file again.")
        if self._hash.hexdigest() != self._sha256:
            raise _differs(self._hash.hexdigest(), self._sha256)

    def abort(self) -> None:
        """As Writer."""
        self._file.close()
        self._partial.unlink(missing_ok=True)


class LocalPartWriter:
    """Writes one part at its place, alone: two that wrote different bytes there would make the hash a lie. Not synced
    to disk: should the machine lose power, the hash of the whole tells, which is then read again at the end.

    Past the page cache where file system and buffers allow it (open(2), O_DIRECT): weights of hundreds of gigabytes
    would push everything else out of memory, and filling pages costs more than the disk does. Buffers that begin at a
    page, such as an mmap, allow it.
    """

    def __init__(self, *, folder: Path, multipart: Multipart, number: int, prefixes: Prefixes) -> None:
        self._folder, self._multipart, self._number, self._prefixes = folder, multipart, number, prefixes
        self._start = self._position = (number - 1) * multipart.part_bytes
        self._end = self._start + multipart.length(number)
        self._lock = self._descriptor = self._direct = -1
        try:
            self._open()
        except FileNotFoundError:
            self.abort()
            raise _gone() from None
        except BlockingIOError:
            self.abort()
            raise Unavailable(
                f"Part {number} is being uploaded by somebody else at this moment. Upload the file again later."
            ) from None
        if (folder / str(number)).exists():
            self.abort()
            raise Unavailable(f"Part {number} has just arrived. Send it again.")
        self._digest = prefixes.digest_from(multipart.id, self._start)

    def _open(self) -> None:
        self._lock = os.open(self._folder / f"{self._number}.lock", os.O_WRONLY | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._descriptor = os.open(self._folder / _CONTENT, os.O_WRONLY)
        with contextlib.suppress(OSError):  # not every file system has it
            self._direct = os.open(self._folder / _CONTENT, os.O_WRONLY | os.O_DIRECT)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """As Writer."""
        view = memoryview(chunk)
        if self._position + len(view) > self._end:
            raise Refused("The part is longer than declared. Upload the file again.")
        if self._digest is not None:
            self._digest.update(view)
        while view:
            written = self._write(view)
            self._position += written
            view = view[written:]

    def _write(self, view: memoryview) -> int:
        if self._direct >= 0 and not self._position % _PAGE and len(view) >= _PAGE:
            try:
                return os.pwrite(self._direct, view[: len(view) // _PAGE * _PAGE], self._position)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                os.close(self._direct)  # the buffer does not begin at a page: neither will the next
                self._direct = -1
        return os.pwrite(self._descriptor, view, self._position)

    def commit(self) -> str:
        """As Writer."""
        if self._position != self._end:
            raise Refused(f"The part ended {self._end - self._position} bytes early. Upload the file again.")
        try:
            (self._folder / str(self._number)).touch()
        except FileNotFoundError:
            raise _gone() from None
        if self._digest is not None:
            self._prefixes.extend(self._multipart.id, start=self._start, end=self._end, digest=self._digest)
        self.abort()
        return _etag(self._number)

    def abort(self) -> None:
        """As Writer. What was written stays where it is, and counts for nothing."""
        for descriptor in (self._descriptor, self._direct, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._direct = self._lock = -1


def _etag(number: int) -> str:
    return f"part-{number}"


def _check_parts(multipart: Multipart, *, named: Sequence[Part], arrived: Sequence[Part]) -> None:
    expected = range(1, multipart.parts + 1) if multipart.size else range(0)
    missing = len(set(expected) - {part.number for part in arrived})
    if missing:
        raise Refused(f"{missing} of {multipart.parts} parts have not arrived. Upload the file again.")
    if multipart.size and [(part.number, part.etag) for part in named] != [(n, _etag(n)) for n in expected]:
        raise Refused("The parts named are not those that have arrived. Upload the file again.")


def _gone() -> NotFound:
    return NotFound("This upload is gone. Start it again.")


def _differs(found: str, declared: str) -> Refused:
    return Refused(
        f"The content has the sha256 {found}, not the declared {declared}: "
        "it was changed on its way, or while it was read. Upload the file again."
    )


def _fsync(path: Path) -> None:
    """A file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
