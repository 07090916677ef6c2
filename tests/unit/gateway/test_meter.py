"""When a slot may count for another request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold.common.ids import uuid7_hex
from freehold.gateway.journal import Journal
from freehold.gateway.meter import Meter, Outcome
from freehold.gateway.slots import Slots
from tests.unit.gateway.conftest import CALLER, ROUTE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from freehold.gateway.meter import Bill


def opened(meter: Meter) -> Bill:
    """A request that has relayed three tokens."""
    bill = meter.open(uuid7_hex(), CALLER, ROUTE, model="acme/chat", path="/v1/chat/completions")
    meter.flush()
    bill.relayed()
    bill.slot.choice(0, 3)
    return bill


def test_a_slot_is_not_used_again_before_its_close_is_in_the_journal(tmp_path: Path) -> None:
    due: list[Callable[[], None]] = []
    journal = Journal(tmp_path / "journal", segment_bytes=1 << 20, reserve_bytes=0)
    meter = Meter(journal, Slots(tmp_path / "slots", 8), "local", due.append)
    first = opened(meter)
    first.settle(Outcome.OK, "rpl_1")
    second = meter.open(uuid7_hex(), CALLER, ROUTE, model="acme/chat", path="/v1/chat/completions")
    assert second.slot.index != first.slot.index
    for flush in due:
        flush()
    third = meter.open(uuid7_hex(), CALLER, ROUTE, model="acme/chat", path="/v1/chat/completions")
    assert third.slot.index == first.slot.index


def test_killed_between_close_and_flush_it_is_billed_from_its_slot(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", segment_bytes=1 << 20, reserve_bytes=0)
    meter = Meter(journal, Slots(tmp_path / "slots", 8), "local", lambda flush: None)
    opened(meter).settle(Outcome.OK, "rpl_1")
    meter.open(uuid7_hex(), CALLER, ROUTE, model="acme/chat", path="/v1/chat/completions")

    after = Journal(tmp_path / "journal", segment_bytes=1 << 20, reserve_bytes=0)
    assert Meter(after, Slots(tmp_path / "slots", 8), "local").recover() == 1
    after.synced = after.sequence
    ((_, record),) = after.closed_after(0, 10)
    assert (record.outcome, record.completion_tokens) == ("recovered", 3)
