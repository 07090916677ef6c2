"""Starts the inspection and takes its answer. Called by registry.commits, with no transaction open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.registry.inspection.problems import Problem
from freehold.registry.inspection.templates import Template
from freehold.registry.inspection.templating import judged, last_words

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROOT = Path(__file__).resolve().parents[3]
_PROGRAM = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from freehold.registry.inspection.child import main; main()"
)
_WALL_SECONDS = 120

Tensors = dict[str, list[list[Any]]]


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
        tensors: [name, dtype, shape, begin, end] of each tensor of each weight file by path, in the order of their
            offsets, which are bytes from the end of the header; empty where there are problems.
        memory: bytes the inspecting process had at its highest so far; 0 where unknown.
    """

    problems: tuple[Problem, ...]
    missing: tuple[str, ...]
    weights: tuple[str, ...]
    facts: dict[str, Any]
    tensors: Tensors = field(default_factory=dict)
    memory: int = 0


def inspect(files: Sequence[InspectedFile]) -> Report:
    """Inspects a tree in a limited child process. A child that dies or hangs is itself a problem: it never passes."""
    return inspect_batch([files])[0]


def inspect_batch(trees: Sequence[Sequence[InspectedFile]]) -> list[Report]:
    """Inspects several trees, in one child while it lives: a tree that ends it is refused, the next get another.

    Each tree has the limits of `inspect` for itself, but for the wall time, which is theirs together.
    """
    reports: list[Report] = []
    while len(reports) < len(trees):
        rest = trees[len(reports) :]
        answers, fate = _ask(rest)
        reports += [_report(answer) for answer in answers]
        if len(answers) < len(rest):
            reports.append(_broken(rest[len(answers)], fate))
    return reports


def _ask(trees: Sequence[Sequence[InspectedFile]]) -> tuple[list[dict[str, Any]], str]:
    """The answers of one child, and for the tree after the last of them what ended the child."""
    questions = [json.dumps([[file.path, str(file.location), file.size] for file in files]) for files in trees]
    seconds = _WALL_SECONDS + len(trees) // 50
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            input="\n".join(questions),
            capture_output=True,
            text=True,
            timeout=seconds,
            env={"LC_ALL": "C.UTF-8", "FREEHOLD_INSTANCE": os.environ.get("FREEHOLD_INSTANCE", "")},
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [], f"took longer than {seconds} s"
    answers = [json.loads(line) for line in child.stdout.splitlines(keepends=True) if line.endswith("\n")]
    return answers, last_words(child.stderr) or f"exit status {child.returncode}"


def _report(answer: dict[str, Any]) -> Report:
    """The answer of the first child, with the verdicts of the second on its templates: those are not just read."""
    facts: dict[str, Any] = answer["facts"]
    problems = [Problem(**problem) for problem in answer["problems"]]
    templates = [Template(**template) for template in answer["templates"]]
    if templates:
        facts["chat_templates"], refused = judged(templates)
        problems += refused
    return Report(
        problems=tuple(problems),
        missing=tuple(answer["missing"]),
        weights=tuple(answer["weights"]),
        facts=facts,
        tensors={} if problems else answer["tensors"],
        memory=answer["memory"],
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
