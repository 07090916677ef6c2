"""Finds and ends every process of an installation, so that none is left behind.

Every process we start carries FREEHOLD_INSTANCE in its environment, children inherit it, and Linux shows it in
/proc/<pid>/environ whoever the parent is by now. Called by `make up` and `make down`, and by guard.py when the
supervisor ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

TERM_SECONDS = 20.0
_KILL_SECONDS = 5.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Found:
    """A process. `started` (clock ticks since boot) tells it from a later one with the same pid."""

    pid: int
    started: int
    session: int
    command: str

    @property
    def is_postgres_server(self) -> bool:
        """Whether this is a postmaster: it ends its own children, and wants SIGINT."""
        return _looks_like_postgres_server(self.command)


def find(instance: str, *, spare: Collection[int] = ()) -> list[Found]:
    """Every living process that carries `instance`, and every one in a session that such a process leads."""
    mark = f"FREEHOLD_INSTANCE={instance}".encode()
    everybody = {found.pid: found for found in _processes()}
    marked = {pid for pid in everybody if mark in _environment(pid)}
    led = {pid for pid in marked if everybody[pid].session == pid}
    family = {found.pid for found in everybody.values() if found.session in led} | marked
    return [everybody[pid] for pid in sorted(family - set(spare) - {os.getpid()})]


def reap(instance: str, *, spare: Collection[int] = (), seconds: float = TERM_SECONDS) -> list[Found]:
    """Ends every process of `instance` but ourselves and `spare`: asks first, kills after `seconds`.

    Returns what was found at first. Afterwards nothing is left (a process that even SIGKILL does not end hangs in the
    kernel; then it is left, and `find` still shows it).
    """
    first = find(instance, spare=spare)
    _signal(first, polite=True)
    if _gone(instance, spare, seconds):
        return first
    deadline = time.monotonic() + _KILL_SECONDS
    while (left := find(instance, spare=spare)) and time.monotonic() < deadline:
        _signal(left, polite=False)
        time.sleep(_POLL_SECONDS)
    return first


def _gone(instance: str, spare: Collection[int], seconds: float) -> bool:
    """Waits. Processes that appear meanwhile (a server's new child) are asked too."""
    deadline = time.monotonic() + seconds
    asked: set[tuple[int, int]] = set()
    while left := find(instance, spare=spare):
        if time.monotonic() > deadline:
            return False
        fresh = [found for found in left if (found.pid, found.started) not in asked]
        if asked:
            _signal(fresh, polite=True)
        asked |= {(found.pid, found.started) for found in left}
        time.sleep(_POLL_SECONDS)
    return True


def _signal(found: Iterable[Found], *, polite: bool) -> None:
    for process in found:
        if polite and _is_postgres_server(_parent(process.pid)):
            continue  # a backend: its server ends it; a signal would only cancel its query
        number = signal.SIGKILL
        if polite:
            number = signal.SIGINT if process.is_postgres_server else signal.SIGTERM
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def _processes() -> Iterable[Found]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The command's name is in parentheses and may hold anything; what follows the last one is regular.
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, ValueError):
            continue  # it ended while we looked
        if fields and fields[0] not in {"Z", "X"}:
            yield Found(pid=int(folder.name), started=int(fields[19]), session=int(fields[3]), command=command)


def _environment(pid: int) -> Collection[bytes]:
    try:
        return (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return ()  # ended, or somebody else's


def _parent(pid: int) -> int:
    try:
        return int((Path("/proc") / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _is_postgres_server(pid: int) -> bool:
    try:
        command = (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False
    return _looks_like_postgres_server(command.replace(b"\0", b" ").decode(errors="replace"))


def _looks_like_postgres_server(command: str) -> bool:
    words = command.split()
    return bool(words) and Path(words[0]).name == "postgres" and "-D" in words
