"""Requests that wait because no replica of their endpoint is ready: it starts, or is between two generations.

Used by relay.py. The room looks at the routes often while somebody waits, and never otherwise.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freehold.gateway.relay import Relay
    from freehold.wire.follow import Snapshot

_LOOK_SECONDS = 0.05
_HOPELESS = frozenset({"Stopped", "Failed", "Deleting", "Deleted"})  # phases of serving: none becomes ready by waiting


class WaitingRoom:
    """Everybody who waits.

    Args:
        most: requests that may wait for one endpoint.
    """

    def __init__(self, snapshot: Snapshot, most: int) -> None:
        self._snapshot = snapshot
        self._most = most
        self._waiting: dict[str, dict[Relay, None]] = {}  # endpoint → requests, in the order in which they came
        self._seen = -1
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def enter(self, relay: Relay) -> bool:
        """Waits until `relay.wake` is called. False: there is no room, or waiting is of no use."""
        waiting = self._waiting.setdefault(relay.route.endpoint, {})
        if len(waiting) >= self._most or relay.route.phase in _HOPELESS:
            if not waiting:
                del self._waiting[relay.route.endpoint]
            return False
        waiting[relay] = None
        if self._timer is None:
            self._seen = -1
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
        return True

    def leave(self, relay: Relay) -> None:
        """Waits no more."""
        waiting = self._waiting.get(relay.route.endpoint)
        if waiting is not None:
            waiting.pop(relay, None)
            if not waiting:
                del self._waiting[relay.route.endpoint]

    def _look(self) -> None:
        self._timer = None
        if self._snapshot.changes != self._seen:
            self._seen = self._snapshot.changes
            for waiting in list(self._waiting.values()):
                for relay in list(waiting):
                    relay.wake()
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
