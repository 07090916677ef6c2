"""Money is an integer number of nanos (10⁻⁹ of the currency's major unit), never a float.

Rounded at two places only: once a ledger entry to a nano (`round_ratio`), once an invoice to the minor unit.
"""

from __future__ import annotations

NANOS = 1_000_000_000
TOKENS_PER_PRICE = 1_000_000
SECONDS_PER_PRICE = 3_600


def round_ratio(numerator: int, denominator: int) -> int:
    """`numerator / denominator` to the nearest integer, ties to even; exact for integers of any size."""
    if denominator <= 0:
        raise ValueError("denominator must be positive")
    quotient, remainder = divmod(numerator, denominator)
    double = 2 * remainder
    if double > denominator or (double == denominator and quotient % 2 == 1):
        quotient += 1
    return quotient


def format_nanos(nanos: int, currency: str) -> str:
    """`1_500_000_000, "EUR"` → `"1.50 EUR"`: at least two decimals, and as many more as it takes to be exact."""
    sign = "-" if nanos < 0 else ""
    major, rest = divmod(abs(nanos), NANOS)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{major}.{decimals} {currency}"
