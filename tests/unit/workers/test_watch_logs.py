"""What is new in a log of which only the newest lines are seen."""

from __future__ import annotations

import pytest

from workers.watch.logs import new_lines


@pytest.mark.parametrize(
    ("before", "now", "fresh"),
    [
        ([], ["a"], ["a"]),
        (["a"], ["a"], []),
        (["a"], ["a", "b"], ["b"]),
        (["a", "b", "c"], ["b", "c", "d"], ["d"]),
        (["a", "a"], ["a", "a", "a"], ["a"]),
        (["a", "b"], ["x", "y"], ["x", "y"]),
    ],
)
def test_only_new_lines_are_told(before: list[str], now: list[str], fresh: list[str]) -> None:
    assert new_lines(before, now) == fresh
