"""Slows down whoever guesses passwords: so many attempts in a while, counted in Redis. Called by console/middleware.py.

Attempts are counted before the password is looked at, so that many at once are no way around; a success takes those
from its address back. Without Redis everybody may try: people can sign in when parts of the platform are down.
"""

from __future__ import annotations

import hashlib
from typing import Final

import redis

from freehold.common.logging import get_logger
from freehold.wire import connection

log = get_logger(__name__)

ATTEMPTS: Final = 10  # of one account from one address
ATTEMPTS_ON_ACCOUNT: Final = 100  # from everywhere, so that many addresses are no way around
WINDOW_SECONDS: Final = 600


def attempt(*, address: str, account: str) -> int:
    """Counts an attempt to sign in. Returns 0 where it may go on, else the seconds until the next may."""
    limits = dict(zip(_keys(address, account), (ATTEMPTS, ATTEMPTS_ON_ACCOUNT), strict=True))
    try:
        with connection.client().pipeline(transaction=True) as pipeline:
            for key in limits:
                pipeline.set(key, 0, ex=WINDOW_SECONDS, nx=True)
                pipeline.incr(key)
                pipeline.ttl(key)
            answers = pipeline.execute()
    except redis.RedisError as error:
        log.warning("sign_in_not_throttled", error=str(error))
        return 0
    counted = zip(answers[1::3], answers[2::3], limits.values(), strict=True)
    return max((max(1, left) for count, left, limit in counted if count > limit), default=0)


def succeeded(*, address: str, account: str) -> None:
    """Forgets the attempts of somebody who has signed in after all, from this address."""
    try:
        connection.client().delete(_keys(address, account)[0])
    except redis.RedisError as error:
        log.warning("sign_in_not_throttled", error=str(error))


def _keys(address: str, account: str) -> tuple[str, str]:
    """Redis keys. Hashed: nobody's address lies in Redis, and what was typed is of any length."""
    pair = hashlib.sha256(f"{address}\0{account}".encode(errors="replace")).hexdigest()
    everywhere = hashlib.sha256(account.encode(errors="replace")).hexdigest()
    return f"fh:1:signin:pair:{pair}", f"fh:1:signin:account:{everywhere}"
