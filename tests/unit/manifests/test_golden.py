"""What is applied, word for word. After an intended change: FREEHOLD_REWRITE_GOLDEN=1 pytest tests/unit/manifests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.manifests.cases import CASES

GOLDEN = Path(__file__).parent / "golden"


class _Plain(yaml.SafeDumper):
    """Without anchors: manifests share parts."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(name: str) -> str:
    return yaml.dump_all(CASES[name].objects(), Dumper=_Plain, sort_keys=False, width=200)


@pytest.mark.parametrize("name", CASES)
def test_the_manifests_are_those_on_record(name: str) -> None:
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("FREEHOLD_REWRITE_GOLDEN"):
        path.write_text(_text(name))
    assert _text(name) == path.read_text()
    assert list(yaml.safe_load_all(path.read_text())) == list(CASES[name].objects())


def test_no_record_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(CASES)
