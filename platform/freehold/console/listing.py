"""Pages of lists. Where the whole is at hand: `?offset=` in, a slice and the neighbours' offsets out. Where the
database pages: `?after=`, the id of the last row shown."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.http import HttpRequest

from freehold.common.errors import NotFound

_MOST_DIGITS = 9

Item = TypeVar("Item")


@dataclass(frozen=True)
class Part(Generic[Item]):
    """What a page shows of a list. `previous` and `next` are offsets, None at an end."""

    items: Sequence[Item]
    offset: int
    total: int
    most: int

    @property
    def first(self) -> int:
        """Of the shown, counted from 1."""
        return self.offset + 1

    @property
    def last(self) -> int:
        """Of the shown, counted from 1."""
        return self.offset + len(self.items)

    @property
    def previous(self) -> int | None:
        """Where the page before begins."""
        return max(0, self.offset - self.most) if self.offset else None

    @property
    def next(self) -> int | None:
        """Where the page after begins."""
        return self.last if self.last < self.total else None

    @property
    def whole(self) -> bool:
        """Whether there is nothing to page through."""
        return self.previous is None and self.next is None


def offset_of(request: HttpRequest) -> int:
    """`?offset=`, 0 for none. Raises NotFound for what no page of ours links to."""
    text = request.GET.get("offset", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise NotFound("There is no such page.")
    return int(text)


def part_of(request: HttpRequest, items: Sequence[Item], *, most: int) -> Part[Item]:
    """The slice that a request asks for."""
    offset = offset_of(request)
    return Part(items=items[offset : offset + most], offset=offset, total=len(items), most=most)


def after_of(request: HttpRequest) -> uuid.UUID | None:
    """`?after=`: the row after which a page begins, None for the first page. Raises NotFound for what is no id."""
    text = request.GET.get("after", "")
    if not text:
        return None
    try:
        return uuid.UUID(hex=text)
    except ValueError:
        raise NotFound("There is no such page.") from None
