"""The leading blocks of a prompt as a key: what two requests have in common if one replica's cache can serve both.

A key names the tenant, because engines keep their caches apart by the tenant's `cache_salt`, and the adapter, because
an adapter's activations are its own. It hashes little of a prompt on purpose: its first block, and at each mark
(lengths that grow geometrically) the last bytes before it. Every turn of a conversation begins with the turns before,
so the marks of an earlier turn are found again in a later one; a prompt that is equal in the first block and there, but
not in between, costs a miss in a cache and nothing else.
"""

from __future__ import annotations

import zlib

BLOCK = 256  # bytes: about four blocks of 16 tokens; whoever shares less has nothing to gain
WINDOW = 64  # bytes before a mark that stand for all before it
DEPTH = 6  # marks looked at: a prompt up to eight times as long as its conversation was before
_LONGEST_BITS = 32

Prefix = tuple[str, str, bytes]


def _marks_below() -> tuple[tuple[int, ...], ...]:
    """By twice the bits of a size and the bit after its first: marks are 2 and 3 times the powers of 2 over BLOCK."""
    found: list[tuple[int, ...]] = [(), (), (), ()]
    for bits in range(2, _LONGEST_BITS + 1):
        for size in (2 << bits - 2, 3 << bits - 2):
            found.append((size, *found[-1][: DEPTH - 1]) if size > BLOCK else ())
    return tuple(found)


_MARKS_BELOW = _marks_below()


def prefix_key(tenant: str, adapter: str, text: bytes) -> Prefix | None:
    """What Router.choose takes; None where the prompt is shorter than a block.

    Args:
        tenant: public id of the caller's tenant (not of the endpoint's).
        adapter: of the route, "" for the base model.
        text: the request's body, which begins with its messages or prompt, or the leading part of it.
    """
    if len(text) < BLOCK:
        return None
    return tenant, adapter, text


def home(prefix: Prefix, beyond: int = 0) -> int:
    """32 bits of the first block, tenant and adapter, the same in every gateway.

    Args:
        beyond: the first mark after what other prompts have in common with this one. It tells the conversations under
            one system prompt apart, and is the same for all turns of each.
    """
    tenant, adapter, text = prefix
    found = zlib.crc32(text[:BLOCK], zlib.crc32(f"{tenant}\0{adapter}".encode()))
    return zlib.crc32(text[beyond - WINDOW : beyond], found) if beyond else found


def marks_below(size: int) -> tuple[int, ...]:
    """The longest marks within a text of `size` bytes (BLOCK to 4 GiB), the longest first, at most DEPTH. BLOCK itself
    is none of them."""
    bits = size.bit_length()
    return _MARKS_BELOW[2 * bits + (size >> bits - 2 & 1)]
