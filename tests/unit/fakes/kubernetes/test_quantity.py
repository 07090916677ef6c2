"""Quantities are written back as a Kubernetes API server writes them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.fakes.kubernetes import quantity


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("1", "1"),
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("64Gi", "64Gi"),
        ("1024Mi", "1Gi"),
        ("1536Mi", "1536Mi"),
        ("1.5Gi", "1536Mi"),
        ("1000", "1k"),
        ("0", "0"),
        ("0Gi", "0"),
        ("1e3", "1e3"),
    ],
)
def test_a_quantity_is_written_in_its_canonical_form(sent: str, kept: str) -> None:
    assert quantity.canonical(sent) == kept
    assert quantity.value(kept) == quantity.value(sent)


@pytest.mark.parametrize("sent", ["", "1 Gi", "Gi", "1Gb", "0x1", "1e", "--1"])
def test_what_is_no_quantity_is_refused(sent: str) -> None:
    with pytest.raises(ValueError, match="quantities must match"):
        quantity.value(sent)


def test_sums_are_written_as_quantities() -> None:
    assert quantity.text(Fraction(8)) == "8"
    assert quantity.text(Fraction(1, 2)) == "500m"
