"""Ids: UUIDv7 inside (sorted by time, RFC 9562), prefixed text outside (`ep_01j…`, after the TypeID specification 0.3).

The text is the prefix, an underscore and the 128 bits in Crockford's base 32, lower case, 26 characters.
"""

from __future__ import annotations

import os
import random
import time
import uuid

from freehold.common.errors import NotFound

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_LENGTH = 26


def uuid7() -> uuid.UUID:
    """A new UUIDv7: 48 bits of Unix milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


_random_bits = random.Random(os.urandom(32)).getrandbits  # noqa: S311 - ids must be unlike each other, not secret
_VERSION_7 = 0x7 << 76 | 0x2 << 62


def uuid7_hex() -> str:
    """A new UUIDv7 as 32 hex digits, for those who need many a second. Its 74 random bits come from a generator that
    was seeded once by the system; a process that forks must not use it in both."""
    bits = _random_bits(74)
    value = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | (bits >> 62) << 64 | bits & (1 << 62) - 1 | _VERSION_7
    return value.to_bytes(16, "big").hex()


def encode(prefix: str, value: uuid.UUID) -> str:
    """The public form of `value`."""
    number, characters = value.int, []
    for _ in range(_LENGTH):
        number, digit = divmod(number, 32)
        characters.append(_ALPHABET[digit])
    return f"{prefix}_{''.join(reversed(characters))}"


def decode(prefix: str, text: str) -> uuid.UUID:
    """The inverse of `encode`. Raises NotFound for anything that cannot be such an id: to a caller, malformed and
    missing are the same."""
    head, _, tail = text.rpartition("_")
    if head != prefix or len(tail) != _LENGTH or tail[0] > "7":
        raise NotFound(f"There is no object with the id {text!r}.")
    number = 0
    for character in tail:
        if character not in _VALUES:
            raise NotFound(f"There is no object with the id {text!r}.")
        number = number << 5 | _VALUES[character]
    return uuid.UUID(int=number)
