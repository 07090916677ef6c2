"""Names of repos, branches and tags: what is allowed, in the Hugging Face Hub's rules."""

from __future__ import annotations

import re

from freehold.common.errors import InvalidInput

_REPO = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REF = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._/-]{0,198}[A-Za-z0-9_])?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,39}")
_UNHOLDABLE = re.compile("[\0\ud800-\udfff]")  # PostgreSQL holds neither NUL nor half a surrogate pair

DEFAULT_BRANCH = "main"


def check_repo_name(name: str) -> str:
    """The name. Raises InvalidInput (rules of huggingface_hub's validate_repo_id)."""
    if not _REPO.fullmatch(name) or "--" in name or ".." in name or name.lower().endswith((".git", ".ipynb")):
        raise InvalidInput(
            "A model's name has 1 to 96 letters, digits, '-', '_' and '.', does not begin or end with '-' or '.', has "
            "no '--' or '..', and does not end in '.git' or '.ipynb'.",
            field="name",
        )
    return name


def check_ref_name(name: str) -> str:
    """The name. Raises InvalidInput; a name that looks like a commit id would hide that commit."""
    if not _REF.fullmatch(name) or ".." in name or "//" in name or _COMMIT.fullmatch(name) or name.startswith("refs/"):
        raise InvalidInput(
            "A branch or tag has letters, digits, '-', '_', '.' and '/', does not begin with 'refs/', and does not "
            "look like a commit id.",
            field="ref",
        )
    return name


def is_holdable(text: str) -> bool:
    """Whether the database can hold `text`, or be asked for it."""
    return _UNHOLDABLE.search(text) is None


def check_text(text: str, *, field: str) -> str:
    """The text. Raises InvalidInput where the database cannot hold it."""
    if not is_holdable(text):
        raise InvalidInput(f"{field} holds a NUL or half a surrogate pair. Take it out.", field=field)
    return text


def is_commit_id(text: str) -> bool:
    """Whether `text` has the form of a commit id."""
    return _COMMIT.fullmatch(text) is not None


def is_short_commit_id(text: str) -> bool:
    """Whether `text` can be the beginning of a commit id, long enough to mean one."""
    return _SHORT_COMMIT.fullmatch(text) is not None
