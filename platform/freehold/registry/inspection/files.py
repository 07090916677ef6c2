"""Reads every file of a tree and collects what is wrong with it and what it says. Runs inside the child."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

from freehold.registry.inspection import pickles, references, strict_json, weights
from freehold.registry.inspection.facts import Tree
from freehold.registry.inspection.paths import tree_problems
from freehold.registry.inspection.problems import Malformed, Problem

JSON_BYTES: Final = 16 * 1024 * 1024
TOKENIZER_BYTES: Final = 64 * 1024 * 1024
README_BYTES: Final = 256 * 1024

# Vocabularies are large and no configuration: they are bounded and searched for pickles, not parsed.
_VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json"})


def read_tree(files: list[tuple[str, str, int]]) -> tuple[Tree, list[Problem]]:
    """Reads (path in the repo, path on disk, size) of every file."""
    tree, problems = Tree(), tree_problems(path for path, _, _ in files)
    for path, location, size in files:
        tree.sizes[path] = size
        try:
            problem = _read(tree, path, Path(location), size)
        except Malformed as error:
            problem = error.of(path)
        if problem is not None:
            problems.append(problem)
    return tree, problems


def _read(tree: Tree, path: str, location: Path, size: int) -> Problem | None:
    suffix = PurePosixPath(path.lower()).suffix
    with location.open("rb") as stream:
        if suffix == ".safetensors":
            tree.headers[path] = weights.read_header(stream, size)
            return None
        problem = pickles.pickle_problem(path, stream)
        if problem is not None:
            return problem
        stream.seek(0)
        if suffix == ".json":
            _read_json(tree, path, stream.read(TOKENIZER_BYTES + 1) if size <= TOKENIZER_BYTES else None, size)
        elif path == "README.md":
            tree.readme = stream.read(README_BYTES).decode("utf-8", "replace")
    return None


def _read_json(tree: Tree, path: str, content: bytes | None, size: int) -> None:
    name = PurePosixPath(path).name
    limit = TOKENIZER_BYTES if name in _VOCABULARIES else JSON_BYTES
    if size > limit or content is None:
        raise Malformed(
            "json_too_large", f"has {size} bytes of JSON; at most {limit} are read", "Leave it out, or split it."
        )
    if name in _VOCABULARIES:
        return
    document = strict_json.loads(content)
    references.check(name, document)
    if "/" not in path:
        tree.documents[path] = document
