"""Where the processes of one gateway keep their state, and under which names metering knows them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.common import env
from freehold.gateway.place import SNAPSHOT, Place, place

ROOT = Path(__file__).parents[3]


@pytest.fixture
def where(tmp_path: Path) -> Place:
    return place({"GATEWAY_ID": "gw", "GATEWAY_STATE": str(tmp_path)})


def test_the_first_folder_is_the_gateways_own_under_its_own_name(where: Place, tmp_path: Path) -> None:
    assert (where.name_of(0), where.path_of(0)) == ("gw", tmp_path)
    assert (where.name_of(3), where.path_of(3)) == ("gw~3", tmp_path / "3")
    found = where.environment_of(3, {"REDIS_URL": "x", "GATEWAY_ID": "gw"})
    assert found == {"REDIS_URL": "x", "GATEWAY_ID": "gw~3", "GATEWAY_STATE": str(tmp_path / "3")}


def test_journals_are_found_in_folders_that_have_one(where: Place, tmp_path: Path) -> None:
    assert where.journals() == []
    for name in ("journal", "2/journal", "10/journal", "3/journal", "lost+found/journal", "04/journal"):
        (tmp_path / name).mkdir(parents=True)
        if name != "3/journal":
            (tmp_path / name / "segment").touch()
    assert where.journals() == [0, 2, 10]


def test_whoever_starts_in_a_folder_finds_the_newest_snapshot_there(where: Place, tmp_path: Path) -> None:
    for folder, age in ((0, 30), (1, 10), (2, 20)):
        path = where.path_of(folder) / SNAPSHOT
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"of {folder}")
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    where.path_of(3).mkdir()
    for folder in (0, 1, 3):
        where.share_snapshot(folder)
    assert [(where.path_of(folder) / SNAPSHOT).read_text() for folder in range(4)] == ["of 1", "of 1", "of 2", "of 1"]
    assert not list(tmp_path.rglob("*.shared"))


def test_without_any_snapshot_there_is_none_to_share(where: Place, tmp_path: Path) -> None:
    where.share_snapshot(0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_PROCESSES", "0"),
        ("GATEWAY_PROCESSES", "65"),
        ("GATEWAY_PROCESSES", "two"),
        ("GATEWAY_ID", "x" * 197),
        ("GATEWAY_HUNG_SECONDS", "2"),
        ("GATEWAY_HUNG_SECONDS", "soon"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(env.ConfigurationError, match=name):
        place({"GATEWAY_ID": "gw", "GATEWAY_STATE": str(tmp_path), name: value})


def test_the_parent_loads_nothing_that_weighs() -> None:
    heavy = ("asyncio", "dataclasses", "logging", "msgspec", "redis", "structlog", "subprocess", "uvloop")
    script = f"import sys, freehold.gateway.processes; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(ROOT / "platform")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "[]"
