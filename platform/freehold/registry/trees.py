"""The files of a commit to be: operations applied to the files of its parent. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freehold.common.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST_FILES = 20_000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file of a tree, named by its content. `oid` as in ModelFile."""

    sha256: str
    size: int
    oid: str
    lfs: bool


Tree = dict[str, Entry]


@dataclass(frozen=True, kw_only=True)
class Add:
    """Adds or replaces a file whose content the tenant has uploaded before."""

    path: str
    entry: Entry


@dataclass(frozen=True, kw_only=True)
class Delete:
    """Deletes a file, or with `folder` everything below a path. Deleting a file that is not there is an error."""

    path: str
    folder: bool = False


@dataclass(frozen=True, kw_only=True)
class Copy:
    """Copies a file within a repo, from `revision` (a branch, tag or commit id) or from the parent of this commit."""

    source: str
    path: str
    revision: str | None = None


Operation = Add | Delete | Copy


def apply(parent: Tree, operations: Iterable[Operation], sources: Mapping[str, Tree]) -> Tree:
    """The tree after `operations`. `sources` holds the trees that copies name by revision.

    Raises NotFound for what is to be deleted or copied and is not there, InvalidInput for too many files.
    """
    tree = dict(parent)
    for operation in operations:
        match operation:
            case Add():
                tree[operation.path] = operation.entry
            case Delete(folder=True):
                prefix = operation.path.strip("/") + "/"
                for path in [path for path in tree if path.startswith(prefix)]:
                    del tree[path]
            case Delete():
                if tree.pop(operation.path, None) is None:
                    raise NotFound(f"There is no file {operation.path!r} to delete.")
            case Copy():
                source = parent if operation.revision is None else sources[operation.revision]
                if operation.source not in source:
                    raise NotFound(f"There is no file {operation.source!r} to copy.")
                tree[operation.path] = source[operation.source]
    if len(tree) > MOST_FILES:
        raise InvalidInput(f"A model has at most {MOST_FILES} files; this commit would make it {len(tree)}.")
    return tree
