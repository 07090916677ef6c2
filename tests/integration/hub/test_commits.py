"""Commits, branches, tags and history with the real client: what they do, and how they fail."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import BadRequestError, EntryNotFoundError, HfHubHTTPError, RevisionNotFoundError

from tests.factories.models_on_disk import write_model
from tests.integration.hub.live import Customer, Web

# huggingface_hub sends files in a way that its own HTTP library warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def _add(
    api: HfApi, repo: str, path: str, content: bytes, *, revision: str | None = None, parent: str | None = None
) -> str:
    added = CommitOperationAdd(path, content)
    return str(api.create_commit(repo, [added], commit_message=path, revision=revision, parent_commit=parent).oid)


def test_one_commit_adds_deletes_a_folder_and_copies_from_another_revision(
    api: HfApi, repo: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path, fill=100_000)
    first = api.upload_folder(repo_id=repo, folder_path=folder).oid
    api.create_branch(repo, branch="archive")
    api.create_commit(repo, [CommitOperationDelete("model.safetensors")], commit_message="weights go")
    _add(api, repo, "old/deep/a.txt", b"a")
    api.create_commit(
        repo,
        [
            CommitOperationDelete("old/"),
            CommitOperationAdd("b.txt", b"b"),
            CommitOperationCopy("model.safetensors", "model.safetensors", src_revision="archive"),
            CommitOperationCopy("config.json", "copied.json", src_revision=first),
            CommitOperationCopy("README.md", "sub/README.md"),
        ],
        commit_message="many",
    )
    assert set(api.list_repo_files(repo)) == {
        *(file.name for file in folder.iterdir()),
        "b.txt",
        "copied.json",
        "sub/README.md",
    }
    assert api.model_info(repo).safetensors is not None


def test_parallel_commits_of_one_tenant_all_arrive(api: HfApi, repo: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        oids = list(pool.map(lambda number: _add(api, repo, f"f{number}.txt", b"x%d" % number), range(12)))
    assert len(set(oids)) == 12
    assert len(api.list_repo_files(repo)) == 12
    assert len(api.list_repo_commits(repo)) == 13


def test_a_parent_that_is_no_longer_the_head_is_told_apart(api: HfApi, repo: str) -> None:
    first = _add(api, repo, "a.txt", b"1")
    second = _add(api, repo, "a.txt", b"2", parent=first[:7])
    with pytest.raises(HfHubHTTPError, match=f"has moved on to {second}") as stale:
        _add(api, repo, "a.txt", b"3", parent=first)
    assert stale.value.response.status_code == 412


def test_a_commit_goes_to_a_branch_that_exists(api: HfApi, repo: str) -> None:
    first = _add(api, repo, "a.txt", b"1")
    api.create_tag(repo, tag="v1")
    for revision in ("v1", first):
        with pytest.raises(BadRequestError, match="goes to a branch, not to a tag"):
            _add(api, repo, "b.txt", b"1", revision=revision)
    for revision in ("nothing", "refs/pr/1"):
        with pytest.raises(RevisionNotFoundError):
            _add(api, repo, "b.txt", b"1", revision=revision)
    with pytest.raises(EntryNotFoundError, match=r"no file 'nothing\.txt' to delete"):
        api.delete_file("nothing.txt", repo)
    assert api.list_repo_files(repo) == ["a.txt"]


def test_a_message_too_long_and_an_unknown_operation_are_refused_in_words(
    api: HfApi, web: Web, acme: Customer, repo: str
) -> None:
    operations = [CommitOperationAdd("a.txt", b"a")]
    with pytest.raises(BadRequestError, match="summary has at most 500 characters; this one has 501"):
        api.create_commit(repo, operations, commit_message="x" * 501)
    with pytest.raises(BadRequestError, match="description has at most 10000 characters"):
        api.create_commit(repo, operations, commit_message="x", commit_description="y" * 10_001)
    lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "renameFile", "value": {"path": "a"}}]
    answer = httpx.post(
        f"{web.url}/api/models/{repo}/commit/main",
        content="\n".join(map(json.dumps, lines)),
        headers={"Authorization": f"Bearer {acme.secret}"},
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "A commit has no operation 'renameFile'.")
    assert api.list_repo_files(repo) == []


def test_names_of_branches_and_tags_have_rules(api: HfApi, repo: str) -> None:
    api.create_branch(repo, branch="dev")
    api.create_branch(repo, branch="dev", exist_ok=True)
    with pytest.raises(HfHubHTTPError, match="branch 'dev' exists already"):
        api.create_branch(repo, branch="dev")
    for name in ("refs/pr/1", "-x", "a..b", "0" * 40):
        with pytest.raises(BadRequestError, match="A branch or tag has"):
            api.create_branch(repo, branch=name)
    with pytest.raises(RevisionNotFoundError):
        api.create_tag(repo, tag="v1", revision="nothing")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(repo, tag="v1")


def test_a_revision_is_found_by_branch_tag_and_commit_long_or_short(api: HfApi, repo: str) -> None:
    first = _add(api, repo, "a.txt", b"1")
    api.create_tag(repo, tag="v1")
    second = _add(api, repo, "a.txt", b"2")
    shas = [api.model_info(repo, revision=name).sha for name in ("v1", "refs/tags/v1", first, first[:8])]
    assert shas == [first] * 4
    assert {api.model_info(repo, revision=name).sha for name in ("main", "refs/heads/main", second[:7])} == {second}
    assert api.revision_exists(repo, "v1")
    assert not api.revision_exists(repo, first[:6])
    assert not api.revision_exists(repo, "refs/pr/1")


def test_history_can_be_read_formatted_and_squashed(api: HfApi, repo: str) -> None:
    for number in range(3):
        _add(api, repo, f"{number}<b>.txt", b"%d" % number)
    commits = api.list_repo_commits(repo, formatted=True)
    assert [commit.title for commit in commits] == ["2<b>.txt", "1<b>.txt", "0<b>.txt", "initial commit"]
    assert commits[0].formatted_title == "2&lt;b&gt;.txt"
    api.super_squash_history(repo, commit_message="One")
    assert [commit.title for commit in api.list_repo_commits(repo)] == ["One"]
    assert len(api.list_repo_files(repo)) == 3
    assert not api.revision_exists(repo, commits[0].commit_id)
    with pytest.raises(RevisionNotFoundError):
        api.super_squash_history(repo, branch="nothing")
    api.create_tag(repo, tag="v1")
    with pytest.raises(BadRequestError, match="is a tag"):
        api.super_squash_history(repo, branch="v1")


def test_large_files_are_listed_over_all_revisions_and_never_taken_out(api: HfApi, repo: str, tmp_path: Path) -> None:
    api.upload_folder(repo_id=repo, folder_path=write_model(tmp_path / "1", fill=50_000))
    api.upload_folder(repo_id=repo, folder_path=write_model(tmp_path / "2", fill=60_000))
    files = list(api.list_lfs_files(repo))
    assert [file.filename for file in files] == ["model.safetensors"] * 2
    assert files[0].size > files[1].size
    with pytest.raises(HfHubHTTPError, match="A revision never changes"):
        api.permanently_delete_lfs_files(repo, files)
