"""Storage's jobs: what tasks call. Here content is read that nobody has hashed: what came by a presigned URL, or was
too large to be hashed while a client waits.

A turn ends after a while, so that imports, which share the queue, have theirs; and at once where the process is told to
stop: then the claim is given back.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from celery import signals

from freehold.common import clock
from freehold.common.clock import Clock
from freehold.common.errors import Unavailable
from freehold.common.logging import get_logger
from freehold.db.connections import release
from freehold.registry import verification
from freehold.registry.storage import object_store
from freehold.registry.verification import ContentClaim, Found, LostClaim

log = get_logger(__name__)

TURN_SECONDS: Final = 60.0
BEAT_SECONDS: Final = 30.0  # a sixth of verification.LEASE: a read may stand still for a while
_CHUNK: Final = 1024 * 1024

_stopping = threading.Event()


@signals.worker_shutting_down.connect
def _stop(**_: Any) -> None:
    _stopping.set()


class _Stopped(Exception):
    """This process is to end."""


def contents_verify() -> bool:
    """Hashes what waits for it, for a turn. Returns whether there is more."""
    verification.revisions_settle()
    ends = time.monotonic() + TURN_SECONDS
    while time.monotonic() < ends and not _stopping.is_set():
        claim = verification.content_claim()
        if claim is None:
            return False
        content_verify(claim, stopping=_stopping.is_set)
    return not _stopping.is_set() and verification.contents_waiting()


def content_verify(
    claim: ContentClaim,
    *,
    stopping: Callable[[], bool] = lambda: False,
    now: Clock = clock.now,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Hashes one content and settles it. Where the store fails, the claim runs out and somebody tries again."""
    release()  # reading takes minutes, and connections are few
    reading = _Reading(claim, stopping=stopping, now=now, monotonic=monotonic)
    try:
        found = reading.find()
        whole = verification.content_settle(claim=reading.claim, found=found, now=now)
    except _Stopped:
        verification.content_release(claim=reading.claim)
    except LostClaim:
        log.info("verification_taken_over", sha256=claim.sha256)
    except (Unavailable, OSError) as error:
        log.warning("verification_interrupted", sha256=claim.sha256, error=str(error))
    else:
        log.info("content_verified" if whole else "content_refused", sha256=claim.sha256, size=claim.size)
    finally:
        release()


class _Reading:
    """One content, read from one end to the other; its claim is extended on the way."""

    def __init__(
        self, claim: ContentClaim, *, stopping: Callable[[], bool], now: Clock, monotonic: Callable[[], float]
    ) -> None:
        self.claim = claim
        self._stopping, self._now, self._monotonic = stopping, now, monotonic
        self._next_beat = monotonic() + BEAT_SECONDS

    def find(self) -> Found:
        """Raises LostClaim, _Stopped, and what stores raise."""
        store, claim = object_store(), self.claim
        size = store.size(claim.tenant_id, claim.sha256)
        if size != claim.size:
            return Found(sha256=None, size=size)
        digest = hashlib.sha256()
        read = 0
        try:
            with store.open(claim.tenant_id, claim.sha256) as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
                    read += len(chunk)
                    self._pass()
        except FileNotFoundError:
            return Found(sha256=None, size=None)
        return Found(sha256=digest.hexdigest(), size=read)

    def _pass(self) -> None:
        if self._stopping():
            raise _Stopped
        if self._monotonic() >= self._next_beat:
            self.claim = verification.content_beat(claim=self.claim, now=self._now)
            self._next_beat = self._monotonic() + BEAT_SECONDS
            release()
