"""The append-only journal: what was opened, what it came to, and what metering has not yet confirmed.

Written by meter.py on the event loop: `open` and `close` collect, `flush` writes what a turn of the loop has collected
in one go (a copy into the page cache; it survives kill -9). Synced to disk in groups off the loop (the stated loss at
power failure is what lies between two syncs), read by shipper.py, shortened up to the watermark. Sequences number the
billed closes, without holes, in the order in which they were closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import uuid
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Final

from freehold.common.logging import get_logger
from freehold.gateway import segments
from freehold.gateway.segments import Close, Entry, Open

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from freehold.wire.usage import UsageRecord

log = get_logger(__name__)

SYNC_SECONDS: Final = 0.05
_WINDOW: Final = 20_000  # closed records kept in memory for the shipper; older ones are read back from disk


class JournalFull(Exception):
    """The journal cannot take another request now: the disk is full or failing."""


class _Segment:
    """A file. `first`: sequence of the first billed close that it can hold; `live`: opens in it without a close;
    `highest`: of the sequences closed in it."""

    __slots__ = ("first", "highest", "live", "number", "path")

    def __init__(self, number: int, path: Path, first: int) -> None:
        self.number = number
        self.path = path
        self.first = first
        self.live = 0
        self.highest = 0


class Journal:
    """One gateway's journal.

    Args:
        folder: where the segments lie; created where missing.
        segment_bytes: size at which a new segment is begun.
        reserve_bytes: free space on the disk below which `open` is refused.

    Attributes:
        epoch: 32 hex digits, new where there was no journal, and where the numbers of one cannot be trusted.
        sequence: of the newest close.
        replayed: the newest sequence that a former process left.
        synced: the newest sequence known to be on disk; only those are shipped.
        orphans: after the start, opens of a former process without a close. Each must be closed.
    """

    def __init__(self, folder: Path, *, segment_bytes: int, reserve_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._reserve_bytes = reserve_bytes
        self._segments: deque[_Segment] = deque()
        self._opened_in: dict[str, _Segment] = {}
        self._unwritten: deque[Close] = deque()  # closes that the disk has refused
        self._collected: list[Entry] = []  # since the last flush,
        self._packed: list[bytes] = []  # and their bytes
        self._forgotten = False  # opens since the last flush were lost before it was called
        self._window: deque[tuple[int, UsageRecord]] = deque(maxlen=_WINDOW)
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="journal-sync")
        self._retired: list[int] = []
        self._read_on = (0, 0, 0)  # segment, sequence, and the position in the file behind it
        self._dirty = False
        self._unsynced = False  # the last sync failed
        self._failed: OSError | None = None
        self.epoch = ""
        self.sequence = 0
        self.synced = 0
        self.watermark = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = -1
        self._size = 0  # of the newest segment with what is collected for it,
        self._on_disk = 0  # and without
        opens: dict[str, Open] = {}
        number, whole = self._replay(opens)
        self.orphans = list(opens.values())
        self._written = self.sequence
        if whole:
            self._begin(number)
        else:
            log.error("journal_damaged", epoch=self.epoch, sequence=self.sequence)
            self._renew(number)
        self.synced = self.replayed = self.sequence
        self.check_space()

    # What a former process left

    def _replay(self, opens: dict[str, Open]) -> tuple[int, bool]:
        """Reads all segments; fills `opens` with those without a close. Returns the number of the next segment, and
        whether the sequences go on without a hole through one epoch."""
        number, whole = 0, True
        for number, path in segments.listing(self._folder):
            data = _read_synced(path)
            found = segments.read_header(data, path)
            if found is None:
                whole = whole and segments.is_empty(data)
                path.rename(path.with_suffix(".damaged"))
                continue
            epoch, first = found[0].hex(), found[1]
            if not self._segments:
                self.epoch, self.sequence, self.watermark = epoch, first - 1, first - 1
            whole = whole and epoch == self.epoch and first == self.sequence + 1
            segment = _Segment(number, path, first)
            self._segments.append(segment)
            for entry in segments.read(data):
                whole = self._replay_entry(entry, segment, opens) and whole
        if not self.epoch:
            self.epoch = uuid.uuid4().hex
        return number + 1, whole

    def _replay_entry(self, entry: Entry, segment: _Segment, opens: dict[str, Open]) -> bool:
        """Returns whether a close has the number that follows."""
        if isinstance(entry, Open):
            self._opened_in[entry.record.event_id] = segment
            segment.live += 1
            opens[entry.record.event_id] = entry
            return True
        opens.pop(entry.event, None)
        owner = self._opened_in.pop(entry.event, None)
        if owner is not None:
            owner.live -= 1
        if entry.record is None:
            return True
        follows = entry.sequence == self.sequence + 1
        self.sequence = segment.highest = entry.sequence
        self._window.append((entry.sequence, entry.record))
        return follows

    # Another epoch

    def renew_epoch(self) -> bool:
        """Numbers all that is here anew, from 1 in a new epoch, so that all of it is sent again; metering knows what it
        has by the event's id. For a journal whose numbers metering knows with another content (an older copy of the
        volume). False: not now, the disk fails. Raises OSError; the next start then ends what was begun."""
        if not self.healthy:
            return False
        self._renew(self._segments[-1].number + 1)
        return True

    def _renew(self, number: int) -> None:
        """Copies segment by segment. Killed in between, it leaves two epochs, which the next start takes for a hole."""
        self._flush_or_raise()
        former, self._segments = self._segments, deque()
        self.epoch = uuid.uuid4().hex
        self.sequence = self._written = self.synced = self.watermark = 0
        self._window.clear()
        self._read_on = (0, 0, 0)
        self._begin(number)
        copied: set[str] = set()
        for segment in former:
            for entry in segments.read(segment.path.read_bytes()):
                self._copy(entry, copied)
            self._flush_or_raise()
            os.fdatasync(self._file)
            segment.path.unlink(missing_ok=True)
        self.synced = self.sequence
        log.warning("journal_renewed", epoch=self.epoch, records=self.sequence)

    def _copy(self, entry: Entry, copied: set[str]) -> None:
        event = entry.record.event_id if isinstance(entry, Open) else entry.event
        if isinstance(entry, Open):
            if event in self._opened_in and event not in copied:
                self._write(entry)
                self._opened_in[event] = self._segments[-1]
                self._segments[-1].live += 1
                copied.add(event)
        elif entry.record is not None and event not in copied:
            self.sequence += 1
            self._write(Close(event, self.sequence, entry.record))
            copied.add(event)

    # Writing

    def open(self, slot: int, record: UsageRecord) -> None:
        """Notes a request; nothing may be forwarded for it before `flush` has returned. Raises JournalFull."""
        if self._failed is not None or self._unwritten:
            raise JournalFull(str(self._failed))
        try:
            self._write(Open(slot, record))
        except OSError as error:
            self._fail(error)
            raise JournalFull(str(error)) from error
        segment = self._segments[-1]
        segment.live += 1
        self._opened_in[record.event_id] = segment

    def close(self, event: str, record: UsageRecord | None) -> int:
        """Notes what a request came to; None where there is nothing to bill. Never raises: what the disk does not take
        is kept and tried again, and no request is admitted meanwhile. A second close of an event is ignored. Returns
        the sequence, 0 where nothing is billed."""
        owner = self._opened_in.pop(event, None)
        if owner is None:
            return 0
        owner.live -= 1
        if record is not None:
            self.sequence += 1
        entry = Close(event, self.sequence if record is not None else 0, record)
        if self._unwritten:
            self._unwritten.append(entry)
        else:
            try:
                self._write(entry)
            except OSError as error:
                self._fail(error)
                self._unwritten.append(entry)
        return entry.sequence

    def flush(self) -> None:
        """Writes what was collected. Raises JournalFull: then what was opened since the last flush is forgotten, and
        must not be forwarded; what was closed is kept."""
        if self._forgotten:
            self._forgotten = False
            raise JournalFull(str(self._failed))
        if not self._collected:
            return
        entries, data = self._collected, b"".join(self._packed)
        self._collected, self._packed = [], []
        try:
            segments.write_all(self._file, data, self._on_disk)
        except OSError as error:
            self._fail(error)
            self._size = self._on_disk
            self._undo(entries)
            raise JournalFull(str(error)) from error
        self._on_disk = self._size
        self._dirty = True
        for entry in entries:
            if isinstance(entry, Close) and entry.record is not None:
                self._closed(entry.sequence, entry.record)

    def _undo(self, entries: list[Entry]) -> None:
        for entry in entries:
            if isinstance(entry, Close):
                self._unwritten.append(entry)
            elif (owner := self._opened_in.pop(entry.record.event_id, None)) is not None:
                owner.live -= 1

    def _closed(self, sequence: int, record: UsageRecord) -> None:
        self._segments[-1].highest = self._written = sequence
        self._window.append((sequence, record))

    def _write(self, entry: Entry) -> None:
        data = segments.pack(entry)
        size = self._size + len(data)
        if size > self._segment_bytes:
            self._flush_or_raise()
            self._begin(self._segments[-1].number + 1)
            size = self._size + len(data)
        self._collected.append(entry)
        self._packed.append(data)
        self._size = size

    def _flush_or_raise(self) -> None:
        try:
            self.flush()
        except JournalFull as error:
            self._forgotten = True
            raise OSError(str(error)) from error

    def _begin(self, number: int) -> None:
        """Begins a segment. Its header has the sequence of the first billed close that it can hold. The one before is
        on disk by then: a power failure must not take a part out of the middle."""
        if self._file >= 0:
            os.fdatasync(self._file)
        path = self._folder / segments.name(number)
        head = segments.header(bytes.fromhex(self.epoch), self._written + 1)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            segments.write_all(file, head, 0)
        except OSError:
            os.close(file)
            path.unlink()
            raise
        if self._file >= 0:
            self._retired.append(self._file)
        self._file, self._size, self._on_disk, self._dirty = file, len(head), len(head), True
        self._segments.append(_Segment(number, path, self._written + 1))

    # Health

    def _fail(self, error: OSError) -> None:
        if self._failed is None:
            log.error("journal_failed", error=str(error))
        self._failed = error

    @property
    def healthy(self) -> bool:
        """Whether requests can be admitted."""
        return self._failed is None and not self._unwritten

    @property
    def written(self) -> bool:
        """Whether everything that was noted is in the file."""
        return not self._collected and not self._unwritten

    def check_space(self) -> None:
        """Looks at the disk: refuses new requests early enough that those in flight can be settled."""
        try:
            free = shutil.disk_usage(self._folder).free
            self._rewrite()
        except OSError as error:
            self._fail(error)
            return
        if free < self._reserve_bytes:
            self._fail(OSError(f"{self._folder} has {free} bytes free, {self._reserve_bytes} are kept in reserve"))
        elif self._failed is not None and not self._unsynced:
            log.info("journal_recovered")
            self._failed = None

    def _rewrite(self) -> None:
        """Writes the closes that the disk had refused. Raises OSError; they stay then."""
        if self._unwritten:
            again, self._unwritten = self._unwritten, deque()
            try:
                while again:
                    self._write(again[0])
                    again.popleft()
                self._flush_or_raise()
            finally:
                self._unwritten.extend(again)

    # Syncing, off the loop

    async def run(self) -> None:
        """Syncs in groups until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            if not self._dirty:
                continue
            self._dirty = False
            epoch, newest = self.epoch, self._window[-1][0] if self._window else self.synced
            retired, self._retired = self._retired, []
            try:
                await loop.run_in_executor(self._syncer, self._sync, retired, self._file)
            except OSError as error:
                self._retired = retired + self._retired
                self._dirty = self._unsynced = True
                self._fail(error)
                continue
            self._unsynced = False
            if epoch == self.epoch:
                self.synced = max(self.synced, newest)

    def _sync(self, retired: list[int], file: int) -> None:
        """Leaves in `retired` what it could not sync."""
        while retired:
            os.fdatasync(retired[0])
            os.close(retired.pop(0))
        os.fdatasync(file)

    def shut(self) -> None:
        """Syncs and closes, at the end of the process."""
        self._syncer.shutdown()
        with contextlib.suppress(OSError):
            self._flush_or_raise()
        with contextlib.suppress(OSError):
            self._rewrite()
        self._sync(self._retired, self._file)
        self.synced = self.sequence
        os.close(self._file)

    # Reading and shortening

    def closed_after(self, sequence: int, limit: int) -> list[tuple[int, UsageRecord]]:
        """Synced records above `sequence`, in order, at most about `limit`."""
        if self._window and self._window[0][0] <= sequence + 1:
            skip = sequence + 1 - self._window[0][0]
            found = list(islice(self._window, skip, skip + limit))
            return [item for item in found if item[0] <= self.synced]
        for segment in self._segments:
            if segment.highest > sequence:
                known = self._read_on[:2] == (segment.number, sequence)
                records, position = segments.read_closes(
                    segment.path, self._read_on[2] if known else 0, sequence, limit
                )
                if records and records[-1][0] <= self.synced:
                    self._read_on = segment.number, records[-1][0], position
                return [item for item in records if item[0] <= self.synced]
        return []

    def unconfirmed(self, watermark: int) -> Iterator[tuple[int, UsageRecord]]:
        """Every billed close above `watermark`, in order, synced or not. To be read to its end at once."""
        with contextlib.suppress(OSError):
            self._flush_or_raise()
        for segment in self._segments:
            if segment.highest > watermark:
                yield from segments.read_closes(segment.path, 0, watermark, limit=-1)[0]
        for close in self._unwritten:
            if close.record is not None and close.sequence > watermark:
                yield close.sequence, close.record

    @property
    def floor(self) -> int:
        """The lowest sequence that is still here, or that comes next."""
        return self._segments[0].first

    def rewind(self, watermark: int) -> bool:
        """Metering has less than it had (a restored database): what is still here counts as unconfirmed again. Returns
        whether there is any such."""
        wanted = max(watermark, self.floor - 1)
        if wanted >= self.watermark:
            return False
        self.watermark = wanted
        return True

    def confirm(self, watermark: int) -> None:
        """Metering has everything up to `watermark`: removes the oldest segments that hold nothing else. Only from the
        front, so that no open is ever left behind without its close."""
        self.watermark = max(self.watermark, min(watermark, self.sequence))
        while len(self._segments) > 1:
            oldest = self._segments[0]
            if oldest.live or oldest.highest > self.watermark:
                return
            oldest.path.unlink(missing_ok=True)
            self._segments.popleft()

    @property
    def segment_count(self) -> int:
        """Files on disk."""
        return len(self._segments)


def _read_synced(path: Path) -> bytes:
    """A segment's bytes, on disk for certain: a former process may have been killed between write and sync."""
    with path.open("rb") as file:
        os.fdatasync(file.fileno())
        return file.read()
