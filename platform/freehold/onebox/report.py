"""What `make up` says in the terminal: lines with the seconds since it began."""

from __future__ import annotations

import time


class Report:
    """Prints to stdout at once, so that progress is seen through pipes too."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Since `make up` began."""
        return time.monotonic() - self._started

    def step(self, text: str) -> None:
        """One line of progress."""
        print(f"[{self.seconds():6.1f} s] {text}", flush=True)

    def plain(self, text: str = "") -> None:
        """Text without a time."""
        print(text, flush=True)
