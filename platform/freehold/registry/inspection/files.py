"""Reads every file of a tree and collects what is wrong with it and what it says. Runs inside the child."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from freehold.registry.inspection import licence, pickles, references, strict_json, templates, weights
from freehold.registry.inspection.paths import tree_problems
from freehold.registry.inspection.problems import Malformed, Problem
from freehold.registry.inspection.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from freehold.registry.inspection.templates import Template

JSON_BYTES: Final = 16 * 1024 * 1024
VOCABULARY_BYTES: Final = 64 * 1024 * 1024
README_BYTES: Final = 256 * 1024
TENSORS: Final = 400_000  # of all files together
HEADER_BYTES: Final = 64 * 1024 * 1024  # of all files together: all of it goes to the parent, which is not limited

# Vocabularies are large and no configuration: they are checked as JSON, and nothing of them is kept.
_VOCABULARIES: Final = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json", "tekken.json"})


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
    tree.templates.sort(key=lambda template: (template.file, template.name))
    return tree, problems


def _read(tree: Tree, path: str, location: Path, size: int) -> Problem | None:
    suffix = PurePosixPath(path.lower()).suffix
    with location.open("rb") as stream:
        if suffix == ".safetensors":
            _read_weights(tree, path, stream, size)
            return None
        problem = pickles.pickle_problem(path, stream)
        if problem is not None:
            return problem
        stream.seek(0)
        if suffix == ".json":
            _read_json(tree, path, stream, size)
        elif templates.is_template_file(path):
            _add_templates(tree, [templates.from_file(path, stream.read(templates.TEMPLATE_BYTES + 1))])
        elif path == "README.md":
            tree.readme = stream.read(README_BYTES).decode("utf-8", "replace")
        elif licence.is_licence_file(path):
            tree.licences[path] = stream.read(licence.READ_BYTES).decode("utf-8", "replace")
    return None


def _read_weights(tree: Tree, path: str, stream: BinaryIO, size: int) -> None:
    tensors = weights.read_header(stream, size)
    tree.header_bytes += stream.tell()
    if tree.header_bytes > HEADER_BYTES:
        detail = f"brings the safetensors headers of the model to more than {HEADER_BYTES} bytes"
        raise Malformed("headers_too_large", detail, "Leave out second copies of the weights, or fuse the experts.")
    if len(tensors) + sum(map(len, tree.headers.values())) > TENSORS:
        detail = f"brings the model to more than {TENSORS} tensors"
        raise Malformed("too_many_tensors", detail, "Leave out second copies of the weights, or fuse the experts.")
    tree.headers[path] = tensors


def _read_json(tree: Tree, path: str, stream: BinaryIO, size: int) -> None:
    name = PurePosixPath(path).name
    limit = VOCABULARY_BYTES if name in _VOCABULARIES else JSON_BYTES
    content = stream.read(limit + 1) if size <= limit else b""
    if size > limit or len(content) > limit:
        raise Malformed(
            "json_too_large", f"has {size} bytes of JSON; at most {limit} are read", "Leave it out, or split it."
        )
    if name in _VOCABULARIES:
        strict_json.check(content)
        return
    document = strict_json.loads(content)
    references.check(name, document)
    if "/" not in path:
        tree.documents[path] = document
        _add_templates(tree, templates.from_document(path, document))


def _add_templates(tree: Tree, found: Iterable[Template]) -> None:
    """Bounded here, because all of them go to the parent, and from there to the process that renders them."""
    for template in found:
        tree.templates.append(template)
        if len(tree.templates) > templates.TEMPLATES:
            raise templates.too_many(len(tree.templates))
        if sum(len(each.text) for each in tree.templates) > templates.ALL_BYTES:
            raise templates.too_large(templates.ALL_BYTES)
