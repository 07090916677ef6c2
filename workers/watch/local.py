"""Watches the local runtime's replicas: one that became ready, or ended, is hinted at within a tick."""

from __future__ import annotations

import time
import uuid

import redis
from django.db import DatabaseError

from freehold.common.errors import NotFound
from freehold.common.logging import get_logger
from freehold.serving.claims import endpoints_touch
from freehold.serving.models import Endpoint
from freehold.wire import hints
from workers.runtimes.base import Runtime, RuntimeUnavailable
from workers.runtimes.registry import runtime_of

log = get_logger(__name__)

States = dict[str, tuple[str, str]]  # replica id → (endpoint id, state)


class LocalWatch:
    """Compares what is there with what was there a tick ago."""

    def __init__(self, runtime: Runtime | None = None) -> None:
        self._runtime = runtime
        self._before: States = {}
        self._quiet_until = 0.0

    def tick(self) -> None:
        """Never raises for the outside world: a change that could not be told is told at the next tick."""
        if time.monotonic() < self._quiet_until:
            return
        try:
            self._runtime = self._runtime or runtime_of("local")
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
            if changed:
                self._tell(changed)
            self._before = now
        except (RuntimeUnavailable, DatabaseError, redis.RedisError) as error:
            log.warning("watch_interrupted", error=str(error))
            self._quiet_until = time.monotonic() + 2.0

    def _tell(self, endpoints: set[str]) -> None:
        keys = {key for endpoint in endpoints if (key := _primary_key(endpoint)) is not None}
        for cluster in endpoints_touch(endpoint_ids=keys):
            hints.send(hints.RECONCILE, str(cluster))


def _primary_key(endpoint: str) -> uuid.UUID | None:
    try:
        return Endpoint.parse_id(endpoint)
    except NotFound:
        return None
