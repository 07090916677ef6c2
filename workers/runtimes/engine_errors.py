"""The line of an engine's log that says why it ended. Pure, standard library only: the shim uses it."""

from __future__ import annotations

import re
from collections.abc import Sequence

# An exception's last line in a traceback: `ValueError: To serve at least one request …`, also behind vLLM's log prefix.
_EXCEPTION = re.compile(r"(?:^|\s)((?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit))(?:: (.*))?$")
_PREFIX = re.compile(r"^(?:\([\w.: =-]+\)\s*)?(?:ERROR|CRITICAL)\s[\d-]+\s[\d:.]+\s\[[^\]]*\]\s?")
# What wraps the real cause and explains nothing.
_WRAPPERS = ("Engine core initialization failed", "See root cause above", "cancelled", "EngineCore failed to start")
MOST_CHARACTERS = 1_000


def error_line(lines: Sequence[str]) -> str:
    """The engine's own error, or empty. The last exception that is not a mere wrapper wins."""
    best = ""
    for line in lines:
        bare = _PREFIX.sub("", line.rstrip())
        match = _EXCEPTION.search(bare)
        if match is None or not match.group(2):
            continue
        if any(wrapper in bare for wrapper in _WRAPPERS):
            continue
        best = f"{match.group(1)}: {match.group(2)}"
    return best[:MOST_CHARACTERS]
