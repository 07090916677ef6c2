"""Object storage behind one small interface: content by tenant and sha256. Here as a local folder; S3 comes beside it.

Called by registry.services (small files of a commit), hub.blobs (large ones) and the inspection (where the bytes lie).
Keys begin with the tenant's id: one tenant's content can neither be found nor guessed by another.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from django.conf import settings

from freehold.common.errors import InvalidInput, Refused

if TYPE_CHECKING:
    import uuid

_SHA256 = re.compile(r"[0-9a-f]{64}")


class BlobWriter(Protocol):
    """Takes the bytes of one blob in order. Not thread-safe; every call may block on the disk."""

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Appends. Raises Refused once there is more than was declared, OSError where the disk is full."""

    def commit(self) -> None:
        """Verifies size and sha256, then makes the blob visible, durably. Raises Refused on a mismatch."""

    def abort(self) -> None:
        """Throws away what was written; harmless after commit."""


class ObjectStore(Protocol):
    """Where content lies."""

    def size(self, tenant_id: uuid.UUID, sha256: str) -> int | None:
        """Bytes of a blob of this tenant, or None where it has none."""

    def writer(self, tenant_id: uuid.UUID, *, sha256: str, size: int) -> BlobWriter:
        """Begins a blob of exactly `size` bytes with this hash."""

    def path(self, tenant_id: uuid.UUID, sha256: str) -> Path:
        """Where a blob lies on this machine. It need not exist."""

    def open(self, tenant_id: uuid.UUID, sha256: str) -> BinaryIO:
        """A blob for reading. Raises FileNotFoundError."""


class LocalStore:
    """A folder: <root>/<tenant id>/<sha256>, half-written files in <root>/.partial."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, tenant_id: uuid.UUID, sha256: str) -> Path:
        """Raises InvalidInput for what is not a SHA-256, so that no path can be smuggled in."""
        if not _SHA256.fullmatch(sha256):
            raise InvalidInput("A content hash is 64 lower-case hex characters (SHA-256).", field="oid")
        return self._root / str(tenant_id) / sha256

    def size(self, tenant_id: uuid.UUID, sha256: str) -> int | None:
        """As ObjectStore."""
        try:
            return self.path(tenant_id, sha256).stat().st_size
        except FileNotFoundError:
            return None

    def open(self, tenant_id: uuid.UUID, sha256: str) -> BinaryIO:
        """As ObjectStore."""
        return self.path(tenant_id, sha256).open("rb")

    def writer(self, tenant_id: uuid.UUID, *, sha256: str, size: int) -> BlobWriter:
        """As ObjectStore."""
        target = self.path(tenant_id, sha256)
        partial = self._root / ".partial" / f"{sha256}.{secrets.token_hex(8)}"
        for folder in (target.parent, partial.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return LocalWriter(partial=partial, target=target, sha256=sha256, size=size)


class LocalWriter:
    """Writes to a temporary file, hashing on the way; an atomic rename makes it a blob."""

    def __init__(self, *, partial: Path, target: Path, sha256: str, size: int) -> None:
        self._partial, self._target, self._sha256, self._size = partial, target, sha256, size
        self._hash = hashlib.sha256()
        self._written = 0
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """As BlobWriter."""
        self._written += len(chunk)
        if self._written > self._size:
            raise Refused(f"More than the declared {self._size} bytes came. Upload the file again.")
        self._hash.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[self._file.write(view) :]

    def commit(self) -> None:
        """As BlobWriter."""
        try:
            self._verify()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self._target)
            _fsync_folder(self._target.parent)
        except BaseException:  # also an interruption: nothing half-written may stay
            self.abort()
            raise

    def _verify(self) -> None:
        if self._written != self._size:
            raise Refused(f"{self._written} bytes came, not the declared {self._size}. Upload the file again.")
        if self._hash.hexdigest() != self._sha256:
            raise Refused(
                f"The content has the sha256 {self._hash.hexdigest()}, not the declared {self._sha256}: "
                "it was changed on its way, or while it was read. Upload the file again."
            )

    def abort(self) -> None:
        """As BlobWriter."""
        self._file.close()
        self._partial.unlink(missing_ok=True)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put(store: ObjectStore, tenant_id: uuid.UUID, content: bytes) -> str:
    """Stores a small content at once, where it is not there yet. Returns its sha256."""
    sha256 = hashlib.sha256(content).hexdigest()
    if store.size(tenant_id, sha256) != len(content):
        writer = store.writer(tenant_id, sha256=sha256, size=len(content))
        try:
            writer.write(content)
            writer.commit()
        finally:
            writer.abort()
    return sha256


@lru_cache(maxsize=4)
def _local(root: Path) -> LocalStore:
    return LocalStore(root)


def object_store() -> ObjectStore:
    """The store this installation is configured with."""
    return _local(Path(settings.OBJECT_STORE_PATH))
