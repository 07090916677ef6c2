"""Finding and ending what carries an installation's mark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from freehold.onebox.reap import find, reap

if TYPE_CHECKING:
    from collections.abc import Iterator

_SLEEP = "import time; print('up', flush=True); time.sleep(600)"
_STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
_PARENT = (
    "import subprocess, sys, time; "
    "subprocess.Popen([sys.executable, '-c', sys.argv[1]], env={}, stdout=subprocess.DEVNULL); "
    "print('up', flush=True); time.sleep(600)"
)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path)
    reap(str(tmp_path), seconds=0)


def _start(code: str, instance: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "FREEHOLD_INSTANCE": instance},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


def test_a_marked_process_is_found_and_ended_whoever_its_parent_is(instance: str) -> None:
    process = _start(_SLEEP, instance)
    assert [found.pid for found in find(instance)] == [process.pid]
    assert [found.pid for found in reap(instance)] == [process.pid]
    assert process.wait(5) == -signal.SIGTERM
    assert find(instance) == []


def test_one_that_ignores_sigterm_is_killed(instance: str) -> None:
    process = _start(_STUBBORN, instance)
    reap(instance, seconds=0.2)
    assert process.wait(5) == -signal.SIGKILL


def test_a_child_that_lost_the_mark_goes_with_the_session_it_is_in(instance: str) -> None:
    parent = _start(_PARENT, instance, _SLEEP)
    deadline = time.monotonic() + 5
    while len(find(instance)) < 2:
        assert time.monotonic() < deadline
    reap(instance)
    parent.wait(5)
    assert find(instance) == []


def test_another_installations_processes_are_left_alone(instance: str, tmp_path: Path) -> None:
    other = f"{instance}-other"
    process = _start(_SLEEP, other)
    reap(instance)
    assert process.poll() is None
    reap(other)
    process.wait(5)


def test_what_is_spared_is_left_alone(instance: str) -> None:
    process = _start(_SLEEP, instance)
    reap(instance, spare={process.pid})
    assert process.poll() is None
    reap(instance)
    process.wait(5)


def test_guard_ends_everything_when_its_supervisor_is_gone(instance: str) -> None:
    engine = _start(_SLEEP, instance)
    guard = subprocess.Popen(
        [sys.executable, "-m", "freehold.onebox.guard"],
        env={**os.environ, "FREEHOLD_INSTANCE": instance, "PYTHONPATH": "platform"},
        cwd=Path(__file__).resolve().parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    assert guard.stdout.readline() == "READY\n"
    guard.stdin.close()
    assert engine.wait(10) == -signal.SIGTERM
    assert guard.wait(10) == 0
    guard.stdout.close()
