"""Every hash of the registry, in one place: Git's object ids, LFS pointers, the digest of a revision."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def git_oid(content: bytes) -> str:
    """The object id Git gives a blob of this content (SHA-1, as the protocol has it; nothing's safety rests on it)."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def sha256(content: bytes) -> str:
    """SHA-256 hex: what content is stored under."""
    return hashlib.sha256(content).hexdigest()


def lfs_pointer(*, sha256: str, size: int) -> bytes:
    """The small file that Git keeps in place of a large one (https://git-lfs.com, pointer specification v1)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def revision_digest(files: Iterable[tuple[str, str, int]]) -> str:
    """SHA-256 hex over (path, sha256, size) of every file, sorted by path: one line `path NUL sha256 NUL size LF` each.

    workers/runtimes/fetcher.py computes the same; a test compares the two.
    """
    lines = (f"{path}\0{sha256}\0{size}\n" for path, sha256, size in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def commit_id(*parts: str) -> str:
    """A new commit id, 40 hex characters, over everything that makes the commit what it is."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]
