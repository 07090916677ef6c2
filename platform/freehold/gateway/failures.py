"""Failures of connections. They are apart because compiled modules (native.py) cannot define subclasses of OSError."""

from __future__ import annotations


class NotTheReplica(OSError):
    """Somebody else answers at a replica's address."""


class LinkLost(ConnectionError):
    """The connection to Redis ended, or a reply came late; what was under way may or may not have been done."""
