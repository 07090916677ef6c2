"""The file by which a process without HTTP shows that it works."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from freehold.common import liveness


def test_a_process_that_touches_its_file_is_alive_and_one_that_stopped_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "alive"
    monkeypatch.setenv("FREEHOLD_LIVENESS_FILE", str(file))
    assert liveness.main(["60"]) == 1
    liveness.touch()
    assert liveness.main(["60"]) == 0
    os.utime(file, (time.time() - 61, time.time() - 61))
    assert liveness.main(["60"]) == 1
    liveness.touch()
    assert liveness.main(["60"]) == 0


def test_without_the_variable_nothing_is_touched_and_the_probe_says_what_it_wants(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FREEHOLD_LIVENESS_FILE", raising=False)
    liveness.touch()
    assert liveness.main(["60"]) == 2
    assert "FREEHOLD_LIVENESS_FILE" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["soon"], ["1", "2"]])
def test_a_probe_that_is_called_wrongly_is_no_dead_process(arguments: list[str]) -> None:
    assert liveness.main(arguments) == 2


def test_a_file_that_cannot_be_written_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FREEHOLD_LIVENESS_FILE", str(tmp_path / "missing" / "alive"))
    liveness.touch()
    assert "cannot be touched" in capsys.readouterr().err
