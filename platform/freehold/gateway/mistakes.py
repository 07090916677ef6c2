"""How a mistake of ours is told to the log: what kind of error and where it happened, never what it says, since that
may quote a prompt (a UnicodeEncodeError carries the whole text)."""

from __future__ import annotations

import traceback


def told(mistake: BaseException) -> dict[str, str]:
    """Fields for a line of the log."""
    return {"error": type(mistake).__name__, "where": "".join(traceback.format_tb(mistake.__traceback__))}
