"""Watches the local runtime's replicas: one that became ready, or ended, is hinted at within a tick."""

from __future__ import annotations

from workers.runtimes.base import Runtime
from workers.watch.logs import LogTails

States = dict[str, tuple[str, str]]  # replica id → (endpoint id, state)


class LocalWatch:
    """Compares what is there with what was there a tick ago, and tails logs while it is at it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._before: States = {}
        self._tails = LogTails(self)

    def start(self) -> None:
        """Nothing to begin."""

    def stop(self) -> None:
        """Nothing to end."""

    def take(self) -> set[str]:
        """Endpoints of which a replica changed. Raises RuntimeUnavailable."""
        now: States = {
            replica.id: (endpoint, replica.state.value)
            for endpoint, replicas in self._runtime.observe().replicas.items()
            for replica in replicas
        }
        changed = {
            pair[0]
            for replica in now.keys() | self._before.keys()
            for pair in (now.get(replica), self._before.get(replica))
            if pair is not None and now.get(replica) != self._before.get(replica)
        }
        self._before = now
        self._tails.tick()
        return changed

    # LogTails' source

    def replicas(self, endpoint: str) -> list[str]:
        """Ids of an endpoint's replicas, oldest first."""
        return [replica for replica, (owner, _) in self._before.items() if owner == endpoint]

    def log_tail(self, endpoint: str, replica: str, *, lines: int) -> list[str]:
        """The newest lines."""
        return self._runtime.log_tail(endpoint, replica, lines=lines)
