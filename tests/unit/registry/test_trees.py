"""Operations on a tree of files, names and digests: the pure parts of a commit."""

from __future__ import annotations

import hashlib

import pytest

from freehold.common.errors import InvalidInput, NotFound
from freehold.registry import digests, names, trees


def _entry(mark: str) -> trees.Entry:
    return trees.Entry(sha256=mark * 64, size=1, oid=mark * 40, lfs=False)


A, B = _entry("a"), _entry("b")


def test_operations_apply_in_order() -> None:
    before = {"keep": A, "drop": A, "folder/x": A, "folder/y": A, "folderish": A}
    after = trees.apply(
        before,
        [
            trees.Add(path="new", entry=B),
            trees.Delete(path="drop"),
            trees.Delete(path="folder/", folder=True),
            trees.Copy(source="keep", path="copy"),
            trees.Copy(source="old", path="restored", revision="v1"),
        ],
        {"v1": {"old": B}},
    )
    assert after == {"keep": A, "folderish": A, "new": B, "copy": A, "restored": B}
    assert "drop" in before


def test_what_is_not_there_cannot_be_deleted_or_copied() -> None:
    with pytest.raises(NotFound, match="delete"):
        trees.apply({}, [trees.Delete(path="x")], {})
    with pytest.raises(NotFound, match="copy"):
        trees.apply({}, [trees.Copy(source="x", path="y")], {})


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "MOST_FILES", 1)
    with pytest.raises(InvalidInput, match="at most 1 files"):
        trees.apply({}, [trees.Add(path="a", entry=A), trees.Add(path="b", entry=B)], {})


@pytest.mark.parametrize("name", ["Qwen3-8B", "all-MiniLM-L6-v2", "a", "x.y_z"])
def test_names_of_the_hub_are_taken(name: str) -> None:
    assert names.check_repo_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", ".a", "a..b", "a--b", "a/b", "a.git", "a b", "x" * 97])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        names.check_repo_name(name)


@pytest.mark.parametrize("name", ["", "a..b", "/a", "a/", "a" * 40, "a b", "refs//x"])
def test_a_ref_must_not_pass_for_something_else(name: str) -> None:
    with pytest.raises(InvalidInput):
        names.check_ref_name(name)


def test_git_oid_is_gits() -> None:
    assert digests.git_oid(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_the_digest_does_not_depend_on_order_and_knows_every_part() -> None:
    files = [("a", "1" * 64, 1), ("b", "2" * 64, 2)]
    assert digests.revision_digest(files) == digests.revision_digest(reversed(files))
    assert digests.revision_digest(files) != digests.revision_digest([("a", "1" * 64, 1), ("b", "2" * 64, 3)])
    assert digests.revision_digest([]) == hashlib.sha256(b"").hexdigest()
