"""Calendar months in UTC, by which usage is shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def month_start(moment: datetime) -> datetime:
    """The first instant of the month that `moment` lies in."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def previous_month(moment: datetime) -> tuple[datetime, datetime]:
    """Start and end (exclusive) of the month before the one that `moment` lies in."""
    end = month_start(moment)
    return month_start(end - timedelta(days=1)), end
