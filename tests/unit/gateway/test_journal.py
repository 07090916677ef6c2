"""What a crash, a torn tail and a full disk leave behind."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.gateway import segments
from freehold.gateway.errors import ApiError
from freehold.gateway.meter import Bill, Outcome
from freehold.gateway.segments import JournalUnreadable
from tests.unit.gateway.conftest import Books

if TYPE_CHECKING:
    from pathlib import Path

Begin = Callable[..., Books]


def finish(bill: Bill, tokens: int = 3) -> None:
    """Relays some tokens and settles."""
    bill.relayed()
    bill.slot.choice(0, tokens)
    bill.settle(Outcome.OK, "rpl_1")


def newest(tmp_path: Path) -> Path:
    """The last segment with records in it."""
    return max((tmp_path / "state" / "journal").glob("*.journal"))


def test_closes_are_numbered_without_holes_in_the_order_they_were_closed(books: Begin) -> None:
    life = books()
    first, second, unanswered = life.open(), life.open(), life.open()
    finish(second)
    unanswered.settle(Outcome.CLIENT_CLOSED, "")
    finish(first)
    assert life.closed() == [(1, second.event, "ok"), (2, first.event, "ok")]


def test_settling_twice_counts_once(books: Begin) -> None:
    life = books()
    bill = life.open()
    finish(bill)
    bill.settle(Outcome.CLIENT_CLOSED, "")
    life.journal.close(bill.event, bill.settled)
    assert len(life.closed()) == 1


def test_what_was_open_is_settled_from_its_slot_after_a_crash(books: Begin) -> None:
    life = books()
    relayed, silent = life.open(), life.open()
    relayed.relayed()
    relayed.slot.choice(0, 5)
    relayed.slot.choice(1, 6)
    after = books()
    assert after.recovered == 2
    assert after.closed() == [(1, relayed.event, "recovered")]
    _, record = after.journal.closed_after(0, 10)[0]
    assert (record.completion_tokens, record.occurred_at_ns > 0) == (11, True)
    assert silent.event not in {event for _, event, _ in after.closed()}


def test_a_second_restart_settles_nothing_again(books: Begin) -> None:
    life = books()
    bill = life.open()
    bill.relayed()
    first = books().closed()
    again = books()
    assert again.recovered == 0
    assert again.closed() == first
    assert again.journal.epoch == life.journal.epoch


def test_sequences_go_on_after_everything_was_confirmed_and_removed(books: Begin) -> None:
    life = books(segment_bytes=600)
    for _ in range(5):
        finish(life.open())
    life.journal.confirm(5)
    assert life.journal.segment_count == 1
    after = books()
    assert (after.journal.sequence, after.journal.epoch) == (5, life.journal.epoch)
    after.journal.confirm(5)
    finish(after.open())
    assert [sequence for sequence, *_ in after.closed()] == [6]


def test_a_segment_with_an_open_request_is_kept_and_so_is_all_that_follows(books: Begin) -> None:
    life = books(segment_bytes=600)
    long = life.open()
    for _ in range(5):
        finish(life.open())
    count = life.journal.segment_count
    life.journal.confirm(5)
    assert life.journal.segment_count == count
    finish(long)
    life.journal.confirm(6)
    assert life.journal.segment_count == 1


def test_only_synced_records_are_shipped(books: Begin) -> None:
    life = books()
    finish(life.open())
    assert life.journal.closed_after(0, 10) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 2_000), flip=st.booleans())
def test_a_torn_tail_loses_at_most_what_was_torn(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: bool
) -> None:
    state = tmp_path_factory.mktemp("torn")
    life = Books(state)
    bills = [life.open() for _ in range(3)]
    for bill in bills:
        finish(bill)
    whole = life.closed()
    path = max((state / "journal").glob("*.journal"))
    data = bytearray(path.read_bytes())
    if flip:
        data[-1 - cut % len(data)] ^= 0xFF
    else:
        del data[len(data) - cut % len(data) :]
    path.write_bytes(data)
    after = Books(state)
    found = after.closed()
    sequences = [sequence for sequence, *_ in found]
    assert sequences == list(range(1, len(found) + 1))
    assert len({event for _, event, _ in found}) == len(found)
    assert {event for _, event, _ in found} <= {event for _, event, _ in whole}
    intact = [item for item in found if item[2] == "ok"]
    assert intact == whole[: len(intact)]


def test_a_journal_of_another_format_is_refused_with_its_path(books: Begin, tmp_path: Path) -> None:
    life = books()
    path = newest(tmp_path)
    head = segments.header(bytes.fromhex(life.journal.epoch), 1)
    changed = b"OTHERFMT" + head[8:-4]
    path.write_bytes(changed + zlib.crc32(changed).to_bytes(4, "big"))
    with pytest.raises(JournalUnreadable, match="journal"):
        books()


def test_a_full_disk_refuses_new_requests_and_keeps_the_closes(books: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    life = books()
    bill = life.open()
    real = os.pwrite

    def full(file: int, data: bytes, position: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    finish(bill)
    assert not life.journal.healthy
    with pytest.raises(ApiError) as caught:
        life.open()
    assert caught.value.status == 503
    assert life.slots.free == 7  # the slot of what is not written stays as it is
    assert life.closed() == []
    monkeypatch.setattr(os, "pwrite", real)
    life.journal.check_space()
    life.meter.give_back()
    assert life.slots.free == 8
    assert life.journal.healthy
    assert life.closed() == [(1, bill.event, "ok")]
    assert books().closed() == [(1, bill.event, "ok")]


def test_a_write_that_fails_half_way_leaves_no_half_record(books: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    life = books()
    real, calls = os.pwrite, []

    def short(file: int, data: bytes, position: int) -> int:
        calls.append(data)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data[:10], position)

    monkeypatch.setattr(os, "pwrite", short)
    with pytest.raises(ApiError):
        life.open()
    monkeypatch.setattr(os, "pwrite", real)
    life.journal.check_space()
    bill = life.open()
    finish(bill)
    assert books().closed() == [(1, bill.event, "ok")]


def test_no_more_requests_than_slots(books: Begin) -> None:
    life = books(slots=2)
    first = life.open()
    life.open()
    with pytest.raises(ApiError) as caught:
        life.open()
    assert caught.value.status == 503
    finish(first)
    life.open()
