"""Celery's own processes, as supervisord starts them, for tests that kill, stop and double them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DEADLINE = 60.0


def until(condition: Callable[[], object], what: str, *, seconds: float = DEADLINE) -> None:
    """Polls until the condition holds; fails after a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about within {seconds:g} s"
        time.sleep(0.05)


class Celery:
    """One `celery` process with its children.

    Args:
        application: what `-A` names.
        variables: on top of this process's environment.
    """

    def __init__(self, log: Path, *arguments: str, application: str = "workers.app", **variables: str) -> None:
        self._log = log
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)]),
            "FREEHOLD_LOG_JSON": "0",
            **variables,
        }
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", application, *arguments],
                env=environment, cwd=ROOT, stdout=stream, stderr=stream, start_new_session=True,
            )  # fmt: skip

    @classmethod
    def worker(
        cls, log: Path, *, queues: str = "default", application: str = "workers.app", **variables: str
    ) -> Celery:
        """A worker with one child, ready."""
        made = cls(
            log, "worker", "--concurrency", "1", "--queues", queues, "--hostname", f"{log.stem}@%h",
            "--without-gossip", "--without-mingle", "--loglevel", "INFO", application=application, **variables,
        )  # fmt: skip
        until(lambda: "ready." in made.log or not made.is_running, "a worker")
        assert made.is_running, made.log
        return made

    @classmethod
    def beat(cls, log: Path, **variables: str) -> Celery:
        """A beat of its own."""
        return cls(
            log, "beat", "--schedule", str(log.with_suffix(".schedule")), "--pidfile=", "--loglevel", "INFO",
            **variables,
        )  # fmt: skip

    @property
    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def kill(self) -> None:
        """kill -9, its children included: what the end of a machine or of a pod is."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Celery:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
