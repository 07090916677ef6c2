"""What a source of an import is, and what it lists. hub.py and s3.py are the two there are; the import job knows only
this module."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Protocol

from freehold.registry.inspection.paths import path_problem
from freehold.registry.inspection.pickles import name_problem
from freehold.registry.sources.errors import SourceBroken, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

MOST_FILES: Final = 20_000
LISTING_SECONDS: Final = 300.0
MOST_BYTES: Final = 2**50  # of a file: no store takes a larger one, and every database holds the number


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file to import. Of the hashes, what the source knows: whoever reads the file has to verify them.

    Attributes:
        path: in the repo, relative; checked to be one that a repo may hold.
        size: bytes.
        sha256: of the content, 64 hex characters.
        git_oid: SHA-1 of the content as a Git blob, 40 hex characters; of small files of a hub.
        etag: the source's name of this content, as it came, quotes included.
    """

    path: str
    size: int
    sha256: str | None = None
    git_oid: str | None = None
    etag: str | None = None


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file that is left out, and why; a full sentence."""

    path: str
    size: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a source holds, pinned.

    Attributes:
        origin: where it comes from, for people: no credentials.
        pin: a commit (40 hex characters) or, where the source has none, a hash over paths, sizes and etags.
        files: sorted by path.
        skipped: what the registry would refuse by its name.
    """

    origin: str
    pin: str
    files: tuple[SourceFile, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class Source(Protocol):
    """A place to import from. Not thread-safe; every call blocks. All methods raise OutboundRefused,
    SourceUnauthorized, SourceGone, SourceBroken and SourceUnavailable (see errors.py)."""

    def describe(self) -> Listing:
        """Everything that is there now."""

    def open(self, file: SourceFile, *, offset: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of a file from `offset` (0 to its size) to its end, in chunks of any length. What is yielded
        adds up to file.size - offset, or SourceUnavailable is raised: keep what came, and open again behind it.
        Raises SourceChanged where the file is not the listed one any more."""

    def close(self) -> None:
        """Gives connections back."""


def listing_of(*, origin: str, pin: str, files: Iterable[SourceFile]) -> Listing:
    """Sorts files into those to import and those to skip. Raises SourceBroken for two of the same path."""
    taken: dict[str, SourceFile] = {}
    skipped: list[Skipped] = []
    seen: set[str] = set()
    left_out: list[tuple[SourceFile, str]] = []
    for file in files:
        if file.path in seen:
            raise SourceBroken(f"{origin} lists {_shown(file.path)} twice.")
        seen.add(file.path)
        check_count(len(seen), origin)
        if not 0 <= file.size <= MOST_BYTES:
            raise SourceBroken(f"{origin} lists {_shown(file.path)} with {file.size} bytes, which cannot be.")
        problem = path_problem(file.path) or name_problem(file.path)
        if problem is None:
            taken[file.path] = file
        else:
            left_out.append((file, problem.detail))
    shown = set(taken)
    for file, detail in left_out:
        path = _shown(file.path)
        if path not in shown:  # cut short, two may look alike
            shown.add(path)
            skipped.append(Skipped(path=path, size=file.size, reason=f"{path} {detail}."))
    return Listing(
        origin=origin,
        pin=pin,
        files=tuple(taken[path] for path in sorted(taken)),
        skipped=tuple(sorted(skipped, key=lambda each: each.path)),
    )


def check_count(count: int, origin: str) -> None:
    """Raises SourceBroken for more files than a repo may hold."""
    if count > MOST_FILES:
        raise SourceBroken(f"{origin} has more than {MOST_FILES:,} files. Import a part of it: name a folder.")


def check_listing_time(begun: float, origin: str) -> None:
    """Raises SourceUnavailable where listing, which began at time.monotonic() `begun`, holds a worker for too long."""
    if time.monotonic() - begun > LISTING_SECONDS:
        raise SourceUnavailable(f"{origin} took more than {LISTING_SECONDS:.0f} s to list its files.")


def select(listing: Listing, *, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> Listing:
    """The files whose paths match one of `include` (all, where there is none) and none of `exclude`, as the patterns
    of huggingface_hub's allow_patterns and ignore_patterns do: `*` also takes slashes, `folder/` means all below."""
    wanted, unwanted = _patterns(include), _patterns(exclude)

    def matches(path: str) -> bool:
        return (not wanted or _any(path, wanted)) and not _any(path, unwanted)

    return replace(
        listing,
        files=tuple(file for file in listing.files if matches(file.path)),
        skipped=tuple(file for file in listing.skipped if matches(file.path)),
    )


def _patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    return tuple(pattern + "*" if pattern.endswith("/") else pattern for pattern in patterns)


def _any(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def _shown(path: str) -> str:
    """A path that may hold anything, for people."""
    shown = path if path.isprintable() else repr(path)[1:-1]
    return shown if len(shown) <= 200 else shown[:199] + "…"
