"""Kubernetes quantities: `500m`, `64Gi`, `1e3`. The server rewrites them to a canonical form; so does the emulator.

Rules: k8s.io/apimachinery/pkg/api/resource/quantity.go (the form keeps its suffix family; the number in front becomes
an integer as small as can be).
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_FORM = re.compile(r"^([+-]?)(\d+\.?\d*|\.\d+)([eE][+-]?\d+|[KMGTPE]i|[numkMGTPE])?$")


@lru_cache(maxsize=4096)
def value(text: str) -> Fraction:
    """The number a quantity stands for. Raises ValueError for what the server would refuse."""
    found = _FORM.match(text)
    if not found:
        raise ValueError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    sign, number, suffix = found[1], Fraction(found[2]), found[3] or ""
    if suffix in _BINARY:
        number *= 1024 ** _BINARY.index(suffix)
    elif suffix in _DECIMAL:
        number *= Fraction(1000) ** (_DECIMAL.index(suffix) - 3)
    else:
        number *= Fraction(10) ** int(suffix[1:])
    return -number if sign == "-" else number


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """As the server writes it back: `0.5` is `500m`, `1024Mi` is `1Gi`, `64Gi` stays."""
    amount = value(text)
    found = _FORM.match(text)
    suffix = (found[3] or "") if found else ""
    if amount == 0:
        return "0"
    if suffix and suffix in _BINARY and abs(amount) >= 1024 and amount.denominator == 1:
        number, power = int(amount), 0
        while number % 1024 == 0 and power < len(_BINARY) - 1:
            number, power = number // 1024, power + 1
        return f"{number}{_BINARY[power]}"
    scaled, power = amount, 3
    while scaled.denominator != 1 and power > 0:
        scaled, power = scaled * 1000, power - 1
    number = -(-scaled.numerator // scaled.denominator)  # finer than nano is rounded up
    while number % 1000 == 0 and power < len(_DECIMAL) - 1:
        number, power = number // 1000, power + 1
    if suffix[:1] in ("e", "E") and suffix not in ("E", "Ei"):
        return f"{number}e{(power - 3) * 3}" if power != 3 else str(number)
    return f"{number}{_DECIMAL[power]}"


def text(amount: Fraction) -> str:
    """A sum of quantities, written in the decimal family."""
    return canonical(str(amount.numerator)) if amount.denominator == 1 else canonical(f"{int(amount * 1000)}m")
