"""A file that a process touches while it does its work, and the probe that looks at it: for processes that answer no
HTTP. FREEHOLD_LIVENESS_FILE names it; without that, nothing is touched.

`python -m freehold.common.liveness 300` ends with 0 where the file was touched within the last 300 seconds, else 1: a
container's exec probe.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from freehold.common import env

_VARIABLE = "FREEHOLD_LIVENESS_FILE"


def touch() -> None:
    """Notes that this process lives. Never raises: who cannot say so is taken for dead, which is then about right."""
    path = os.environ.get(_VARIABLE)
    if path:
        try:
            Path(path).touch()
        except OSError as error:
            sys.stderr.write(f"{_VARIABLE}={path} cannot be touched: {error}\n")


def is_alive(path: Path, *, seconds: float, now: float) -> bool:
    """Whether the file was touched in the last `seconds`; `now` is Unix time."""
    try:
        return now - path.stat().st_mtime <= seconds
    except FileNotFoundError:
        return False


def main(arguments: list[str]) -> int:
    """The probe. Returns the exit code; 2 where it was called wrongly."""
    try:
        (seconds,) = map(float, arguments)
        path = Path(env.text(_VARIABLE))
    except (ValueError, env.ConfigurationError) as error:
        sys.stderr.write(f"usage: python -m freehold.common.liveness SECONDS, with {_VARIABLE} set ({error})\n")
        return 2
    return 0 if is_alive(path, seconds=seconds, now=time.time()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
