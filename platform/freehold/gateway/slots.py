"""A slot for every request in flight: counters in a shared mapping of a file, so that they survive kill -9 of the
process (the kernel keeps the pages). Counting a relayed token is one store into memory. Used by meter.py and, at
start, by replay.

The file is a header of 64 bytes, then slots of WORDS native unsigned 32-bit integers.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

CHOICES: Final = 128  # counters a slot has: prompts × n of one request
FIRST_CHOICE: Final = 16  # word of the first of them
WORDS: Final = FIRST_CHOICE + CHOICES
_BYTES: Final = WORDS * 4
_HEADER: Final = struct.Struct("=8sII")
_MAGIC: Final = b"FHSLOTS\0"
_VERSION: Final = 1
_START: Final = 64
_CLEAR: Final = bytes(_BYTES - 16)

# Words of a slot after the event id (words 0 to 3).
RELAYED: Final = 4
PROMPT: Final = 5
CACHED: Final = 6
REASONING: Final = 7
ESTIMATED: Final = 8


@dataclass(frozen=True, slots=True)
class Counts:
    """What a slot held."""

    relayed: bool
    prompt: int
    cached: int
    reasoning: int
    completion: int
    estimated: bool


class Slot:
    """One request's counters. `words` may be written directly in hot paths."""

    __slots__ = ("index", "words")

    def __init__(self, index: int, words: memoryview) -> None:
        self.index = index
        self.words = words

    def choice(self, index: int, tokens: int) -> None:
        """Sets how many tokens of a choice were relayed so far."""
        self.words[FIRST_CHOICE + index] = tokens

    def add(self, tokens: int) -> None:
        """Counts tokens on the first choice, where frames carry no numbers of their own."""
        self.words[FIRST_CHOICE] += tokens

    def counts(self) -> Counts:
        """The numbers now."""
        words = self.words
        return Counts(
            relayed=bool(words[RELAYED]),
            prompt=words[PROMPT],
            cached=words[CACHED],
            reasoning=words[REASONING],
            completion=self.completion(CHOICES),
            estimated=bool(words[ESTIMATED]),
        )

    def each(self, choices: int) -> tuple[int, ...]:
        """Tokens relayed of each of the first so many choices; nothing where they were counted together."""
        found = tuple(self.words[FIRST_CHOICE : FIRST_CHOICE + choices])
        return found if any(found[1:]) else ()

    def completion(self, choices: int) -> int:
        """Tokens relayed of the first so many choices together."""
        if choices == 1:
            return self.words[FIRST_CHOICE]
        return sum(self.words[FIRST_CHOICE : FIRST_CHOICE + choices])


class Slots:
    """The file of slots.

    Args:
        path: created, or kept where its layout is ours.
        count: how many requests can be in flight.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        head = os.pread(self._file, _HEADER.size, 0)
        ours = _HEADER.pack(_MAGIC, _VERSION, WORDS)
        if head != ours:
            os.ftruncate(self._file, 0)
        size = max(os.fstat(self._file).st_size, _START + count * _BYTES)
        os.ftruncate(self._file, size)
        os.pwrite(self._file, ours, 0)
        self._map = mmap.mmap(self._file, size)
        self._words = memoryview(self._map)[_START : size - (size - _START) % _BYTES].cast("I")
        self._free = list(range(count - 1, -1, -1))
        self._slots: dict[int, Slot] = {}  # of those that were ever taken, for the next time

    def take(self, event: bytes) -> Slot | None:
        """A cleared slot for the event (16 bytes), None where all are in use."""
        if not self._free:
            return None
        index = self._free.pop()
        start = _START + index * _BYTES
        self._map[start : start + _BYTES] = event + _CLEAR
        slot = self._slots.get(index)
        if slot is None:
            slot = self._slots[index] = Slot(index, self._words[index * WORDS : (index + 1) * WORDS])
        return slot

    def give_back(self, slot: Slot) -> None:
        """Frees a slot whose request is settled. Its content stays until it is taken again."""
        self._free.append(slot.index)

    @property
    def free(self) -> int:
        """How many more requests fit."""
        return len(self._free)

    def read(self, index: int, event: bytes) -> Counts | None:
        """The counters that a former process left for this event, None where the slot holds another's."""
        start = _START + index * _BYTES
        if index < 0 or start + _BYTES > len(self._map) or self._map[start : start + 16] != event:
            return None
        return Slot(index, self._words[index * WORDS : (index + 1) * WORDS]).counts()

    def close(self) -> None:
        """Closes the file. The mapping goes with the last slot that still looks into it."""
        os.close(self._file)
