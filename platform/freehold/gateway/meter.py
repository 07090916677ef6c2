"""Open and settle: every request is in the journal before it is forwarded, and is settled exactly once.

Used by app.py and relay.py; `recover` is called once at start. What is opened is in the journal once `flush` has
returned; what is closed gets there by the end of the loop's turn. A process killed in between leaves the slot, which
holds the same numbers.
"""

from __future__ import annotations

import contextlib
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from freehold.common.logging import get_logger
from freehold.gateway.errors import ApiError
from freehold.gateway.journal import JournalFull
from freehold.gateway.slots import CACHED, CHOICES, ESTIMATED, PROMPT, REASONING, RELAYED, Counts, Slot
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


_RECOVERED: Final = str(Outcome.RECOVERED)


class Bill:
    """One open request. `slot` counts what is relayed; `settle` ends it.

    Attributes:
        event: 32 hex digits; also the request id that client and engine see.
        record: as it was opened.
        settled: what was reported, None until then or where nothing was billed.
        sequence: of the close in the journal, 0 until then or where nothing was billed.
        answered: whether anything of the answer was relayed.
    """

    __slots__ = (
        "_choices",
        "_first",
        "_meter",
        "_owed",
        "_started",
        "answered",
        "event",
        "open",
        "record",
        "sequence",
        "settled",
        "slot",
    )

    def __init__(self, meter: Meter, slot: Slot, record: UsageRecord, choices: int) -> None:
        self._meter = meter
        self._choices = choices
        self._started = time.monotonic()
        self._first = 0.0
        self._owed = False
        self.record = record
        self.slot = slot
        self.event = record.event_id
        self.open = True
        self.answered = False
        self.settled: UsageRecord | None = None
        self.sequence = 0

    def relayed(self) -> None:
        """Something of the answer goes to the client now: from here on the request is billed."""
        if not self.answered:
            self.answered = True
            self._first = time.monotonic()
            self.slot.words[RELAYED] = 1

    def owed(self) -> None:
        """Nothing of the answer was relayed, but the engine has done what the slot says: it is billed."""
        self._owed = True
        self.slot.words[RELAYED] = 1

    def rebase(self, route: RouteRecord) -> None:
        """Another generation of the endpoint will answer than the one that was there when the request was opened."""
        self.record = replace(
            self.record,
            generation=route.generation,
            weight_digest=route.weight_digest,
            engine_digest=route.engine_digest,
        )

    def settle(self, outcome: Outcome, replica: str) -> None:
        """Ends the request with what its slot holds; nothing is billed where nothing was relayed or owed. Once only."""
        if not self.open:
            return
        self.open = False
        if self.answered or self._owed:
            now = time.monotonic()
            words, completion = self.slot.words, self.slot.completion(self._choices)
            self.settled = replace(
                self.record,
                prompt_tokens=words[PROMPT],
                cached_tokens=words[CACHED],
                completion_tokens=completion,
                reasoning_tokens=min(words[REASONING], completion),
                choice_tokens=self.slot.each(self._choices) if self._choices > 1 else (),
                estimated=bool(words[ESTIMATED]),
                outcome=str(outcome),
                replica=replica,
                first_token_ms=int((self._first - self._started) * 1000) if self.answered else None,
                duration_ms=int((now - self._started) * 1000),
            )
        self.sequence = self._meter.close(self)


def _counted(record: UsageRecord, counts: Counts) -> UsageRecord:
    return replace(
        record,
        prompt_tokens=counts.prompt,
        cached_tokens=counts.cached,
        completion_tokens=counts.completion,
        reasoning_tokens=min(counts.reasoning, counts.completion),
        estimated=counts.estimated,
    )


def _full() -> ApiError:
    message = "The gateway cannot record usage now and therefore takes no requests. Try again later."
    return ApiError(503, message, code="journal_full", retry_after=10)


class Meter:
    """Journal and slots together.

    Args:
        soon: calls back before the loop's turn ends, as `loop.call_soon`: closes of one turn are written together. None
            writes each at once.
        clock: Unix nanoseconds.
    """

    def __init__(
        self,
        journal: Journal,
        slots: Slots,
        region: str,
        soon: Callable[[Callable[[], None]], object] | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._journal = journal
        self._slots = slots
        self._region = region
        self._clock = clock
        self._soon = soon
        self._flushing = False
        self._closing: list[Slot] = []

    def open(
        self, event: str, caller: Caller, route: RouteRecord, *, model: str, path: str, choices: int = CHOICES
    ) -> Bill:
        """Takes a slot and notes `open`. `event` is 32 hex digits; `choices` is how many of the slot's counters will be
        used. Raises ApiError 503 where the journal or the slots are full."""
        if not self._journal.healthy:
            raise _full()
        slot = self._slots.take(bytes.fromhex(event))
        if slot is None:
            raise ApiError(503, "The gateway has too many requests in flight. Try again.", code="busy", retry_after=1)
        record = UsageRecord(
            event_id=event,
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
            outcome=_RECOVERED,
            adapter=route.adapter,
        )
        try:
            self._journal.open(slot.index, record)
        except JournalFull as error:
            self._slots.give_back(slot)
            log.error("request_refused_journal_full", error=str(error))
            raise _full() from error
        return Bill(self, slot, record, choices)

    def flush(self) -> None:
        """Has what was opened in the journal: it may be forwarded then. Raises ApiError 503; it must not, then."""
        try:
            self._journal.flush()
        except JournalFull as error:
            log.error("requests_refused_journal_full", error=str(error))
            raise _full() from error
        finally:
            self.give_back()

    def close(self, bill: Bill) -> int:
        """Notes the close. Called by the bill itself. Returns the sequence, 0 where nothing is billed."""
        sequence = self._journal.close(bill.event, bill.settled)
        self._closing.append(bill.slot)
        if self._soon is None:
            self._flush_closes()
        elif not self._flushing:
            self._flushing = True
            self._soon(self._flush_closes)
        return sequence

    def _flush_closes(self) -> None:
        self._flushing = False
        with contextlib.suppress(JournalFull):  # the journal keeps closes, and refuses opens by itself
            self._journal.flush()
        self.give_back()

    def give_back(self) -> None:
        """Frees the slots of requests whose close is in the journal. Not before: a kill would leave an open request
        whose slot counts for another."""
        if self._closing and self._journal.written:
            for slot in self._closing:
                self._slots.give_back(slot)
            self._closing.clear()

    def recover(self) -> int:
        """Settles what a killed process left open, from its slots. Returns how many."""
        orphans = self._journal.orphans
        for orphan in orphans:
            record = orphan.record
            counts = self._slots.read(orphan.slot, bytes.fromhex(record.event_id))
            billed = _counted(record, counts) if counts is not None and counts.relayed else None
            self._journal.close(record.event_id, billed)
        self._journal.orphans = []
        with contextlib.suppress(JournalFull):
            self._journal.flush()
        if orphans:
            log.info("orphans_settled", count=len(orphans))
        return len(orphans)
