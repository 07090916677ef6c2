"""Requests that wait because no replica of their endpoint is ready: it starts, or is between two generations.

Used by relay.py. The room looks at the routes often while somebody waits, and never otherwise.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from freehold.wire.follow import Snapshot
    from freehold.wire.records import RouteRecord

_LOOK_SECONDS: Final = 0.05
# Phases of serving: none becomes ready by waiting.
_HOPELESS: Final = frozenset({"Stopped", "Failed", "Deleting", "Deleted"})


def is_hopeless(route: RouteRecord) -> bool:
    """Whether no replica becomes ready by waiting."""
    return not route.replicas and route.phase in _HOPELESS


class Waiter(Protocol):
    """A request that may wait for a replica of `route`."""

    route: RouteRecord

    def wake(self) -> None:
        """The routes have changed."""

    def fail(self, error: Exception) -> None:
        """`wake` has raised this."""


class WaitingRoom:
    """Everybody who waits.

    Args:
        most: requests that may wait for one endpoint.
    """

    def __init__(self, snapshot: Snapshot, most: int) -> None:
        self._snapshot = snapshot
        self._most = most
        self._waiting: dict[str, dict[Waiter, None]] = {}  # endpoint → requests, in the order in which they came
        self._seen = -1
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def enter(self, waiter: Waiter) -> bool:
        """Waits until its `wake` is called. False: there is no room, or waiting is of no use."""
        waiting = self._waiting.setdefault(waiter.route.endpoint, {})
        if len(waiting) >= self._most or is_hopeless(waiter.route):
            if not waiting:
                del self._waiting[waiter.route.endpoint]
            return False
        waiting[waiter] = None
        self._seen = -1  # what is ready since its route was looked up would not be noticed otherwise
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
        return True

    def leave(self, waiter: Waiter) -> None:
        """Waits no more."""
        waiting = self._waiting.get(waiter.route.endpoint)
        if waiting is not None:
            waiting.pop(waiter, None)
            if not waiting:
                del self._waiting[waiter.route.endpoint]

    def _look(self) -> None:
        self._timer = None
        if self._snapshot.changes != self._seen:
            self._seen = self._snapshot.changes
            for waiting in list(self._waiting.values()):
                for waiter in list(waiting):
                    try:
                        waiter.wake()
                    except Exception as error:  # noqa: BLE001 - one must not keep the others from being woken
                        waiter.fail(error)
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
