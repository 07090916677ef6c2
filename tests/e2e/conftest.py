"""One complete installation for all end-to-end tests: brought up by the code of `make up DETACH=1`, in a folder and on
ports of its own, sharing .venv and .venv-engine. Tests that use it are marked `engine`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from freehold.onebox.layout import ROOT, Layout
from freehold.onebox.reap import find
from freehold.onebox.supervisor import Status, Supervisor

_UP_SECONDS = 420
_DOWN_SECONDS = 120
_SPAN = 200  # ports that one installation may use


@dataclass
class Onebox:
    """A running installation.

    Attributes:
        facts: demo.json.
        output: what the last `up` printed.
        seconds: how long it took.
    """

    home: Path
    environment: dict[str, str]
    facts: dict[str, Any]
    output: str = ""
    seconds: float = 0.0

    def up(self) -> None:
        """`make up DETACH=1`, set-up apart; fails the test with all that was printed."""
        started = time.monotonic()
        done = self.command("up", "--detach", seconds=_UP_SECONDS)
        self.seconds, self.output = time.monotonic() - started, done.stdout + done.stderr
        if done.returncode:
            logs = "\n".join(
                f"== {log.name}\n{log.read_text()[-2000:]}" for log in sorted((self.home / "logs").glob("*.log"))
            )
            pytest.fail(f"make up ended with status {done.returncode}:\n{self.output}\n{logs}", pytrace=False)
        self.facts = json.loads((self.home / "demo.json").read_text())

    def down(self) -> None:
        """`make down`; fails the test where a process is left."""
        done = self.command("down", seconds=_DOWN_SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr
        assert find(str(self.home)) == []

    @property
    def data(self) -> Path:
        """FREEHOLD_DATA."""
        return self.home / "data"

    @staticmethod
    def read_json(path: Path) -> dict[str, Any]:
        """A JSON file's content."""
        return dict(json.loads(path.read_text()))

    def status(self, name: str) -> Status:
        """One supervised process."""
        found = Supervisor(Layout.of(self.home)).status()
        return next(status for status in found if status.name == name)

    def kill_and_wait(self, name: str) -> None:
        """SIGKILL for one supervised process; returns when the supervisor has a new one running."""
        killed = self.status(name).pid
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while (now := self.status(name)).state != "RUNNING" or now.pid == killed:
            assert time.monotonic() < deadline, f"{name} did not come back: {now}"
            time.sleep(0.1)

    def command(self, *arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
        """Runs `python -m freehold.onebox …` for this installation."""
        return subprocess.run(
            [sys.executable, "-m", "freehold.onebox", *arguments],
            env=self.environment, cwd=ROOT, check=False, capture_output=True, text=True, timeout=seconds,
        )  # fmt: skip


@pytest.fixture(scope="session")
def onebox() -> Iterator[Onebox]:
    """A complete installation with both demo models answering; afterwards it is taken down and nothing may be left."""
    home = Path(tempfile.mkdtemp(prefix="freehold-e2e-", dir="/var/tmp"))
    home.chmod(0o755)
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(
            ("FREEHOLD_", "DATABASE_", "REDIS_", "DJANGO_", "GATEWAY_", "SECRET_KEY", "OBJECT_STORE")
        )
    }
    environment = {
        **ours,
        "FREEHOLD_HOME": str(home),
        "FREEHOLD_PORT_OFFSET": str(_free_offset()),
        "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
        "GATEWAY_NATIVE": os.environ["GATEWAY_NATIVE"],
    }
    box = Onebox(home=home, environment=environment, facts={})
    try:
        box.up()
        yield box
    finally:
        box.down()
        shutil.rmtree(home, ignore_errors=True)


def _free_offset() -> int:
    """A shift under which all five fixed ports are free."""
    for offset in range(_SPAN, 50 * _SPAN, _SPAN):
        if all(_is_free(8400 + offset + port) for port in (0, 1, 2, 10, 11, 100)):
            return offset
    raise AssertionError("no free range of ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
