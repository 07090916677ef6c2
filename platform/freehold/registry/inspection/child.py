"""The limited process in which untrusted files are read. Started by run.py; a line of JSON in and out for each tree.

A fresh `python -I -S` instead of a fork: a forked web process dies under an address-space limit of this size.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.registry.inspection.facts import describe, missing
from freehold.registry.inspection.files import read_tree

if TYPE_CHECKING:
    from freehold.registry.inspection.weights import Tensor

CPU_SECONDS = 60
ADDRESS_SPACE_BYTES = 512 * 1024 * 1024


def main() -> None:
    """Limits itself, then inspects the trees on stdin, one a line: [[path, path on disk, size], …]."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    for line in sys.stdin:
        _limit_time()
        files = [(str(path), str(location), int(size)) for path, location, size in json.loads(line)]
        _answer(files)


def _limit_time() -> None:
    """Each tree has CPU_SECONDS for itself. The limit is a soft one, so that the next tree can have its own."""
    spent = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + CPU_SECONDS, hard))


def _answer(files: list[tuple[str, str, int]]) -> None:
    tree, problems = read_tree(files)
    answer: dict[str, Any] = {
        "problems": [asdict(problem) for problem in problems],
        "missing": missing(tree),
        "weights": sorted(tree.headers),
        "facts": describe(tree),
        "templates": [asdict(template) for template in tree.templates],
        "memory": _memory(),
    }
    sys.stdout.write(json.dumps(answer)[:-1])
    _write_tensors({} if problems else tree.headers)
    sys.stdout.write("}\n")
    sys.stdout.flush()


def _write_tensors(headers: dict[str, list[Tensor]]) -> None:
    """The last entry of the answer, a file at a time: of all files at once it would not fit into memory twice."""
    sys.stdout.write(', "tensors": {')
    for number, (path, tensors) in enumerate(sorted(headers.items())):
        rows = [[t.name, t.dtype, t.shape, t.begin, t.end] for t in tensors]
        sys.stdout.write(f"{', ' if number else ''}{json.dumps(path)}: {json.dumps(rows)}")
    sys.stdout.write("}")


def _memory() -> int:
    """Bytes of this process's memory at its highest. Not from getrusage, which starts at what the parent had."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)
