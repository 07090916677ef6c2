"""What an object store must do, and what travels through it. Content lies under tenant/sha256: one tenant's can neither
be found nor guessed by another. Bytes that a store can move by itself (presigned URLs) never pass through this process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from freehold.common.errors import InvalidInput

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

PART_BYTES: Final = 64 * 1024 * 1024
MOST_PARTS: Final = 10_000  # S3's limit

_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_sha256(sha256: str) -> str:
    """The hash. Raises InvalidInput for what is not a SHA-256, so that no path can be smuggled in."""
    if not _SHA256.fullmatch(sha256):
        raise InvalidInput("A content hash is 64 lower-case hex characters (SHA-256).", field="oid")
    return sha256


def part_bytes_of(size: int) -> int:
    """Bytes of each part but the last, for content of `size` bytes: a multiple of PART_BYTES, at most MOST_PARTS of
    them."""
    whole = -(-size // MOST_PARTS)
    return max(1, -(-whole // PART_BYTES)) * PART_BYTES


@dataclass(frozen=True, kw_only=True)
class Multipart:
    """A transfer in parts that has begun. `id` is the store's own name of it; `sha256` is empty where the hash is only
    known at the end (an import whose source knows none)."""

    tenant_id: uuid.UUID
    id: str
    sha256: str
    size: int
    part_bytes: int

    @property
    def parts(self) -> int:
        """How many parts it has; they are numbered from 1."""
        return max(1, -(-self.size // self.part_bytes))

    def length(self, number: int) -> int:
        """Bytes of part `number`. Raises InvalidInput for a part it does not have."""
        if not 1 <= number <= self.parts:
            raise InvalidInput(f"This upload has the parts 1 to {self.parts}, not {number}.", field="partNumber")
        return min(self.part_bytes, self.size - (number - 1) * self.part_bytes)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part that has arrived whole."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A content as the store itself lists it."""

    sha256: str
    size: int
    modified_at: datetime


class Writer(Protocol):
    """Takes bytes in order. Not thread-safe; every call may block."""

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Appends. Raises Refused once there is more than was declared, OSError where the disk is full."""

    def commit(self) -> str:
        """Makes what was written visible, durably, if it is what was declared. Returns its etag (the sha256 of a whole
        content). Raises Refused on a mismatch."""

    def abort(self) -> None:
        """Throws away what was written; harmless after commit."""


class ObjectStore(Protocol):
    """Where content lies. Every method may block on disk or network."""

    def size(self, tenant_id: uuid.UUID, sha256: str) -> int | None:
        """Bytes of a content of this tenant, or None where it has none."""

    def open(self, tenant_id: uuid.UUID, sha256: str) -> BinaryIO:
        """A content for reading; seekable. Raises FileNotFoundError."""

    def path(self, tenant_id: uuid.UUID, sha256: str) -> Path | None:
        """Where a content lies on this machine, though it need not exist; None where the store is elsewhere."""

    def writer(self, tenant_id: uuid.UUID, *, sha256: str, size: int) -> Writer:
        """Begins a content of exactly `size` bytes with this hash, which `commit` verifies."""

    def delete(self, tenant_id: uuid.UUID, sha256: str) -> None:
        """Removes a content; harmless where there is none."""

    def listing(self, tenant_id: uuid.UUID) -> Iterator[Stored]:
        """Everything that lies there for a tenant, in any order."""

    def sweep(self, *, before: datetime) -> int:
        """Removes leftovers of writers (not of multiparts) that died before that time; returns how many."""

    def upload_url(self, tenant_id: uuid.UUID, *, sha256: str, size: int, seconds: int) -> str | None:
        """Where a client may PUT the whole content by itself; None where it goes through the hub. What comes this way
        has not been hashed by anybody."""

    def download_url(self, tenant_id: uuid.UUID, *, sha256: str, filename: str, seconds: int) -> str | None:
        """Where a client may GET the content by itself, as an attachment; None where it goes through the hub."""

    def multipart_begin(self, tenant_id: uuid.UUID, *, sha256: str, size: int) -> Multipart:
        """Begins a transfer in parts of part_bytes_of(size) bytes."""

    def part_url(self, multipart: Multipart, *, number: int, seconds: int) -> str | None:
        """Where a client may PUT a part by itself; None where it goes through the hub."""

    def part_writer(self, multipart: Multipart, *, number: int) -> Writer:
        """For a part that passes through this process. Raises NotFound where the transfer is gone, Unavailable while
        somebody else writes this part or where it has just arrived: look at `parts` again."""

    def parts(self, multipart: Multipart) -> list[Part]:
        """The parts that have arrived whole, by number. Raises NotFound where the transfer is gone."""

    def multipart_complete(self, multipart: Multipart, parts: Sequence[Part]) -> Completed:
        """Puts the parts together under tenant/sha256. Raises Refused where parts are missing, differ, or the hash is
        another (then nothing of it stays). Doing it twice is harmless."""

    def multipart_abort(self, multipart: Multipart) -> None:
        """Throws its parts away; harmless where it is gone."""


@dataclass(frozen=True, kw_only=True)
class Completed:
    """What a finished multipart is. `verified`: this process has hashed every byte; else somebody still has to."""

    sha256: str
    verified: bool
