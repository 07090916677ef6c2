"""The front matter of a model card: the lines between `---` at the top of README.md.

Written as YAML (https://huggingface.co/docs/hub/model-cards). Only what cards use at the top level is read: scalars,
`[a, b]`, and lists of scalars below a key. Anything else is passed over, as this runs without a YAML library, on text
that nobody has checked.
"""

from __future__ import annotations

import re
from typing import Final

Card = dict[str, str | list[str]]

_MOST_ENTRIES: Final = 200
_MOST_CHARACTERS: Final = 500
_ENTRY: Final = re.compile(r"([A-Za-z][\w.-]{0,80}):(?:[ \t]+(.*))?")
_ITEM: Final = re.compile(r"[ \t]*-[ \t]+(.*)")
_COMMENT: Final = re.compile(r"(?:^|[ \t])#.*")


def front_matter(readme: str) -> Card:
    """The entries by key, in order; empty where there is no front matter."""
    lines = readme.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != "---":
        return {}
    card: Card = {}
    key = ""
    for line in lines[1:]:
        if line.rstrip() in {"---", "..."}:
            return card
        entry, item = _ENTRY.fullmatch(line.rstrip()), _ITEM.fullmatch(line.rstrip())
        if entry is not None and len(card) < _MOST_ENTRIES:
            key = entry[1].lower()
            card[key] = _value((entry[2] or "").strip())
        elif item is not None and key:
            _append(card, key, item[1])
        elif line.strip() and not line.startswith((" ", "\t", "#")):
            key = ""
    return {}  # it never ends: not front matter


def texts(card: Card, key: str) -> list[str]:
    """The entry as a list, whether it was written as one or not."""
    value = card.get(key, "")
    return value if isinstance(value, list) else [value] if value else []


def text(card: Card, key: str) -> str | None:
    """The entry as one text; the first of a list."""
    return next(iter(texts(card, key)), None)


def _append(card: Card, key: str, item: str) -> None:
    value = card[key]
    items = value if isinstance(value, list) else []
    scalar = _scalar(item.strip())
    if scalar and len(items) < _MOST_ENTRIES and not (isinstance(value, str) and value):
        card[key] = [*items, scalar]


def _value(written: str) -> str | list[str]:
    if written.startswith("[") and _uncommented(written).endswith("]"):
        items = [_scalar(item.strip()) for item in _uncommented(written)[1:-1].split(",")]
        return [item for item in items if item][:_MOST_ENTRIES]
    return _scalar(written)


def _scalar(written: str) -> str:
    for quote in "'\"":
        if written.startswith(quote):
            return written[1:].partition(quote)[0][:_MOST_CHARACTERS]
    plain = _uncommented(written)
    return "" if plain in {"null", "~", "|", ">"} or plain.startswith("{") else plain[:_MOST_CHARACTERS]


def _uncommented(written: str) -> str:
    return _COMMENT.sub("", written).strip()
