"""A journal whose numbers cannot be trusted is numbered anew, and what a power failure may take is only its end."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from freehold.gateway import segments
from tests.unit.gateway.conftest import Books
from tests.unit.gateway.test_journal import finish

Begin = Callable[..., Books]
SMALL = {"segment_bytes": 1_500, "slots": 64}


def paths(tmp_path: Path) -> list[Path]:
    """Segments, oldest first."""
    return sorted((tmp_path / "state" / "journal").glob("*.journal"))


def everything(life: Books) -> list[tuple[int, str]]:
    """All that the shipper would send, batch by batch."""
    journal = life.journal
    journal.synced = journal.sequence
    found: list[tuple[int, str]] = []
    while batch := journal.closed_after(found[-1][0] if found else journal.watermark, 3):
        found += [(sequence, record.event_id) for sequence, record in batch]
    return found


def test_a_hole_begins_a_new_epoch_with_all_that_is_left(books: Begin, tmp_path: Path) -> None:
    life = books(**SMALL)
    long = life.open()
    bills = [life.open() for _ in range(12)]
    for bill in bills:
        finish(bill)
    long.relayed()
    torn = paths(tmp_path)[-3]
    torn.write_bytes(torn.read_bytes()[:-20])
    after = books(**SMALL)
    assert after.journal.epoch != life.journal.epoch
    found = everything(after)
    assert [sequence for sequence, _ in found] == list(range(1, len(found) + 1))
    events = {bill.event for bill in [*bills, long]}
    assert {event for _, event in found} <= events
    assert len(found) == len({event for _, event in found}) >= len(events) - 1
    again = books(**SMALL)
    assert (again.journal.epoch, everything(again)) == (after.journal.epoch, found)


def test_numbers_lost_before_an_empty_segment_are_not_given_again(books: Begin, tmp_path: Path) -> None:
    life = books(**SMALL)
    finish(life.open())
    books(**SMALL)
    former = paths(tmp_path)[0]
    former.write_bytes(former.read_bytes()[:-20])
    assert books(**SMALL).journal.epoch != life.journal.epoch


def test_a_whole_journal_keeps_its_epoch_over_many_segments(books: Begin, tmp_path: Path) -> None:
    life = books(**SMALL)
    for _ in range(12):
        finish(life.open())
    assert len(paths(tmp_path)) > 3
    life.journal.confirm(5)
    assert 1 < life.journal.floor <= 6
    after = books(**SMALL)
    assert (after.journal.epoch, after.journal.floor) == (life.journal.epoch, life.journal.floor)


@pytest.mark.parametrize("copied", range(4))
def test_a_renewal_killed_in_between_is_ended_by_the_next_start(
    books: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: int
) -> None:
    life = books(**SMALL)
    waiting = life.open()
    waiting.relayed()
    bills = [life.open() for _ in range(8)]
    for bill in bills:
        finish(bill)
    real, calls = os.fdatasync, 0

    def die(file: int) -> None:
        nonlocal calls
        calls += 1
        if calls > copied + 1:
            raise OSError(errno.EIO, "killed")
        real(file)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", die)
        with pytest.raises(OSError, match="killed"):
            life.journal.renew_epoch()
    after = books(**SMALL)
    assert after.journal.epoch not in {"", life.journal.epoch}
    assert {event for _, event in everything(after)} == {bill.event for bill in [*bills, waiting]}
    assert len(everything(after)) == 9
    assert after.recovered == 1


def test_requests_in_flight_survive_a_renewal(books: Begin, tmp_path: Path) -> None:
    life = books(**SMALL)
    bill = life.open()
    for _ in range(4):
        finish(life.open())
    life.journal.confirm(4)
    assert life.journal.renew_epoch()
    assert (life.journal.sequence, life.journal.watermark, life.journal.floor) == (4, 0, 1)
    finish(bill)
    assert everything(life)[-1] == (5, bill.event)
    life.journal.confirm(5)
    assert life.journal.segment_count == 1


def test_a_segment_is_on_disk_before_the_next_is_begun(
    books: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = books(**SMALL)
    real, synced = os.fdatasync, set()

    def note(file: int) -> None:
        synced.add((str(Path(f"/proc/self/fd/{file}").readlink()), os.fstat(file).st_size))
        real(file)

    monkeypatch.setattr(os, "fdatasync", note)
    for _ in range(4):
        finish(life.open())
    former = paths(tmp_path)[:-1]
    assert former
    assert {(str(path), path.stat().st_size) for path in former} <= synced


def test_a_damaged_head_is_put_aside(books: Begin, tmp_path: Path) -> None:
    life = books(**SMALL)
    for _ in range(6):
        finish(life.open())
    first = paths(tmp_path)[0]
    first.write_bytes(b"\0" * 64 + first.read_bytes()[64:])
    after = books(**SMALL)
    assert after.journal.epoch != life.journal.epoch
    assert first.with_suffix(".damaged").exists()
    assert everything(after)[0][0] == 1


async def test_a_sync_that_failed_is_tried_again_and_no_request_is_admitted_meanwhile(
    books: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = books(**SMALL)
    journal = life.journal
    for _ in range(5):
        finish(life.open())
    assert journal._retired
    monkeypatch.setattr("freehold.gateway.journal.SYNC_SECONDS", 0.001)
    real = os.fdatasync

    def broken(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0)

    monkeypatch.setattr(os, "fdatasync", broken)
    task = asyncio.create_task(journal.run())
    await until(lambda: not journal.healthy)
    journal.check_space()
    assert (journal.healthy, journal.synced) == (False, 0)
    await until(lambda: bool(journal._retired))
    monkeypatch.setattr(os, "fdatasync", real)
    await until(lambda: journal.synced == 5)
    assert journal._retired == []
    journal.check_space()
    assert journal.healthy
    task.cancel()
    journal.shut()


def test_old_records_are_read_from_where_the_last_batch_ended(books: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    life = books(slots=64)
    bills = [life.open() for _ in range(30)]
    for bill in bills:
        finish(bill)
    life.journal._window.clear()
    positions: list[int] = []
    real = segments.read_closes

    def note(path: Path, position: int, above: int, limit: int) -> object:
        positions.append(position)
        return real(path, position, above, limit)

    monkeypatch.setattr(segments, "read_closes", note)
    assert everything(life) == [(number + 1, bill.event) for number, bill in enumerate(bills)]
    assert positions[:10] == sorted(set(positions[:10]))


def test_a_segment_larger_than_a_piece_is_read_piece_by_piece(books: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_PIECE", 700)
    life = books(slots=64)
    bills = [life.open() for _ in range(30)]
    for bill in bills:
        finish(bill)
    life.journal._window.clear()
    assert everything(life) == [(number + 1, bill.event) for number, bill in enumerate(bills)]
