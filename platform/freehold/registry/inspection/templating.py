"""Starts the process in which chat templates are rendered, and takes its verdicts. Called by run.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jinja2
import markupsafe

from freehold.registry.inspection.problems import Problem
from freehold.registry.inspection.templates import TEMPLATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freehold.registry.inspection.templates import Template

# A loop is ended by its CPU time (render.CPU_SECONDS); this is for a machine too busy to give it any.
_WALL_SECONDS: Final = 30
_ROOT: Final = Path(__file__).resolve().parents[3]
_LIBRARIES: Final = sorted({str(Path(module.__file__ or "").parents[1]) for module in (jinja2, markupsafe)})
_PROGRAM: Final = (
    f"import sys; sys.path[:0] = [{str(_ROOT)!r}]; sys.path += {_LIBRARIES!r}; "
    "from freehold.registry.inspection.render import main; main()"
)
_REMEDY: Final = "Use the template of the original model, or test yours with tokenizer.apply_chat_template."


def judged(templates: Sequence[Template]) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The facts of each template, and why the repo is refused for one. All are rendered by one process, in order."""
    if len(templates) > TEMPLATES:
        detail = f"is one of {len(templates)} chat templates; at most {TEMPLATES} are rendered"
        return [], [Problem(templates[-1].file, "chat_template_too_many", detail, "Remove those nobody uses.")]
    if not templates:
        return [], []
    answers, fate = _ask([template.text for template in templates])
    facts, problems = [], []
    for template, answer in zip(templates, answers, strict=False):
        if "facts" in answer:
            facts.append({**template.facts(), **answer["facts"]})
        else:
            problems.append(_problem(template, str(answer["reason"]), str(answer["detail"])))
    if len(answers) < len(templates):
        problems.append(_problem(templates[len(answers)], *fate))
    return facts, problems


def _problem(template: Template, reason: str, detail: str) -> Problem:
    what = "has a chat template" if template.name == "default" else f"has a chat template ({template.name!r})"
    return Problem(file=template.file, reason=reason, detail=f"{what} that {detail}", remedy=_REMEDY)


def _ask(texts: list[str]) -> tuple[list[dict[str, Any]], tuple[str, str]]:
    """What the process answered, and for the template at which it ended before its time: reason and detail."""
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            input=json.dumps(texts),
            capture_output=True,
            text=True,
            timeout=_WALL_SECONDS,
            env={"LC_ALL": "C.UTF-8"},
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [], ("inspection_failed", f"was not rendered within {_WALL_SECONDS} s: the machine is busy; try again")
    lines = [json.loads(line) for line in child.stdout.splitlines(keepends=True) if line.endswith("\n")]
    if child.returncode < 0:
        return lines, ("chat_template_loops", "loops, or takes more time or memory than a template may")
    last = last_words(child.stderr) or f"exit status {child.returncode}"
    return lines, ("chat_template_loops", f"could not be rendered within its limits ({last})")


def last_words(stderr: str) -> str:
    """The kind of error that ended a child, or "". Not its message, which may name files of this machine."""
    last = (stderr.strip().splitlines() or [""])[-1]
    kind = last.partition(":")[0].rpartition(".")[2]
    return kind if kind.isidentifier() and len(kind) <= 60 else ""
