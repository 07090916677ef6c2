"""Errors of serving that callers tell apart."""

from __future__ import annotations

from freehold.common.errors import Conflict


class StaleLock(Conflict):
    """The worker's lock token no longer holds: another worker took over. Drop what you were about to write."""

    code = "stale_lock"
