"""Is that still the process we mean? A pid is reused; a pid with its start time is not. Standard library only
(Linux)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

_STATE_FIELD, _START_FIELD = 0, 19  # after the command's name, in /proc/<pid>/stat (proc(5))


def started(pid: int) -> float:
    """Start time of a process in clock ticks since boot; 0.0 where it is not running (a zombie is not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    fields = stat.rpartition(")")[2].split()
    return 0.0 if fields[_STATE_FIELD] in {"Z", "X"} else float(fields[_START_FIELD])


def alive(pid: int, start: float) -> bool:
    """Whether the process that began at `start` still runs."""
    return pid > 0 and start > 0 and started(pid) == start


def group_members(group: int) -> list[int]:
    """Pids of a process group that still run."""
    members = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = Path(entry.path, "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            fields = stat.rpartition(")")[2].split()
            if int(fields[2]) == group and fields[_STATE_FIELD] not in {"Z", "X"}:
                members.append(int(entry.name))
    return members


def kill_group(group: int, mark: str) -> None:
    """SIGKILL for those of a process group that carry `mark` (NAME=value) in the environment they were started with.

    A group's number may belong to strangers by now, as after a reboot; the mark never does.
    """
    wanted = mark.encode()
    for pid in group_members(group):
        try:
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                os.kill(pid, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
