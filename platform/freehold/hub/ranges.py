"""HTTP byte ranges (RFC 9110, section 14). Pure."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class NotSatisfiable(Exception):
    """The range begins behind the end of the file."""


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte, both included; None for the whole file (no range, several, or one that makes no sense).

    Raises NotSatisfiable.
    """
    found = _RANGE.fullmatch(header.strip().replace(" ", ""))
    if found is None or found.group(0) == "bytes=-" or max(map(len, found.groups())) > 18:
        return None
    first, last = found.groups()
    if not first:
        if int(last) == 0 or size == 0:
            raise NotSatisfiable
        return max(size - int(last), 0), size - 1
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise NotSatisfiable
    return int(first), min(int(last), size - 1) if last else size - 1
