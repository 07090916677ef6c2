"""Gives the database connection back before a long wait: there are few, and a request would keep its own to the end."""

from __future__ import annotations

from django.db import connection


def release() -> None:
    """Returns this thread's connection to the pool; the next query takes one again. Inside a transaction: nothing."""
    if not connection.in_atomic_block:
        connection.close()
