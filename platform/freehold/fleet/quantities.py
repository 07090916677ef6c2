"""Kubernetes quantities: `100m`, `1.5Gi`, `1e3`. Pure: no Django.

A quantity is a decimal number with a binary suffix (Ki … Ei), a decimal one (n, u, m, k … E) or an exponent, after
k8s.io/apimachinery/pkg/api/resource. Two are the same where their values are: the API server answers `1` to `1000m`.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache
from typing import Final

PATTERN: Final = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?", re.ASCII
)
_FACTORS: Final[dict[str, Fraction]] = {
    "": Fraction(1),
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate("num", -3)},
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Fraction(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}


@lru_cache(maxsize=4096)
def parse(text: str) -> Fraction:
    """The exact value. Raises ValueError for what Kubernetes would not take."""
    match = PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a Kubernetes quantity such as 500m, 4 or 16Gi")
    number, suffix = match[1], match[2] or ""
    value = Fraction(number)
    if suffix in _FACTORS:
        return value * _FACTORS[suffix]
    return value * Fraction(10) ** int(suffix[1:])


def same(left: object, right: object) -> bool:
    """Whether two quantities have one value; numbers are taken for what they say, what is no quantity equals itself."""
    if left == right:
        return True
    try:
        return parse(str(left)) == parse(str(right))
    except ValueError:
        return False


@lru_cache(maxsize=4096)
def times(text: str, factor: int) -> str:
    """`factor` times the quantity, in the suffix it came with where that leaves a whole number."""
    if factor == 1:
        return text
    match = PATTERN.fullmatch(text)
    value = parse(text) * factor
    suffix = match[2] or "" if match else ""
    scaled = value / _FACTORS.get(suffix, Fraction(1))
    if suffix in _FACTORS and scaled.denominator == 1:
        return f"{scaled.numerator}{suffix}"
    if value.denominator == 1:
        return str(value.numerator)
    return f"{math.ceil(value * 1000)}m"


def mebibytes(count: int | Fraction) -> str:
    """Bytes as whole mebibytes, rounded up."""
    return f"{math.ceil(Fraction(count) / 1024**2)}Mi"
