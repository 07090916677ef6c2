"""Ends the engines when the supervisor ends, however it ends. Run by supervisord as an event listener.

Workers start engines in sessions of their own, so that an engine outlives its worker; only this process ends them.
supervisord stops it last: SIGTERM means that everything else is down. When supervisord is killed, its end of our
standard input closes, and everything of the installation is ended, databases included.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from freehold.onebox.reap import reap

if TYPE_CHECKING:
    from types import FrameType


def main() -> int:
    """Speaks supervisord's event listener protocol (http://supervisord.org/events.html) until it is over."""
    instance = os.environ["FREEHOLD_INSTANCE"]
    supervisor = os.getppid()

    def stop(number: int, frame: FrameType | None) -> None:
        reap(instance, spare={supervisor})
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    while True:
        sys.stdout.write("READY\n")
        sys.stdout.flush()
        header = sys.stdin.readline()
        if not header:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            reap(instance)
            return 0
        words = dict(pair.split(":", 1) for pair in header.split())
        sys.stdin.read(int(words.get("len", "0")))
        sys.stdout.write("RESULT 2\nOK")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
