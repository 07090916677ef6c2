"""Versions of what is published to the data plane: drawn after commit and before the state is read (wire.publish)."""

from __future__ import annotations

from django.db import connection

_MOST = 1_000_000


def next_version() -> int:
    """The next number of one sequence for all publications; grows for ever, whatever happens to Redis."""
    return _draw(1)


def versions_advance(minimum: int) -> None:
    """Makes the next version larger than `minimum`, after a restore of PostgreSQL has set the versions back.

    By drawing, not by setval: nobody who draws meanwhile can be set back, and the application's role may not set it.
    """
    version = next_version()
    while version < minimum:
        version = _draw(min(minimum - version, _MOST))


def _draw(count: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(nextval('freehold_wire_version')) FROM generate_series(1, %s)", [count])
        return int(cursor.fetchone()[0])
