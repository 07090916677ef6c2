"""The watcher as a process: it shows that it lives, has the control plane's numbers, and ends when it is told to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import redis

from tests.integration.workers.celery_processes import ROOT, until


def free_offset() -> int:
    """A shift under which the port of the metrics is free."""
    for offset in range(9_000 + os.getpid() % 5_000, 40_000, 11):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 8403 + offset)) != 0:
                return offset
    raise AssertionError("no free port")


@pytest.mark.usefixtures("committed_db")
def test_the_watcher_lives_is_measured_and_ends(tmp_path: Path, redis_client: redis.Redis) -> None:
    alive, offset = tmp_path / "alive", free_offset()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)]),
        "FREEHOLD_PORT_OFFSET": str(offset),
        "FREEHOLD_LIVENESS_FILE": str(alive),
        "FREEHOLD_ENGINE_PYTHON": sys.executable,
    }
    with (tmp_path / "log").open("wb") as log:
        watcher = subprocess.Popen(
            [sys.executable, "-m", "workers.watch"], env=environment, cwd=ROOT, stdout=log, stderr=log
        )
    try:
        until(lambda: alive.exists() or watcher.poll() is not None, "a sign of life")
        assert watcher.poll() is None, (tmp_path / "log").read_text()
        told = httpx.get(f"http://127.0.0.1:{8403 + offset}/metrics", trust_env=False).text
        assert "freehold_database_up 1.0" in told
        assert "freehold_redis_up 1.0" in told
        watcher.send_signal(signal.SIGTERM)
        assert watcher.wait(20) == 0
    finally:
        watcher.kill()
        watcher.wait()
