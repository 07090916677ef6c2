"""Who holds a state folder: one gateway, and each part of it one process. Two on one journal would bill twice."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class StateInUse(Exception):
    """Another process holds the folder. The message says what to do."""


PROCESS, PARENT = "lock", "parent"


def hold(state: Path, lock: str = PROCESS) -> int:
    """Holds the folder, made where missing, until the returned file descriptor is closed by everybody who has it.
    Parent and process hold one folder side by side, by different locks.

    Raises StateInUse, and OSError where the folder cannot be written.
    """
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = os.open(state / lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise StateInUse(
            f"Another gateway uses {state}. Stop it, or set GATEWAY_STATE to a folder of its own."
        ) from None
    return file
