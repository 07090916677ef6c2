"""Tails of replica logs, on request: the API says that somebody looks, the watcher answers into a capped stream."""

from __future__ import annotations

from typing import Any

import msgspec
import redis

from freehold.wire import names

WANTED_SECONDS = 30
KEPT_LINES = 2_000
KEPT_SECONDS = 300


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line. `position` sorts; give the last one back to read on."""

    position: str
    replica: str
    text: str


def want(client: redis.Redis, endpoint: str) -> None:
    """Asks the watcher for the logs of this endpoint (public id) for the next half minute."""
    client.set(names.log_wanted(endpoint), 1, ex=WANTED_SECONDS)


def wanted(client: redis.Redis) -> list[str]:
    """Public ids of the endpoints somebody looks at."""
    prefix = len(names.log_wanted(""))
    return [key.decode()[prefix:] for key in client.scan_iter(match=names.LOG_WANTED_PATTERN, count=500)]


def append(client: redis.Redis, endpoint: str, replica: str, lines: list[str]) -> None:
    """Adds lines, oldest first."""
    pipeline = client.pipeline(transaction=False)
    for line in lines:
        pipeline.xadd(names.log_lines(endpoint), {"r": replica, "t": line}, maxlen=KEPT_LINES, approximate=True)
    pipeline.expire(names.log_lines(endpoint), KEPT_SECONDS)
    pipeline.execute()


def keep(client: redis.Redis, endpoint: str) -> bool:
    """Keeps what was handed over while somebody looks. False where nothing is there any more: tell it all again."""
    return bool(client.expire(names.log_lines(endpoint), KEPT_SECONDS))


def read(client: redis.Redis, endpoint: str, *, after: str | None = None, count: int = 200) -> list[LogLine]:
    """The newest `count` lines, or those after a position; oldest first."""
    key = names.log_lines(endpoint)
    found: Any = (
        client.xrevrange(key, count=count) if after is None else client.xrange(key, min=f"({after}", count=count)
    )
    entries = list(found) if after is not None else list(reversed(found))
    return [
        LogLine(position=position.decode(), replica=fields[b"r"].decode(), text=fields[b"t"].decode(errors="replace"))
        for position, fields in entries
    ]
