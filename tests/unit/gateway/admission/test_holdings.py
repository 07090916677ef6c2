"""What is settled stays held until the ledger has it, by the journal's own account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from freehold.common.ids import uuid7_hex
from freehold.gateway.admission.holdings import Holdings
from freehold.gateway.journal import Journal
from freehold.wire.follow import Snapshot
from freehold.wire.records import AccountRecord, PriceRecord, PriceStep
from tests.unit.gateway.admission.test_prices import RECORD

TENANT, OTHER = "tnt_1", "tnt_2"


class Life:
    """One of a process: its journal, in small segments, and what it holds."""

    def __init__(self, folder: Path, snapshot: Snapshot) -> None:
        self.journal = Journal(folder, segment_bytes=2_000, reserve_bytes=0)
        self.holdings = Holdings(snapshot, self.journal)
        self.holdings.look_for_accounts()

    def settle(self, tokens: int, tenant: str = TENANT, *, reserved: int = 0) -> None:
        """Journal first, as the relay does."""
        record = replace(RECORD, event_id=uuid7_hex(), tenant=tenant, prompt_tokens=tokens)
        self.journal.open(0, record)
        self.journal.close(record.event_id, record)
        self.holdings.settle(tenant, reserved, self.holdings.cost(record), self.journal.sequence)

    @property
    def held(self) -> dict[str, int]:
        """Without zeros."""
        return {tenant: nanos for tenant, nanos in self.holdings.held.items() if nanos}


@pytest.fixture
def snapshot() -> Snapshot:
    """A nano a token; TENANT and OTHER pay from a balance."""
    made = Snapshot()
    made.prices[""] = PriceRecord(steps=(PriceStep(valid_from=0, prompt=1_000_000),))
    made.accounts = dict.fromkeys((TENANT, OTHER), AccountRecord(prepaid=True))
    made.changes = 1
    return made


@pytest.fixture
def life(tmp_path: Path, snapshot: Snapshot) -> Iterator[Life]:
    """The first."""
    made = Life(tmp_path / "journal", snapshot)
    yield made
    made.journal.shut()


def test_a_reservation_becomes_its_cost_and_ends_when_confirmed(life: Life) -> None:
    life.holdings.reserved(TENANT, 100)
    life.settle(30, reserved=100)
    life.settle(5, OTHER)
    assert life.held == {TENANT: 30, OTHER: 5}
    assert life.holdings.changes == {TENANT: -70, OTHER: 5}
    life.holdings.confirmed(1)
    assert life.held == {OTHER: 5}


def test_the_next_process_holds_what_is_not_confirmed(life: Life, tmp_path: Path, snapshot: Snapshot) -> None:
    for tokens in range(1, 31):
        life.settle(tokens)
    assert life.journal.segment_count > 3
    life.journal.shut()
    again = Life(tmp_path / "journal", snapshot)
    assert again.held == {TENANT: sum(range(1, 31))}
    again.holdings.confirmed(20)
    assert again.held == {TENANT: sum(range(21, 31))}
    life.journal = again.journal


def test_a_journal_numbered_anew_is_held_whole_and_confirmed_by_its_new_numbers(life: Life) -> None:
    for _ in range(3):
        life.settle(10)
    life.holdings.confirmed(2)
    life.journal.confirm(2)
    assert life.journal.renew_epoch()
    life.settle(10)
    assert life.held == {TENANT: 40}
    life.holdings.confirmed(4)
    assert life.held == {}


def test_a_watermark_that_went_back_makes_more_held(life: Life) -> None:
    for _ in range(3):
        life.settle(10)
    life.holdings.confirmed(3)
    life.holdings.confirmed(1)
    assert life.held == {TENANT: 20}


def test_a_tenant_that_begins_to_prepay_owes_what_it_used(life: Life, snapshot: Snapshot) -> None:
    life.settle(7, "tnt_3")
    assert life.held == {}
    snapshot.accounts["tnt_3"] = AccountRecord(prepaid=True)
    snapshot.changes += 1
    life.holdings.begin("tnt_3")
    assert life.held == {"tnt_3": 7}


def test_absolute_numbers_leave_no_changes_to_tell(life: Life) -> None:
    life.settle(7)
    assert life.holdings.absolute() == {TENANT: 7}
    assert life.holdings.changes == {}
