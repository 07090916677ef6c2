"""Byte ranges."""

from __future__ import annotations

import pytest

from freehold.hub.ranges import NotSatisfiable, parse_range


@pytest.mark.parametrize(
    ("header", "window"),
    [
        ("bytes=0-0", (0, 0)),
        ("bytes=3-", (3, 9)),
        ("bytes=3-99", (3, 9)),
        ("bytes=-4", (6, 9)),
        ("bytes=-99", (0, 9)),
        ("", None),
        ("bytes=-", None),
        ("bytes=5-3", None),
        ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)
def test_a_range_of_ten_bytes(header: str, window: tuple[int, int] | None) -> None:
    assert parse_range(header, 10) == window


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-1", 0)])
def test_a_range_behind_the_end_is_not_satisfiable(header: str, size: int) -> None:
    with pytest.raises(NotSatisfiable):
        parse_range(header, size)
