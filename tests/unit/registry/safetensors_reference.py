"""A second, independent judge of safetensors files: the library itself, and a reader of JSON written by hand.

It takes what the library takes, less what this product refuses on top: duplicate keys, unknown keys, text that others
cannot hold, metadata that is null. Nothing of the inspection is used, nor Python's json.
"""

from __future__ import annotations

import re
from typing import Any

from safetensors import SafetensorError, deserialize

_TOKEN = re.compile(rb'[ \t\n\r]*(?:([{}\[\],:])|("(?:[^"\\\x00-\x1f]|\\.)*")|([^ \t\n\r{}\[\],:"]+))', re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Pairs(list[tuple[str, Any]]):
    """An object as it is written: keys in order, twice where they are there twice."""


def accepts(content: bytes) -> bool:
    """Whether a strict reader takes the file."""
    try:
        deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError:
        return False
    length = int.from_bytes(content[:8], "little")
    header = _Reader(content[8 : 8 + length]).value()
    if not isinstance(header, Pairs) or not _unique(header) or not all(_holdable(name) for name, _ in header):
        return False
    return all(_metadata(entry) if name == "__metadata__" else _entry(entry) for name, entry in header)


def _unique(pairs: Pairs) -> bool:
    return len({name for name, _ in pairs}) == len(pairs)


def _holdable(text: str) -> bool:
    return "\0" not in text and not any(0xD800 <= ord(character) < 0xE000 for character in text)


def _metadata(entry: Any) -> bool:
    return (
        isinstance(entry, Pairs)
        and _unique(entry)
        and all(isinstance(value, str) and _holdable(name) and _holdable(value) for name, value in entry)
    )


def _entry(entry: Any) -> bool:
    return isinstance(entry, Pairs) and sorted(name for name, _ in entry) == ["data_offsets", "dtype", "shape"]


class _Reader:
    """JSON that the library has taken already, so that it is known to be well formed."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def _next(self) -> bytes:
        found = _TOKEN.match(self._content, self._position)
        assert found is not None
        self._position = found.end()
        return found[1] or found[2] or found[3]

    def value(self) -> Any:
        token = self._next()
        if token == b"{":
            pairs = Pairs()
            while (token := self._next()) != b"}":
                if token != b",":
                    self._next()
                    pairs.append((_text(token), self.value()))
            return pairs
        if token == b"[":
            items = []
            while (position := self._position, self._next())[1] != b"]":
                if self._content[position : self._position].strip() != b",":
                    self._position = position
                    items.append(self.value())
            return items
        return _text(token) if token.startswith(b'"') else token


def _text(token: bytes) -> str:
    def unescape(found: re.Match[str]) -> str:
        escape = found[1]
        return chr(int(escape[1:], 16)) if len(escape) == 5 else _SHORT.get(escape, escape)

    text = _ESCAPE.sub(unescape, token[1:-1].decode())
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
