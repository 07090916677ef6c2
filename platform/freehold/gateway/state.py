"""The state folder: one process at a time. A second gateway on one journal would bill twice."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class StateInUse(Exception):
    """Another process holds the folder. The message says what to do."""


def hold(state: Path) -> int:
    """Holds the folder, made where missing, until the returned file descriptor is closed or the process ends.

    Raises StateInUse, and OSError where the folder cannot be written.
    """
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise StateInUse(
            f"Another gateway uses {state}. Stop it, or set GATEWAY_STATE to a folder of its own."
        ) from None
    return file
