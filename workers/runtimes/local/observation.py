"""What a replica's folder and processes say: observed by any worker and by the watcher, kept in nobody's memory.

Used by runtime.py.
"""

from __future__ import annotations

import http.client
import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workers.runtimes.base import Exit, ObservedReplica, ReplicaState
from workers.runtimes.local import process, state

HEALTH_SECONDS = 1.0
# The shim writes its state within milliseconds; a folder without one for this long never got a process.
SPAWN_SECONDS = 10.0
GRACE_SECONDS = 40.0
SILENT = "silent.json"  # since when an engine that was ready has not answered


def terminate(folder: Path) -> None:
    """Signals a replica: its shim gracefully, or, once the grace period is over or the shim is gone, the whole
    group."""
    content = state.read(folder, state.STATE)
    if content is None:
        return
    running = state.State(**content)
    stop = state.read(folder, state.STOP)
    overdue = stop is not None and time.time() - float(stop["at"]) > GRACE_SECONDS + SPAWN_SECONDS
    if process.alive(running.shim_pid, running.shim_started) and not overdue:
        with suppress(ProcessLookupError):
            os.kill(running.shim_pid, signal.SIGTERM)
    else:
        process.kill_group(running.shim_pid, f"{state.MARK}={folder.name}")


def observe_replica(folder: Path) -> ObservedReplica | None:
    """One folder as it stands; None for one that is still being made, or has just been forgotten."""
    try:
        return _observe(folder)
    except FileNotFoundError:
        return None


def _observe(folder: Path) -> ObservedReplica | None:
    request = state.read(folder, state.REQUEST)
    if request is None:
        return None
    content, ended = state.read(folder, state.STATE), state.read(folder, state.EXIT)
    if ended is None:
        ended = _lost(folder, request, content)
    if ended is not None:
        return _exited(folder, request, ended)
    ready_at = _ready_at(folder)
    if content is None:
        return _replica(folder, request, ReplicaState.FETCHING, since=float(request["created_at"]))
    detail = str(content["detail"])
    since = float(content["since"])
    stop = state.read(folder, state.STOP)
    if stop is not None:
        terminate(folder)
        return _replica(
            folder,
            request,
            ReplicaState.STOPPING,
            since=float(stop["at"]),
            ready_at=ready_at,
            stop_wanted=bool(stop["wanted"]),
        )
    if content["phase"] == "fetching":
        return _replica(folder, request, ReplicaState.FETCHING, since=since, detail=detail)
    answers = healthy(str(request["host"]), int(request["port"]))
    health = folder / state.READY
    if answers:
        if ready_at is None:
            state.write(folder, state.READY, {"at": time.time()})
            ready_at = _ready_at(folder)
        elif (folder / SILENT).exists():
            (folder / SILENT).unlink(missing_ok=True)
        return _replica(folder, request, ReplicaState.READY, since=health.stat().st_mtime, ready_at=ready_at)
    if ready_at is None:
        return _replica(folder, request, ReplicaState.STARTING, since=since, detail=detail)
    silent = state.read(folder, SILENT)
    if silent is None:
        silent = {"since": time.time()}
        state.write(folder, SILENT, silent)
    return _replica(folder, request, ReplicaState.UNHEALTHY, since=float(silent["since"]), ready_at=ready_at)


def healthy(host: str, port: int) -> bool:
    """Whether the engine's `/health` answers 200 within a second."""
    connection = http.client.HTTPConnection(host, port, timeout=HEALTH_SECONDS)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _lost(folder: Path, request: dict[str, Any], content: dict[str, Any] | None) -> dict[str, Any] | None:
    """An end that no shim wrote down: it was killed, or never began."""
    if content is None:
        if time.time() - float(request["created_at"]) < SPAWN_SECONDS:
            return None
        message = "Its process was never started."
    else:
        running = state.State(**content)
        if process.alive(running.shim_pid, running.shim_started):
            return None
        ended = state.read(folder, state.EXIT)
        if ended is not None:  # written between our look at the file and at the process
            return ended
        process.kill_group(running.shim_pid, f"{state.MARK}={folder.name}")
        message = "Its process was killed from outside (or the machine was restarted)."
    state.write(
        folder,
        state.EXIT,
        state.Ended(at=time.time(), reason="Lost", message=message, log_tail=state.tail(folder / state.LOG, 40)),
    )
    return state.read(folder, state.EXIT)


def _exited(folder: Path, request: dict[str, Any], ended: dict[str, Any]) -> ObservedReplica:
    stop = state.read(folder, state.STOP)
    # Ended gracefully, though not by us: the installation was shut down, which is no failure of the engine.
    shut_down = stop is None and ended["reason"] == "Stopped"
    forced = stop is not None and not stop["wanted"]
    return _replica(
        folder,
        request,
        ReplicaState.EXITED,
        since=float(ended["at"]),
        ready_at=_ready_at(folder),
        exit=Exit(
            at=_time(float(ended["at"])),
            reason=str(stop["cause"]) if stop is not None and forced else str(ended["reason"]),
            message=str(ended["message"]),
            code=ended["code"],
            log_tail=tuple(ended["log_tail"]),
            wanted=shut_down or (stop is not None and bool(stop["wanted"])),
        ),
    )


def _replica(
    folder: Path,
    request: dict[str, Any],
    current: ReplicaState,
    *,
    since: float,
    ready_at: datetime | None = None,
    exit: Exit | None = None,  # noqa: A002 - the field's name
    detail: str = "",
    stop_wanted: bool = True,
) -> ObservedReplica:
    return ObservedReplica(
        id=folder.name,
        endpoint=str(request["endpoint"]),
        template_hash=str(request["template_hash"]),
        state=current,
        created_at=_time(float(request["created_at"])),
        since=_time(since),
        failures=int(request["failures"]),
        host=str(request["host"]),
        port=int(request["port"]),
        ready_at=ready_at,
        exit=exit,
        detail=detail,
        stop_wanted=stop_wanted,
    )


def _ready_at(folder: Path) -> datetime | None:
    content = state.read(folder, state.READY)
    return None if content is None else _time(float(content["at"]))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
