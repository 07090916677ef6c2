"""How often a fault is made to happen: a few times in `make test`, as often as is promised in `make soak`."""

from __future__ import annotations

import pytest

SOAK_SECONDS = 1_500


def amount(name: str, usual: object, soak: object, *, seconds: float = 90) -> pytest.MarkDecorator:
    """Runs a test with `name` = `usual` by default, within `seconds`, and with `soak` under that mark."""
    return pytest.mark.parametrize(
        name,
        [
            pytest.param(usual, marks=pytest.mark.timeout(seconds), id=f"{usual}"),
            pytest.param(soak, marks=[pytest.mark.soak, pytest.mark.timeout(SOAK_SECONDS)], id=f"soak-{soak}"),
        ],
    )
