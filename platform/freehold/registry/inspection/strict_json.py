"""JSON that means the same to every reader: no duplicate keys, no NaN, no text that others cannot hold, bounded.

Python's json takes the last of duplicate keys, others the first: a file could show one configuration to an inspection
and another to the engine. NUL ends text early elsewhere, and PostgreSQL takes neither it nor half a surrogate pair.
Infinity is let through: Mamba-like models have `time_step_limit: [0.0, Infinity]`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from freehold.registry.inspection.problems import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable

_REMEDY = "Write it again with a JSON library."
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")  # raw ones are no valid JSON, nor valid UTF-8
_UNHOLDABLE = re.compile("[\0\ud800-\udfff]")


def loads(content: bytes, *, parse_int: Callable[[str], int] | None = None) -> Any:
    """The parsed document. `parse_int` reads its whole numbers. Raises Malformed."""
    document = _parse(content, _object, parse_int)
    if _SUSPECT.search(content):
        _check_text(document)
    return document


def check(content: bytes) -> None:
    """Raises Malformed for what `loads` refuses but for odd text, and keeps no objects: for large vocabularies."""
    try:
        _parse(content, _nothing, None)
    except MemoryError:
        raise Malformed("json_too_large", "takes more memory to read than there is", "Leave it out.") from None


def _parse(
    content: bytes, pairs_hook: Callable[[list[tuple[str, Any]]], Any], parse_int: Callable[[str], int] | None
) -> Any:
    try:
        text = content.decode("utf-8")
        return json.loads(text, object_pairs_hook=pairs_hook, parse_constant=_constant, parse_int=parse_int)
    except UnicodeDecodeError:
        raise Malformed("json_encoding", "is not UTF-8 text", _REMEDY) from None
    except RecursionError:
        raise Malformed("json_depth", "is nested too deeply", _REMEDY) from None
    except ValueError as error:
        raise Malformed("json_syntax", f"is not valid JSON ({error})", _REMEDY) from None


def _check_text(document: Any) -> None:
    stack = [document]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, str) and _UNHOLDABLE.search(item):
            raise Malformed("json_text", "holds a NUL or half a surrogate pair in its text", "Take it out.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Malformed("json_duplicate_key", f"has the key {key[:80]!r} twice in one object", _REMEDY)
            seen.add(key)
    return result


def _nothing(pairs: list[tuple[str, Any]]) -> None:
    _object(pairs)


def _constant(name: str) -> float:
    if name == "NaN":
        raise Malformed("json_nan", "holds NaN, which JSON does not have", _REMEDY)
    return float(name.replace("Infinity", "inf"))
