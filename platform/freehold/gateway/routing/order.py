"""In which order a prefix that nobody remembers tries replicas: rendezvous hashing.

Every gateway comes to the same order without talking to the others; when a replica comes or goes, only the prefixes
whose first choice it was move; and what one replica cannot take is spread over all others, since each slot has an order
of its own. (D. Thaler, C. V. Ravishankar: Using Name-Based Mappings to Increase Hit Rates, 1998.)
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOTS = 1_024  # hashes are gathered into so many slots, so that orders can be kept


def order(slot: int, replicas: Sequence[str]) -> tuple[int, ...]:
    """Positions in `replicas` (ids), the first choice first."""

    def weight(position: int) -> bytes:
        return hashlib.blake2b(f"{slot}:{replicas[position]}".encode(), digest_size=8).digest()

    return tuple(sorted(range(len(replicas)), key=weight, reverse=True))
