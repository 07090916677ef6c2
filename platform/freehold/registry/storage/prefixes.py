"""The hash of a content while its parts arrive one after the other, so that it need not be read again at the end.
Lives in one process and is lost with it: then the content is read once. Used by local.py."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

_MOST: Final = 1024  # transfers that are followed at once; a hash takes about a hundred bytes


@dataclass(frozen=True)
class Prefix:
    """SHA-256 of the first `position` bytes. `digest` is nobody's to update: take a copy."""

    position: int
    digest: hashlib._Hash


class Prefixes:
    """By transfer, the longest prefix that has been hashed. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Prefix] = OrderedDict()

    def of(self, transfer: str) -> Prefix:
        """What has been hashed: at least nothing."""
        with self._lock:
            return self._known.get(transfer) or Prefix(0, hashlib.sha256())

    def digest_from(self, transfer: str, position: int) -> hashlib._Hash | None:
        """A hash to go on with at `position`; None where what comes before has not been hashed here."""
        known = self.of(transfer)
        return known.digest.copy() if known.position == position else None

    def extend(self, transfer: str, *, start: int, end: int, digest: hashlib._Hash) -> None:
        """The bytes from `start` to `end` have arrived, and `digest` is now that of all before `end`."""
        with self._lock:
            known = self._known.get(transfer)
            if (known.position if known else 0) != start:
                return
            self._known[transfer] = Prefix(end, digest)
            self._known.move_to_end(transfer)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)

    def forget(self, transfer: str) -> None:
        """The transfer has ended."""
        with self._lock:
            self._known.pop(transfer, None)
