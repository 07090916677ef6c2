"""How many attempts may be retries: a tenth of the requests, so that retries cannot multiply an overload."""

from __future__ import annotations

from collections import deque

SHARE = 0.1
FLOOR = 20  # retries in a window that are always allowed: with little traffic, a tenth of it would be none
WINDOW_SECONDS = 10.0


class RetryBudget:
    """Counts requests and retries in a sliding window. The window moves with `sweep`: asking reads no clock."""

    def __init__(self) -> None:
        self._slices: deque[tuple[float, int, int]] = deque()
        self._attempts = self._retries = 0  # within the window
        self._slice_attempts = self._slice_retries = 0

    def attempt(self) -> None:
        """A request goes to a replica, for the first time or again."""
        self._attempts += 1
        self._slice_attempts += 1

    def take(self) -> bool:
        """Whether one more retry is allowed; it is counted then."""
        if self._retries >= SHARE * (self._attempts - self._retries) + FLOOR:
            return False
        self._retries += 1
        self._slice_retries += 1
        return True

    def sweep(self, now: float) -> None:
        """Forgets what is older than the window. `now` is the event loop's time."""
        self._slices.append((now, self._slice_attempts, self._slice_retries))
        self._slice_attempts = self._slice_retries = 0
        while self._slices[0][0] < now - WINDOW_SECONDS:
            _, attempts, retries = self._slices.popleft()
            self._attempts -= attempts
            self._retries -= retries
