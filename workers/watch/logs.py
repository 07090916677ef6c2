"""Tails the logs of replicas that somebody looks at into Redis (wire/logs.py)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

import redis

from freehold.common.logging import get_logger
from freehold.wire import connection, logs
from workers.runtimes.base import RuntimeUnavailable

log = get_logger(__name__)

TAIL_LINES = 200
PERIOD_SECONDS = 0.5
LINE_CHARACTERS = 4_000


class Source(Protocol):
    """Where logs come from."""

    def replicas(self, endpoint: str) -> Iterable[str]:
        """Ids of an endpoint's replicas there; none where the endpoint is somebody else's."""
        ...

    def log_tail(self, endpoint: str, replica: str, *, lines: int) -> list[str]:
        """The newest lines, oldest first. Raises RuntimeUnavailable."""
        ...


class LogTails:
    """Remembers, for each replica of one source, which lines were already handed over."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._told: dict[tuple[str, str], list[str]] = {}
        self._next = 0.0

    def tick(self) -> None:
        """Never raises for the outside world."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PERIOD_SECONDS
        try:
            wanted = set(logs.wanted(connection.client()))
            for endpoint in {endpoint for endpoint, _ in self._told} - wanted:
                self._forget(endpoint)
            for endpoint in wanted:
                replicas = list(self._source.replicas(endpoint))
                if replicas and not logs.keep(connection.client(), endpoint):
                    self._forget(endpoint)
                for replica in replicas:
                    self._tell(endpoint, replica)
        except redis.RedisError as error:
            log.warning("log_tail_interrupted", error=str(error))

    def _forget(self, endpoint: str) -> None:
        for key in [key for key in self._told if key[0] == endpoint]:
            del self._told[key]

    def _tell(self, endpoint: str, replica: str) -> None:
        try:
            found = self._source.log_tail(endpoint, replica, lines=TAIL_LINES)
        except RuntimeUnavailable as error:
            # Of this one: its node may be silent. Others have logs too.
            log.warning("log_tail_interrupted", endpoint=endpoint, replica=replica, error=str(error))
            return
        lines = [line[:LINE_CHARACTERS] for line in found]
        fresh = new_lines(self._told.get((endpoint, replica), []), lines)
        if fresh:
            logs.append(connection.client(), endpoint, replica, fresh)
        self._told[endpoint, replica] = lines


def new_lines(before: list[str], now: list[str]) -> list[str]:
    """What `now` has beyond `before`, both being the newest lines of one growing log."""
    for start in range(len(before) + 1):
        overlap = before[start:]
        if now[: len(overlap)] == overlap:
            return now[len(overlap) :]
    return now
