"""A line of JSON a request on stderr, written in groups: who, what, how it ended, how much. Never a prompt, an answer
or a key. Called by app.py; the sweeper flushes.
"""

from __future__ import annotations

import contextlib
import sys
from typing import BinaryIO

import msgspec

_FLUSH_AT = 200
_encoder = msgspec.json.Encoder()


class AccessLine(msgspec.Struct, omit_defaults=True, tag_field="event", tag="request"):
    """One request. Its `event` tells it from the lines of the log proper."""

    at: float
    method: str
    path: str
    status: int
    request: str = ""
    tenant: str = ""
    key: str = ""
    model: str = ""
    replica: str = ""
    outcome: str = ""
    stream: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token_ms: int | None = None
    duration_ms: int | None = None
    code: str | None = None


class AccessLog:
    """Collects lines and writes them."""

    def __init__(self, output: BinaryIO | None = None) -> None:
        self._output = output or sys.stderr.buffer
        self._lines: list[AccessLine] = []

    def add(self, line: AccessLine) -> None:
        """Notes a request."""
        self._lines.append(line)
        if len(self._lines) >= _FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Writes what was collected."""
        if self._lines:
            lines, self._lines = self._lines, []
            with contextlib.suppress(OSError):  # nobody's request may fail for it
                self._output.write(_encoder.encode_lines(lines))
                self._output.flush()
