"""Versions of what is published to the data plane: drawn after commit and before the state is read (wire.publish)."""

from __future__ import annotations

from django.db import connection


def next_version() -> int:
    """The next number of one sequence for all publications; grows for ever, whatever happens to Redis."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('freehold_wire_version')")
        return int(cursor.fetchone()[0])
