"""What a stream has relayed, kept for its tokens to be counted if the engine never says how many there were. Filled by
sse.py, read by estimate.py.
"""

from __future__ import annotations

_KEPT = 900_000  # so that its question, with what JSON escapes, is mostly below estimate.py's MiB


class RelayedText:
    """The text of a stream's deltas, in memory and nowhere else; as UTF-8, since a list of small strings is ten times
    as large.

    Attributes:
        beyond: deltas that were not kept, since there were more than _KEPT bytes; each is about a token.
    """

    __slots__ = ("_text", "beyond")

    def __init__(self) -> None:
        self._text = bytearray()
        self.beyond = 0

    def add(self, delta: str) -> None:
        """One delta of text, of reasoning or of a tool's arguments."""
        text = delta.encode()
        if self.beyond or len(self._text) + len(text) > _KEPT:
            self.beyond += 1
        else:
            self._text += text

    def __bool__(self) -> bool:
        return bool(self._text) or self.beyond > 0

    def __str__(self) -> str:
        return self._text.decode()
