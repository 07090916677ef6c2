"""Open and settle: every request is in the journal before it is forwarded, and is settled exactly once.

Used by relay.py; `recover` is called once at start.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec.structs import replace

from freehold.common.ids import uuid7
from freehold.common.logging import get_logger
from freehold.gateway.errors import ApiError
from freehold.gateway.journal import JournalFull
from freehold.gateway.slots import RELAYED, Counts, Slot
from freehold.wire.usage import UsageRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from freehold.gateway.auth import Caller
    from freehold.gateway.journal import Journal
    from freehold.gateway.slots import Slots
    from freehold.wire.records import RouteRecord

log = get_logger(__name__)


class Outcome(StrEnum):
    """How a request ended, as wire.usage has it."""

    OK = "ok"
    CLIENT_CLOSED = "client_closed"
    UPSTREAM_ERROR = "upstream_error"
    RECOVERED = "recovered"
    REFUSED = "refused"  # by the engine, with a 4xx: never billed, so never on the wire


class Bill:
    """One open request. `slot` counts what is relayed; `settle` ends it.

    Attributes:
        event: 32 hex digits; also the request id that client and engine see.
        settled: what was reported, None until then or where nothing was billed.
    """

    __slots__ = ("_first", "_meter", "_record", "_started", "event", "open", "settled", "slot")

    def __init__(self, meter: Meter, slot: Slot, record: UsageRecord) -> None:
        self._meter = meter
        self._record = record
        self._started = time.monotonic()
        self._first: float | None = None
        self.slot = slot
        self.event = record.event_id
        self.open = True
        self.settled: UsageRecord | None = None

    def relayed(self) -> None:
        """Something of the answer goes to the client now: from here on the request is billed."""
        if self._first is None:
            self._first = time.monotonic()
            self.slot.words[RELAYED] = 1

    @property
    def tenant(self) -> str:
        """Who pays."""
        return self._record.tenant

    @property
    def key(self) -> str:
        """Public id of the key."""
        return self._record.key

    @property
    def answered(self) -> bool:
        """Whether anything of the answer was relayed."""
        return self._first is not None

    def settle(self, outcome: Outcome, replica: str) -> None:
        """Ends the request with what its slot holds; nothing is billed where nothing was relayed. Once only."""
        if not self.open:
            return
        self.open = False
        if self._first is not None:
            now = time.monotonic()
            self.settled = replace(
                _counted(self._record, self.slot.counts()),
                outcome=outcome.value,
                replica=replica,
                first_token_ms=int((self._first - self._started) * 1000),
                duration_ms=int((now - self._started) * 1000),
            )
        self._meter.close(self)


def _counted(record: UsageRecord, counts: Counts) -> UsageRecord:
    return replace(
        record,
        prompt_tokens=counts.prompt,
        cached_tokens=counts.cached,
        completion_tokens=counts.completion,
        reasoning_tokens=min(counts.reasoning, counts.completion),
        estimated=counts.estimated,
    )


class Meter:
    """Journal and slots together."""

    def __init__(self, journal: Journal, slots: Slots, region: str, clock: Callable[[], int] = time.time_ns) -> None:
        self._journal = journal
        self._slots = slots
        self._region = region
        self._clock = clock

    def open(self, caller: Caller, route: RouteRecord, *, model: str, path: str, replica: str = "") -> Bill:
        """Takes a slot and writes `open`. Raises ApiError 503 where the journal or the slots are full."""
        event = uuid7()
        slot = self._slots.take(event.bytes)
        if slot is None:
            raise ApiError(503, "The gateway has too many requests in flight. Try again.", code="busy", retry_after=1)
        record = UsageRecord(
            event_id=event.hex,
            occurred_at_ns=self._clock(),
            tenant=caller.key.tenant,
            key=caller.key.id,
            endpoint=route.endpoint,
            generation=route.generation,
            model=model,
            route=path,
            billing_mode=route.billing_mode,
            region=route.region or self._region,
            weight_digest=route.weight_digest,
            engine_digest=route.engine_digest,
            outcome=Outcome.RECOVERED.value,
            replica=replica,
        )
        try:
            self._journal.open(slot.index, record)
        except JournalFull as error:
            self._slots.give_back(slot)
            log.error("request_refused_journal_full", error=str(error))
            message = "The gateway cannot record usage now and therefore takes no requests. Try again later."
            raise ApiError(503, message, code="journal_full", retry_after=10) from error
        return Bill(self, slot, record)

    def close(self, bill: Bill) -> None:
        """Writes the close and frees the slot. Called by the bill itself."""
        self._journal.close(bill.event, bill.settled)
        self._slots.give_back(bill.slot)

    def recover(self) -> int:
        """Settles what a killed process left open, from its slots. Returns how many."""
        orphans = self._journal.orphans
        for orphan in orphans:
            record = orphan.record
            counts = self._slots.read(orphan.slot, bytes.fromhex(record.event_id))
            billed = _counted(record, counts) if counts is not None and counts.relayed else None
            self._journal.close(record.event_id, billed)
        self._journal.orphans = []
        if orphans:
            log.info("orphans_settled", count=len(orphans))
        return len(orphans)
