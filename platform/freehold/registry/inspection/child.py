"""The limited process in which untrusted files are read. Started by run.py; stdin and stdout are JSON.

A fresh `python -I -S` instead of a fork: a forked web process dies under an address-space limit of this size.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict

from freehold.registry.inspection.facts import describe, missing
from freehold.registry.inspection.files import read_tree

CPU_SECONDS = 60
ADDRESS_SPACE_BYTES = 512 * 1024 * 1024


def main() -> None:
    """Limits itself, then inspects the files named on stdin: [[path, path on disk, size], …]."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    files = [(str(path), str(location), int(size)) for path, location, size in json.load(sys.stdin)]
    tree, problems = read_tree(files)
    answer = {
        "problems": [asdict(problem) for problem in problems],
        "missing": missing(tree),
        "weights": sorted(tree.headers),
        "facts": describe(tree),
    }
    json.dump(answer, sys.stdout)
