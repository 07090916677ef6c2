"""A revision as one tar: what the customer takes along. Called by hub.exports and the command revision_export.

The same revision is always the same tar, byte for byte, and every byte's place is known before the first is sent: so a
download has a length, and goes on where it was cut. Format: POSIX.1-2001 (pax), which any tar reads; paths and sizes
that the older headers cannot hold are in pax records.
"""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from freehold.registry.models import ModelFile, Revision

_BLOCK: Final = tarfile.BLOCKSIZE
_RECORD: Final = tarfile.RECORDSIZE


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of bytes of the tar: `content` itself, or where `sha256` is set that content of the object store.

    `start` is its place in the tar, `length` its bytes.
    """

    start: int
    length: int
    content: bytes = b""
    sha256: str = ""
    path: str = ""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The part of a segment that lies in a window: `length` bytes from `offset` of it on."""

    segment: Segment
    offset: int
    length: int


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The tar of one revision. `name` is its file name, and without `.tar` the folder that everything lies in. `etag`
    is another wherever a byte of the tar is: the model's name and the revision's time are in it too."""

    name: str
    etag: str
    segments: tuple[Segment, ...]
    size: int

    def window(self, first: int, last: int) -> Iterator[Slice]:
        """What lies between two bytes of the tar, both included, in order."""
        for segment in self.segments:
            begin, end = max(first, segment.start), min(last + 1, segment.start + segment.length)
            if begin < end:
                yield Slice(segment=segment, offset=begin - segment.start, length=end - begin)


def archive_of(revision: Revision, files: Sequence[ModelFile]) -> Archive:
    """The tar of a revision, whose repo is loaded, and its files."""
    folder = f"{revision.repo.name}-{revision.commit_id[:12]}"
    moment = int(revision.created_at.timestamp())
    segments: list[Segment] = []
    position = 0
    for segment in _segments(folder, moment, sorted(files, key=lambda file: file.path)):
        placed = Segment(
            start=position, length=segment.length, content=segment.content, sha256=segment.sha256, path=segment.path
        )
        segments.append(placed)
        position += placed.length
    end = b"\0" * (_round(position + 2 * _BLOCK, _RECORD) - position)
    segments.append(Segment(start=position, length=len(end), content=end))
    etag = hashlib.sha256(f"{revision.digest} {folder} {moment}".encode()).hexdigest()
    return Archive(name=f"{folder}.tar", etag=etag, segments=tuple(segments), size=position + len(end))


def _segments(folder: str, moment: int, files: Iterable[ModelFile]) -> Iterator[Segment]:
    for file in files:
        entry = tarfile.TarInfo(f"{folder}/{file.path}")
        entry.size, entry.mtime, entry.mode = file.size, moment, 0o644
        header = entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
        yield Segment(start=0, length=len(header), content=header)
        if file.size:
            yield Segment(start=0, length=file.size, sha256=file.sha256, path=file.path)
        padding = b"\0" * (_round(file.size, _BLOCK) - file.size)
        if padding:
            yield Segment(start=0, length=len(padding), content=padding)


def _round(size: int, to: int) -> int:
    return -(-size // to) * to
