"""Which paths a repo may hold: those that mean the same file on every system, inside the folder they are written to."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from freehold.registry.inspection.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

MANIFEST = ".freehold-manifest.json"  # written by the fetcher (workers/runtimes/fetcher.py)
_FOLDERS = frozenset({".git", ".freehold-incoming"})  # the second is the fetcher's, too

_SEGMENT_BYTES = 255
_PATH_BYTES = 1024
_REMEDY = "Rename it and upload again."


def path_problem(path: str) -> Problem | None:
    """Why `path` by itself cannot be in a repo, or None."""
    detail = _fault(path)
    return None if detail is None else Problem(file=path, reason="path", detail=detail, remedy=_REMEDY)


def _fault(path: str) -> str | None:
    if not path or path.startswith("/"):
        return "is an absolute or empty path"
    if "\\" in path or any(unicodedata.category(character).startswith("C") for character in path):
        return "has a backslash or a control character in its path"
    if path[1:2] == ":":
        return "is an absolute path on Windows"
    segments = path.split("/")
    if any(segment in {"", ".", ".."} for segment in segments):
        return "has an empty, '.' or '..' segment in its path"
    if any(len(segment.encode()) > _SEGMENT_BYTES for segment in segments) or len(path.encode()) > _PATH_BYTES:
        return f"has a path that is too long (at most {_PATH_BYTES} bytes, {_SEGMENT_BYTES} a segment)"
    if segments[0].casefold() in _FOLDERS or path.casefold() == MANIFEST:
        return "has a reserved name"
    return None


def tree_problems(paths: Iterable[str]) -> list[Problem]:
    """Every path that is wrong by itself or collides with another: by case, or a file where another needs a folder."""
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in sorted(paths):
        problem = path_problem(path)
        if problem is not None:
            problems.append(problem)
            continue
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            other = folders.setdefault(_folded(folder), folder)
            if other != folder:
                problems.append(_collision(path, other + "/"))
        other = seen.setdefault(_folded(path), path)
        if other != path:
            problems.append(_collision(path, other))
    problems += [_collision(path, folders[folded] + "/") for folded, path in seen.items() if folded in folders]
    return problems


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _collision(path: str, other: str) -> Problem:
    return Problem(
        file=path,
        reason="collision",
        detail=f"cannot lie beside {other}: some systems take the two for one",
        remedy="Rename one of them.",
    )
