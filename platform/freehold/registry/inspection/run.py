"""Starts the inspection and takes its answer. Called by registry.services, with no transaction open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.registry.inspection.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROOT = Path(__file__).resolve().parents[3]
_PROGRAM = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from freehold.registry.inspection.child import main; main()"
)
_WALL_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class InspectedFile:
    """A file to inspect: its path in the repo, where its bytes lie, their number."""

    path: str
    location: Path
    size: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What an inspection found.

    Attributes:
        problems: why the tree is refused; empty where it is not.
        missing: names of what it lacks to be deployable.
        weights: paths of its safetensors files.
        facts: what the model is (see facts.describe).
    """

    problems: tuple[Problem, ...]
    missing: tuple[str, ...]
    weights: tuple[str, ...]
    facts: dict[str, Any]


def inspect(files: Sequence[InspectedFile]) -> Report:
    """Inspects a tree in a limited child process. A child that dies or hangs is itself a problem: it never passes."""
    question = json.dumps([[file.path, str(file.location), file.size] for file in files])
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            input=question,
            capture_output=True,
            text=True,
            timeout=_WALL_SECONDS,
            env={"LC_ALL": "C.UTF-8", "FREEHOLD_INSTANCE": os.environ.get("FREEHOLD_INSTANCE", "")},
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _broken(files, f"took longer than {_WALL_SECONDS} s")
    if child.returncode != 0:
        last = child.stderr.strip().splitlines()[-1:] or [f"exit status {child.returncode}"]
        return _broken(files, last[0][:200])
    answer = json.loads(child.stdout)
    return Report(
        problems=tuple(Problem(**problem) for problem in answer["problems"]),
        missing=tuple(answer["missing"]),
        weights=tuple(answer["weights"]),
        facts=answer["facts"],
    )


def _broken(files: Sequence[InspectedFile], why: str) -> Report:
    largest = max(files, key=lambda file: file.size).path if files else "."
    problem = Problem(
        file=largest,
        reason="inspection_failed",
        detail=f"could not be inspected within its limits of time and memory, nor could the files beside it ({why})",
        remedy="Upload fewer or smaller metadata files; if the model is sound, report this to your provider.",
    )
    return Report(problems=(problem,), missing=(), weights=(), facts={})
