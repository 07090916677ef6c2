"""The append-only journal: what was opened, what it came to, and what metering has not yet confirmed.

Written by meter.py on the event loop (a write is a copy into the page cache and survives kill -9), synced to disk in
groups off the loop (the stated loss at power failure is what lies between two syncs), read by shipper.py, shortened up
to the watermark. Sequences number the billed closes, without holes, in the order in which they were closed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from freehold.common.logging import get_logger
from freehold.gateway import segments
from freehold.gateway.segments import Close, Entry, Open

if TYPE_CHECKING:
    from pathlib import Path

    from freehold.wire.usage import UsageRecord

log = get_logger(__name__)

SYNC_SECONDS = 0.05
_WINDOW = 20_000  # closed records kept in memory for the shipper; older ones are read back from disk


class JournalFull(Exception):
    """The journal cannot take another request now: the disk is full or failing."""


@dataclass(slots=True)
class _Segment:
    number: int
    path: Path
    live: int = 0  # opens in it without a close
    highest: int = 0  # of the sequences closed in it
    orphans: list[Open] = field(default_factory=list)


class Journal:
    """One gateway's journal.

    Args:
        folder: where the segments lie; created where missing.
        segment_bytes: size at which a new segment is begun.
        reserve_bytes: free space on the disk below which `open` is refused.

    Attributes:
        epoch: 32 hex digits, new where there was no journal.
        sequence: of the newest close.
        synced: the newest sequence known to be on disk; only those are shipped.
        orphans: after the start, opens of a former process without a close. Each must be closed.
    """

    def __init__(self, folder: Path, *, segment_bytes: int, reserve_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._reserve_bytes = reserve_bytes
        self._segments: deque[_Segment] = deque()
        self._opened_in: dict[str, _Segment] = {}
        self._unwritten: deque[Close] = deque()
        self._window: deque[tuple[int, UsageRecord]] = deque(maxlen=_WINDOW)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-sync")
        self._retired: list[int] = []
        self._dirty = False
        self._failed: OSError | None = None
        self.epoch = ""
        self.sequence = 0
        self.synced = 0
        self.watermark = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = self._replay()
        self.orphans = [entry for segment in self._segments for entry in segment.orphans]
        self._written = self.sequence
        self._file, self._size = -1, 0
        self._begin(number)
        self.synced = self.sequence
        self.check_space()

    # What a former process left

    def _replay(self) -> int:
        """Reads all segments. Returns the number of the next one."""
        number = 0
        lowest = None
        for number, path in segments.listing(self._folder):
            data = _read_synced(path)
            found = segments.read_header(data, path)
            segment = _Segment(number, path)
            self._segments.append(segment)
            if found is None:
                continue
            self.epoch = found[0].hex()
            self.sequence = max(self.sequence, found[1] - 1)
            lowest = found[1] if lowest is None else lowest
            for entry in segments.read(data):
                self._replay_entry(entry, segment)
        for segment in self._segments:
            segment.orphans = [entry for entry in segment.orphans if entry.record.event_id in self._opened_in]
        self.watermark = (lowest or 1) - 1
        if not self.epoch:
            self.epoch = uuid.uuid4().hex
        return number + 1

    def _replay_entry(self, entry: Entry, segment: _Segment) -> None:
        if isinstance(entry, Open):
            self._opened_in[entry.record.event_id] = segment
            segment.live += 1
            segment.orphans.append(entry)
            return
        owner = self._opened_in.pop(entry.event, None)
        if owner is not None:
            owner.live -= 1
        if entry.record is not None:
            self.sequence = max(self.sequence, entry.sequence)
            segment.highest = max(segment.highest, entry.sequence)
            self._window.append((entry.sequence, entry.record))

    # Writing

    def open(self, slot: int, record: UsageRecord) -> None:
        """Notes a request before it is forwarded. Raises JournalFull."""
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

    def close(self, event: str, record: UsageRecord | None) -> None:
        """Notes what a request came to; None where there is nothing to bill. Never raises: what the disk does not take
        is kept and tried again, and no request is admitted meanwhile. A second close of an event is ignored."""
        owner = self._opened_in.pop(event, None)
        if owner is None:
            return
        owner.live -= 1
        if record is not None:
            self.sequence += 1
        entry = Close(event, self.sequence if record is not None else 0, record)
        if self._unwritten:
            self._unwritten.append(entry)
            return
        try:
            self._closed(entry)
        except OSError as error:
            self._fail(error)
            self._unwritten.append(entry)

    def _closed(self, entry: Close) -> None:
        self._write(entry)
        if entry.record is not None:
            self._segments[-1].highest = self._written = entry.sequence
            self._window.append((entry.sequence, entry.record))

    def _write(self, entry: Entry) -> None:
        data = segments.pack(entry)
        if self._size + len(data) > self._segment_bytes:
            self._begin(self._segments[-1].number + 1)
        segments.write_all(self._file, data, self._size)
        self._size += len(data)
        self._dirty = True

    def _begin(self, number: int) -> None:
        """Begins a segment. Its header has the sequence of the first billed close that it can hold."""
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
        self._file, self._size, self._dirty = file, len(head), True
        self._segments.append(_Segment(number, path))

    # Health

    def _fail(self, error: OSError) -> None:
        if self._failed is None:
            log.error("journal_failed", error=str(error))
        self._failed = error

    @property
    def healthy(self) -> bool:
        """Whether requests can be admitted."""
        return self._failed is None and not self._unwritten

    def check_space(self) -> None:
        """Looks at the disk: refuses new requests early enough that those in flight can be settled."""
        try:
            free = shutil.disk_usage(self._folder).free
            while self._unwritten:
                self._closed(self._unwritten[0])
                self._unwritten.popleft()
        except OSError as error:
            self._fail(error)
            return
        if free < self._reserve_bytes:
            self._fail(OSError(f"{self._folder} has {free} bytes free, {self._reserve_bytes} are kept in reserve"))
        elif self._failed is not None:
            log.info("journal_recovered")
            self._failed = None

    # Syncing, off the loop

    async def run(self) -> None:
        """Syncs in groups until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            if not self._dirty:
                continue
            self._dirty = False
            newest = self._window[-1][0] if self._window else self.synced
            retired, self._retired = self._retired, []
            try:
                await loop.run_in_executor(self._thread, self._sync, retired, self._file)
            except OSError as error:
                self._fail(error)
            else:
                self.synced = max(self.synced, newest)

    def _sync(self, retired: list[int], file: int) -> None:
        for old in retired:
            os.fdatasync(old)
            os.close(old)
        os.fdatasync(file)

    def shut(self) -> None:
        """Syncs and closes, at the end of the process."""
        self._thread.shutdown()
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
                entries = (entry for entry in segments.read(segment.path.read_bytes()) if isinstance(entry, Close))
                records = [(entry.sequence, entry.record) for entry in entries if entry.record is not None]
                wanted = [item for item in records if sequence < item[0] <= self.synced]
                return wanted[:limit]
        return []

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
