"""What supervisord runs: everything that `make up` waits for, and somebody for every queue."""

from __future__ import annotations

from pathlib import Path

import pytest

from freehold.onebox.layout import Layout
from freehold.onebox.supervisor import DATABASES, PLATFORM, Program, configuration, programs
from freehold.wire import hints
from workers.app import app


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.of(tmp_path)


def _programs(layout: Layout) -> dict[str, Program]:
    return {program.name: program for program in programs(layout, postgres=["postgres"], redis=["redis"])}


def test_everything_that_is_started_is_known(layout: Layout) -> None:
    assert set(_programs(layout)) == {*DATABASES, *PLATFORM}


def test_every_queue_is_worked_off_by_one_program(layout: Layout) -> None:
    consumed = [
        program.command[program.command.index("--queues") + 1]
        for program in _programs(layout).values()
        if "--queues" in program.command
    ]
    sent = {entry.get("options", {}).get("queue", "default") for entry in app.conf.beat_schedule.values()}
    assert sorted(consumed) == sorted({*sent, "default", hints.TRANSFERS})


def test_names_of_workers_survive_the_configuration(layout: Layout) -> None:
    assert "transfers@%%h" in configuration(layout, list(_programs(layout).values())), "supervisord expands %"
