"""Where a gateway stands: its name, its folders, the address of its private port, how many processes it is.

What the parent (processes.py) has to know; settings.py takes it from here for the processes that do the work. Light:
the parent lives as long as the gateway does and pays for every module.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from freehold.common import env, ports

MOST_PROCESSES = ports.GATEWAY_PROCESSES_MOST
SNAPSHOT = "snapshot"
_LONGEST_ID = 200  # as metering takes them
_LONGEST_SUFFIX = 4
_LEAST_HUNG = 3


class Place:
    """One gateway's, whatever number of processes it is.

    A process has a folder and a name of its own, because a journal has one writer and metering knows it by its name.
    Folder 0 is GATEWAY_STATE itself under GATEWAY_ID, folder n is GATEWAY_STATE/n under GATEWAY_ID~n. Which process has
    which is open: a reload needs fresh ones while the old are still held.

    Attributes:
        processes: how many serve at a time.
        hung_seconds: after which a process that says nothing is killed.
    """

    def __init__(self, *, name: str, state: Path, private_host: str, processes: int, hung_seconds: int) -> None:
        self.name = name
        self.state = state
        self.private_host = private_host
        self.processes = processes
        self.hung_seconds = hung_seconds

    def name_of(self, folder: int) -> str:
        """GATEWAY_ID of the process that has the folder."""
        return f"{self.name}~{folder}" if folder else self.name

    def path_of(self, folder: int) -> Path:
        """GATEWAY_STATE of the process that has the folder."""
        return self.state / str(folder) if folder else self.state

    def environment_of(self, folder: int, environ: Mapping[str, str]) -> dict[str, str]:
        """What the process that has the folder finds in its environment."""
        return {**environ, "GATEWAY_ID": self.name_of(folder), "GATEWAY_STATE": str(self.path_of(folder))}

    def journals(self) -> list[int]:
        """Folders with a journal, in use or left behind."""
        return [folder for folder in self._folders() if _has_files(self.path_of(folder) / "journal")]

    def share_snapshot(self, folder: int) -> None:
        """Gives a folder the newest snapshot of all, so that who starts there can serve at once, even without Redis. By
        a link: whoever saves one renames it into place and never writes into what is there. Raises OSError."""
        snapshots = [self.path_of(each) / SNAPSHOT for each in self._folders()]
        known = {path: path.stat().st_mtime_ns for path in snapshots if path.is_file()}
        newest, own = max(known, key=known.__getitem__, default=None), self.path_of(folder) / SNAPSHOT
        if newest is None or known.get(own) == known[newest]:
            return
        shared = own.with_suffix(".shared")
        shared.unlink(missing_ok=True)
        shared.hardlink_to(newest)
        shared.replace(own)

    def _folders(self) -> list[int]:
        if not self.state.is_dir():
            return []
        return [0, *sorted(int(entry.name) for entry in self.state.iterdir() if _is_number(entry.name))]


def place(environ: Mapping[str, str] = os.environ) -> Place:
    """As the environment has it. Raises env.ConfigurationError, naming the variable."""
    name = name_from(environ)
    if len(name) > _LONGEST_ID - _LONGEST_SUFFIX:
        raise env.ConfigurationError(
            f"GATEWAY_ID={name!r} must have at most {_LONGEST_ID - _LONGEST_SUFFIX} characters: processes add a number."
        )
    processes = env.integer("GATEWAY_PROCESSES", 1, environ=environ)
    if not 1 <= processes <= MOST_PROCESSES:
        raise env.ConfigurationError(f"GATEWAY_PROCESSES={processes} must be between 1 and {MOST_PROCESSES}.")
    hung_seconds = env.integer("GATEWAY_HUNG_SECONDS", 30, environ=environ)
    if hung_seconds < _LEAST_HUNG:
        raise env.ConfigurationError(
            f"GATEWAY_HUNG_SECONDS={hung_seconds} must be at least {_LEAST_HUNG}: busy is not hung."
        )
    return Place(
        name=name,
        state=state_from(environ),
        private_host=private_host_from(environ),
        processes=processes,
        hung_seconds=hung_seconds,
    )


def name_from(environ: Mapping[str, str]) -> str:
    """GATEWAY_ID, else the host's name. Raises env.ConfigurationError."""
    name = env.text("GATEWAY_ID", socket.gethostname(), environ=environ)
    if "/" in name or "\0" in name or len(name) > _LONGEST_ID:
        raise env.ConfigurationError(
            f"GATEWAY_ID={name[:_LONGEST_ID]!r} must have at most {_LONGEST_ID} characters and no slash or NUL: "
            "metering would refuse its usage."
        )
    return name


def state_from(environ: Mapping[str, str]) -> Path:
    """GATEWAY_STATE, else $FREEHOLD_DATA/gateway. Raises env.ConfigurationError."""
    given = environ.get("GATEWAY_STATE", "")
    return Path(given) if given else Path(env.text("FREEHOLD_DATA", environ=environ)) / "gateway"


def private_host_from(environ: Mapping[str, str]) -> str:
    """GATEWAY_PRIVATE_HOST. Raises env.ConfigurationError."""
    host = env.text("GATEWAY_PRIVATE_HOST", ports.LOOPBACK, environ=environ)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise env.ConfigurationError(
            f"GATEWAY_PRIVATE_HOST={host!r} is not an IP address. Give the pod's own, or 0.0.0.0 for all."
        ) from None
    return host


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and name[0] != "0"


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
