"""The synchronous Redis connection of Django and Celery processes. The gateway has its own, asynchronous."""

from __future__ import annotations

from functools import cache

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from freehold.common import env


@cache
def client() -> redis.Redis:
    """A pooled client that gives up quickly: whoever waits for Redis holds up a person.

    One retry at once, for a pooled connection that has died meanwhile; redis-py's own retries take five seconds.
    """
    return redis.Redis.from_url(
        env.text("REDIS_URL"), socket_connect_timeout=0.5, socket_timeout=2.0, retry=Retry(NoBackoff(), 1)
    )
