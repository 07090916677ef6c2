"""A line of the calculation that a person can follow with a pencil. Made by explain.py, shown with every Fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GIB: Final = 1024**3


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line: label, formula = value unit (note).

    Attributes:
        value: an integer where it is exact, else a float; `unit`: bytes, tokens, blocks, requests or accelerators.
        estimate: the formula is a rule of thumb, not the engine's own arithmetic.
    """

    label: str
    formula: str
    value: float
    unit: str
    note: str = ""
    estimate: bool = False

    def __str__(self) -> str:
        about = "about " if self.estimate else ""
        tail = f" ({self.note})" if self.note else ""
        return f"{self.label}: {self.formula} = {about}{number(self.value)} {self.unit}{tail}"


def number(value: float) -> str:
    """1,234 or 12.34."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def gib(size: int) -> str:
    """Bytes as GiB with two digits, for text."""
    return f"{size / GIB:,.2f} GiB"


def several(count: int, noun: str) -> str:
    """`1 layer`, `2 layers`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
