"""Kubernetes quantities."""

from __future__ import annotations

from fractions import Fraction

import pytest

from freehold.fleet import quantities


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("1000m", 1), ("1.5", Fraction(3, 2)), (".5", Fraction(1, 2)), ("2.", 2), ("1Ki", 1024),
        ("1.5Gi", 3 * 2**29), ("4k", 4000), ("1e3", 1000), ("1E3", 1000), ("1E", 10**18), ("2Ei", 2**61),
        ("-1", -1), ("+5u", Fraction(5, 10**6)), ("12E-1", Fraction(12, 10)),
    ],
)  # fmt: skip
def test_a_quantity_is_worth_what_kubernetes_says(text: str, value: Fraction | int) -> None:
    assert quantities.parse(text) == value


@pytest.mark.parametrize("text", ["", "lots", "1 Gi", "1gi", "1KI", "Gi", "1.2.3", "1e", "0x10", "١", "1Gi\n"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity"):
        quantities.parse(text)


def test_quantities_are_the_same_by_value() -> None:
    assert quantities.same("1000m", "1")
    assert quantities.same("1Gi", 1073741824)
    assert not quantities.same("1G", "1Gi")
    assert not quantities.same("1", None)
    assert quantities.same("any", "any")


def test_a_multiple_keeps_its_unit_where_it_can() -> None:
    assert quantities.times("32Gi", 8) == "256Gi"
    assert quantities.times("7500m", 2) == "15000m"
    assert quantities.times("0.5", 8) == "4"
    assert quantities.times("0.5", 3) == "1500m"
    assert quantities.times("1.5Gi", 2) == "3Gi"
    assert quantities.times("1e3", 2) == "2000"


def test_bytes_become_whole_mebibytes() -> None:
    assert quantities.mebibytes(1) == "1Mi"
    assert quantities.mebibytes(2**30) == "1024Mi"
