"""How a journal lies on disk: segment files of checksummed records. Pure file handling; journal.py gives it meaning.

A segment is a header, then records: length (4 bytes, big-endian), CRC-32 of the payload (4), payload (msgpack of an
Entry). A record that is cut short or fails its checksum ends the segment: that is what a crash in the middle of a
write leaves. A process never appends to a segment of a former one, so a torn tail is always the last thing in its
file.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING

import msgspec

from freehold.wire.usage import UsageRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = 1
_MAGIC = b"FHJRNL\0\0"
_HEADER = struct.Struct(">8sHxx16sQI")  # magic, version, epoch, next sequence when it was begun, CRC of what precedes
_PREFIX = struct.Struct(">II")
_LARGEST = 1024 * 1024
_PIECE = 2 * _LARGEST  # read at once; holds any record


class Open(msgspec.Struct, frozen=True, tag="open", tag_field="t", omit_defaults=True):
    """Before anything is forwarded: who, what, and in which slot the tokens are counted."""

    slot: int
    record: UsageRecord


class Close(msgspec.Struct, frozen=True, tag="close", tag_field="t", omit_defaults=True):
    """The final numbers; a sequence of 0 and no record where there is nothing to bill."""

    event: str
    sequence: int = 0
    record: UsageRecord | None = None


Entry = Open | Close
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Open | Close)


class JournalUnreadable(Exception):
    """A segment's header is not ours or from a version that we cannot read."""


def pack(entry: Entry) -> bytes:
    """The bytes of one record."""
    payload = _encoder.encode(entry)
    return _PREFIX.pack(len(payload), zlib.crc32(payload)) + payload


def header(epoch: bytes, sequence: int) -> bytes:
    """The bytes a segment begins with. `epoch` is 16 bytes."""
    head = _HEADER.pack(_MAGIC, VERSION, epoch, sequence, 0)[:-4]
    return head + zlib.crc32(head).to_bytes(4, "big")


def name(number: int) -> str:
    """File name of a segment; they sort by number."""
    return f"{number:012d}.journal"


def listing(folder: Path) -> list[tuple[int, Path]]:
    """Segments there are, oldest first."""
    return sorted((int(path.name.split(".")[0]), path) for path in folder.glob("*.journal"))


def read_header(data: bytes, path: Path) -> tuple[bytes, int] | None:
    """(epoch, next sequence), or None where the header itself was torn. Raises JournalUnreadable for another format."""
    if len(data) < _HEADER.size:
        return None
    magic, version, epoch, sequence, checksum = _HEADER.unpack_from(data)
    if zlib.crc32(data[: _HEADER.size - 4]) != checksum:
        return None
    if magic != _MAGIC or not 1 <= version <= VERSION + 1:
        raise JournalUnreadable(f"{path} is not a journal that this version can read (version {version}).")
    return epoch, sequence


def is_empty(data: bytes) -> bool:
    """Whether a file without a readable header cannot have held a record."""
    return len(data) <= _HEADER.size


def read(data: bytes) -> Iterator[Entry]:
    """Entries of a segment up to its end or its torn tail."""
    return (entry for entry, _ in _scan(data, _HEADER.size))


def read_closes(path: Path, position: int, above: int, limit: int) -> tuple[list[tuple[int, UsageRecord]], int]:
    """Billed closes with a sequence above `above`, at most `limit`, from `position` on (0: the first). Returns them and
    the position behind the last, from which the next call can go on."""
    position = max(position, _HEADER.size)
    found: list[tuple[int, UsageRecord]] = []
    with path.open("rb") as file:
        while True:
            file.seek(position)
            data = file.read(_PIECE)
            end = 0
            for entry, end in _scan(data, 0):
                if isinstance(entry, Close) and entry.record is not None and entry.sequence > above:
                    found.append((entry.sequence, entry.record))
                    if len(found) == limit:
                        return found, position + end
            position += end
            if end == 0 or len(data) < _PIECE:
                return found, position


def _scan(data: bytes, position: int) -> Iterator[tuple[Entry, int]]:
    """Entries and the position behind each."""
    while position + _PREFIX.size <= len(data):
        length, checksum = _PREFIX.unpack_from(data, position)
        start = position + _PREFIX.size
        payload = data[start : start + length]
        if length > _LARGEST or len(payload) < length or zlib.crc32(payload) != checksum:
            return
        position = start + length
        yield _decoder.decode(payload), position


def write_all(file: int, data: bytes, position: int) -> None:
    """Appends at `position`, or leaves the file as it was and raises OSError: half a record must not stay behind."""
    try:
        written = os.pwrite(file, data, position)
        while written < len(data):  # the second write of a full disk says what is wrong
            written += os.pwrite(file, data[written:], position + written)
    except OSError:
        os.ftruncate(file, position)
        raise
