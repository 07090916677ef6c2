"""Stream entries → what to commit: pure, called by the drain.

Envelope and records are decoded apart, so that one record of a kind we cannot read costs itself and not its batch.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from freehold.common import ids
from freehold.common.errors import NotFound
from freehold.wire.usage import UsageRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_NAME = 200
_LARGEST_SEQUENCE = 1 << 62
_LONGEST_MODEL = 400  # characters; part of an index (UsageHour)
_LONGEST_MODE = 40

Journal = tuple[str, str]  # gateway, epoch


class _Envelope(msgspec.Struct, frozen=True):
    """A UsageBatch whose records are still bytes."""

    gateway: str
    epoch: str
    first_sequence: int
    records: tuple[msgspec.Raw, ...]
    floor: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One stream entry. `records` are msgpack bytes; the first has number `first_sequence`. `floor`: see UsageBatch."""

    entry: bytes
    journal: Journal
    first_sequence: int
    records: tuple[bytes, ...]
    floor: int = 0

    @property
    def last_sequence(self) -> int:
        """Number of the last record; below `first_sequence` where there is none."""
        return self.first_sequence + len(self.records) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """Something that cannot become an event."""

    reason: str
    raw: bytes
    journal: Journal = ("", "")
    sequence: int | None = None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the bytes."""
        return hashlib.sha256(self.raw).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbered:
    """A record with its place in a journal."""

    journal: Journal
    sequence: int
    raw: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """A record that can be read, its ids parsed."""

    source: Numbered
    record: UsageRecord
    event_id: uuid.UUID
    tenant_id: uuid.UUID
    endpoint_id: uuid.UUID
    occurred_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to do with some entries.

    Attributes:
        records: to commit, in order, none at or below its journal's watermark.
        marks: journals seen → their watermark once `records` are committed (0: still nothing).
        done: entries that may go once that has happened.
        held: entries above a gap: they wait in the stream for the resend.
        waiting: journals of those entries.
        lost: gaps that nobody can fill any more; the marks have gone past them.
    """

    records: tuple[Numbered, ...]
    marks: Mapping[Journal, int]
    done: tuple[bytes, ...]
    held: tuple[bytes, ...]
    waiting: frozenset[Journal] = frozenset()
    lost: tuple[Reject, ...] = ()


def parse(entry: bytes, fields: Mapping[bytes, bytes]) -> Batch | Reject:
    """One stream entry. A Reject has all of its bytes."""
    raw = fields.get(b"b")
    if raw is None:
        return Reject(reason="the stream entry has no field b", raw=msgspec.msgpack.encode(list(fields.items())))
    try:
        envelope = msgspec.msgpack.decode(raw, type=_Envelope)
    except msgspec.MsgspecError as error:
        return Reject(reason=f"not a UsageBatch: {error}", raw=raw)
    if not (_is_name(envelope.gateway) and _is_name(envelope.epoch)):
        return Reject(reason="gateway or epoch is empty, too long, or has a slash or NUL in it", raw=raw)
    if not 1 <= envelope.first_sequence <= _LARGEST_SEQUENCE:
        return Reject(reason=f"first_sequence is {envelope.first_sequence}; an epoch begins at 1", raw=raw)
    return Batch(
        entry=entry,
        journal=(envelope.gateway, envelope.epoch),
        first_sequence=envelope.first_sequence,
        records=tuple(bytes(record) for record in envelope.records),
        floor=min(envelope.floor, envelope.first_sequence),
    )


def plan(batches: Iterable[Batch], watermarks: Mapping[Journal, int]) -> Plan:
    """Which records are new, given what is committed. Nothing is ever taken from above a gap.

    A gap below a journal's floor is one that was confirmed before: this database has forgotten it (it was restored from
    a backup) and the gateway has nothing to fill it with. It is recorded and passed.
    """
    marks: dict[Journal, int] = {}
    records: list[Numbered] = []
    done: list[bytes] = []
    held: list[bytes] = []
    waiting: set[Journal] = set()
    lost: list[Reject] = []
    for batch in sorted(batches, key=lambda batch: (batch.journal, batch.first_sequence)):
        mark = marks.setdefault(batch.journal, watermarks.get(batch.journal, 0))
        if batch.records and batch.floor > mark + 1:
            lost.append(_missing(batch.journal, mark + 1, batch.floor - 1))
            mark = marks[batch.journal] = batch.floor - 1
        if batch.first_sequence > mark + 1:
            # An empty batch above the mark tells nothing; it must not move the mark.
            (held if batch.records else done).append(batch.entry)
            if batch.records:
                waiting.add(batch.journal)
            continue
        for sequence in range(mark + 1, batch.last_sequence + 1):
            raw = batch.records[sequence - batch.first_sequence]
            records.append(Numbered(journal=batch.journal, sequence=sequence, raw=raw))
        marks[batch.journal] = max(mark, batch.last_sequence)
        done.append(batch.entry)
    return Plan(
        records=tuple(records),
        marks=marks,
        done=tuple(done),
        held=tuple(held),
        waiting=frozenset(waiting),
        lost=tuple(lost),
    )


def _missing(journal: Journal, first: int, last: int) -> Reject:
    """Stands for records that were committed once and are in no place that we know."""
    reason = f"sequences {first} to {last} were confirmed before, are not in this database, and cannot be sent again"
    raw = msgspec.msgpack.encode((*journal, first, last))
    return Reject(reason=reason, raw=raw, journal=journal, sequence=first)


def read(source: Numbered) -> Usage | Reject:
    """One record, or why it cannot be read. Whether its tenant exists is the caller's question."""
    try:
        record = msgspec.msgpack.decode(source.raw, type=UsageRecord)
        if len(record.model) > _LONGEST_MODEL or len(record.billing_mode) > _LONGEST_MODE:
            return refuse(source, "model or billing_mode is too long")
        return Usage(
            source=source,
            record=record,
            event_id=uuid.UUID(hex=record.event_id),
            tenant_id=ids.decode("tnt", record.tenant),
            endpoint_id=ids.decode("ep", record.endpoint),
            occurred_at=_EPOCH + timedelta(microseconds=record.occurred_at_ns // 1_000),
        )
    except (msgspec.MsgspecError, NotFound, ValueError, OverflowError) as error:
        return refuse(source, str(error))


def refuse(source: Numbered, reason: str) -> Reject:
    """A record that is set aside."""
    return Reject(reason=reason.replace("\0", ""), raw=source.raw, journal=source.journal, sequence=source.sequence)


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_NAME and "/" not in text and "\0" not in text
