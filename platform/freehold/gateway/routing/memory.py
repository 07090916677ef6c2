"""Which replica served a prefix last, for as many prefixes as there is room."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


class Memory(Generic[V]):
    """A table that forgets what was used longest ago. Keys are hashes: two prefixes may share one, at the price of a
    miss in a cache.

    Args:
        room: entries; each takes about 200 bytes.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._entries: OrderedDict[int, V] = OrderedDict()
        self.get = self._entries.get
        self.touch = self._entries.move_to_end  # of what is there: it is the latest again

    def put(self, key: int, value: V) -> None:
        """Remembers it as the latest."""
        entries = self._entries
        entries[key] = value
        entries.move_to_end(key)
        if len(entries) > self._room:
            entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)
