"""Money is an integer."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.common.money import format_nanos, round_ratio


@given(st.integers(min_value=-(10**30), max_value=10**30), st.integers(min_value=1, max_value=10**15))
def test_rounding_is_to_the_nearest_and_ties_go_to_even(numerator: int, denominator: int) -> None:
    assert round_ratio(numerator, denominator) == round(Fraction(numerator, denominator))


def test_a_denominator_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        round_ratio(1, 0)


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (0, "0.00 EUR"),
        (1, "0.000000001 EUR"),
        (1_500_000_000, "1.50 EUR"),
        (-20_000_000, "-0.02 EUR"),
        (123_456_789_012_345_678, "123456789.012345678 EUR"),
    ],
)
def test_amounts_are_shown_exactly(nanos: int, text: str) -> None:
    assert format_nanos(nanos, "EUR") == text
