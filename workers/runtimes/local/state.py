"""The files in a replica's folder. Standard library only: the shim reads and writes them too.

    <root>/<endpoint>/cache/   what vLLM remembers of a model's class: halves the next start. Of one endpoint, so that
    no                            tenant's engine reads what another's wrote
    <root>/<endpoint>/<replica>/
        request.json   written once, before the shim starts: what was asked
        state.json     written by the shim: what runs (pids with start times)
        ready.json     written by the runtime: when it first answered
        stop.json      written by the runtime: it was asked to end, and why
        exit.json      written by the shim: how it ended
        engine.log     the engine's output
        home/          the engine's home and temporary folder, the only place it may write

Every file is replaced atomically, so a reader sees a whole one or none.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

REQUEST, STATE, READY, STOP, EXIT = "request.json", "state.json", "ready.json", "stop.json", "exit.json"
LOG = "engine.log"
MARK = "FREEHOLD_REPLICA"  # in the environment of a replica's every process: which replica it belongs to
CACHE = "cache"


@dataclass(frozen=True)
class Request:
    """What the shim is to run. Times are Unix seconds.

    Attributes:
        fetch: environment of the fetcher, without its token.
        command: the engine's command line.
        environment: the engine's whole environment: an allowlist, nothing is inherited.
        uid: user the engine runs as; None for our own.
    """

    endpoint: str
    replica: str
    template_hash: str
    created_at: float
    failures: int
    host: str
    port: int
    fetch: dict[str, str]
    command: list[str]
    environment: dict[str, str]
    uid: int | None
    grace_seconds: float


@dataclass(frozen=True)
class State:
    """What the shim runs. A pid counts only together with its start time."""

    phase: str
    since: float
    shim_pid: int
    shim_started: float
    engine_pid: int = 0
    engine_started: float = 0.0
    detail: str = ""


@dataclass(frozen=True)
class Stop:
    """Why it was asked to end, and whether its owner wanted that."""

    at: float
    cause: str
    wanted: bool


@dataclass(frozen=True)
class Ended:
    """How it ended. `code` is negative for a signal, as in subprocess."""

    at: float
    reason: str
    message: str
    code: int | None = None
    log_tail: list[str] = field(default_factory=list)


def write(
    folder: Path, name: str, content: Request | State | Stop | Ended | dict[str, Any], *, mode: int = 0o600
) -> None:
    """Replaces one file atomically."""
    data = content if isinstance(content, dict) else asdict(content)
    temporary = folder / f".{name}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        json.dump(data, file)
    temporary.replace(folder / name)


def read(folder: Path, name: str) -> dict[str, Any] | None:
    """One file's content, None where it is not there."""
    try:
        content: dict[str, Any] = json.loads((folder / name).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return content


def tail(path: Path, lines: int, *, at_most_bytes: int = 256 * 1024) -> list[str]:
    """The last lines of a file, oldest first."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - at_most_bytes))
            data = file.read()
    except FileNotFoundError:
        return []
    # NUL bytes are replaced too: neither PostgreSQL nor JSON readers take them in text.
    return data.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}").splitlines()[-lines:]
