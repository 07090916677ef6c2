"""Counters that survive their process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold.gateway.slots import ESTIMATED, PROMPT, RELAYED, Slots

if TYPE_CHECKING:
    from pathlib import Path

EVENT = bytes(range(16))


def test_what_was_counted_is_read_by_the_next_process(tmp_path: Path) -> None:
    slot = Slots(tmp_path / "slots", 4).take(EVENT)
    assert slot is not None
    slot.words[RELAYED], slot.words[PROMPT], slot.words[ESTIMATED] = 1, 18, 1
    slot.choice(0, 5)
    slot.choice(127, 7)
    counts = Slots(tmp_path / "slots", 4).read(slot.index, EVENT)
    assert counts is not None
    assert (counts.relayed, counts.prompt, counts.completion, counts.estimated) == (True, 18, 12, True)


def test_a_slot_that_another_request_took_tells_nothing(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots", 1)
    slot = slots.take(EVENT)
    assert slot is not None
    slots.give_back(slot)
    assert slots.take(bytes(16)) is not None
    assert slots.read(0, EVENT) is None
    assert slots.take(EVENT) is None


def test_a_slot_is_cleared_when_it_is_taken(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots", 1)
    slot = slots.take(EVENT)
    assert slot is not None
    slot.choice(3, 9)
    slots.give_back(slot)
    again = slots.take(EVENT)
    assert again is not None
    assert again.counts().completion == 0


def test_a_file_of_another_layout_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "slots").write_bytes(b"something else" * 100)
    slots = Slots(tmp_path / "slots", 2)
    assert slots.read(0, EVENT) is None
    assert slots.read(99, EVENT) is None
    assert slots.free == 2


def test_fewer_slots_than_before_still_read_the_old_ones(tmp_path: Path) -> None:
    many = Slots(tmp_path / "slots", 8)
    for number in range(8):
        many.take(bytes([number]) * 16)
    assert Slots(tmp_path / "slots", 2).read(7, bytes([7]) * 16) is not None
