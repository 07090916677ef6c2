"""Downloads and reads with the real client, and who may not have them."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from freehold.common import clock
from freehold.db.rls import system_scope
from freehold.registry import selectors
from freehold.registry.services import fetch_token_create
from freehold.tenancy import services as tenancy
from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from tests.factories.models_on_disk import model_files, write_folder, write_model
from tests.integration.hub.live import Customer, Web

# huggingface_hub sends files in a way that its own HTTP library warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def uploaded(api: HfApi, repo: str, tmp_path: Path) -> Path:
    """A model in `repo`; the folder it came from."""
    folder = write_model(tmp_path / "source", fill=3_000_000)
    api.upload_folder(repo_id=repo, folder_path=folder)
    return folder


def _same(one: Path, other: Path) -> bool:
    return all((other / file.relative_to(one)).read_bytes() == file.read_bytes() for file in one.iterdir())


def test_a_snapshot_is_the_folder_that_was_uploaded(
    web: Web, acme: Customer, repo: str, uploaded: Path, tmp_path: Path
) -> None:
    target = snapshot_download(repo, endpoint=web.url, token=acme.secret, cache_dir=tmp_path / "cache")
    assert _same(uploaded, Path(target))


def test_a_broken_download_is_resumed_by_range(
    web: Web, acme: Customer, repo: str, uploaded: Path, tmp_path: Path
) -> None:
    content = (uploaded / "model.safetensors").read_bytes()
    headers = {"Authorization": f"Bearer {acme.secret}", "Range": "bytes=1000000-"}
    url = f"{web.url}/{repo}/resolve/main/model.safetensors"
    part = httpx.get(url, headers=headers, follow_redirects=True)
    assert part.status_code == 206
    assert part.headers["Content-Range"] == f"bytes 1000000-{len(content) - 1}/{len(content)}"
    assert part.content == content[1_000_000:]
    incomplete = tmp_path / "local" / ".cache" / "huggingface" / "download"
    path = hf_hub_download(repo, "model.safetensors", endpoint=web.url, token=acme.secret, local_dir=tmp_path / "local")
    assert Path(path).read_bytes() == content
    assert incomplete.is_dir()
    late = httpx.get(url, headers={**headers, "Range": f"bytes={len(content)}-"}, follow_redirects=True)
    assert late.status_code == 416
    tail = httpx.get(url, headers={**headers, "Range": "bytes=-5"}, follow_redirects=True)
    assert tail.content == content[-5:]


def test_metadata_of_a_file_comes_with_head(web: Web, acme: Customer, api: HfApi, repo: str, uploaded: Path) -> None:
    answer = httpx.head(
        f"{web.url}/{repo}/resolve/main/model.safetensors", headers={"Authorization": f"Bearer {acme.secret}"}
    )
    assert answer.status_code == 200
    assert answer.headers["X-Repo-Commit"] == api.model_info(repo).sha
    assert int(answer.headers["X-Linked-Size"]) == (uploaded / "model.safetensors").stat().st_size
    assert len(answer.headers["X-Linked-ETag"].strip('"')) == 64


def test_what_a_browser_downloads_is_never_rendered(web: Web, acme: Customer, api: HfApi, repo: str) -> None:
    api.upload_file(repo_id=repo, path_in_repo="evil ü.html", path_or_fileobj=b"<script>alert(1)</script>")
    answer = httpx.get(
        f"{web.url}/{repo}/resolve/main/evil%20%C3%BC.html",
        headers={"Authorization": f"Bearer {acme.secret}"},
        follow_redirects=True,
    )
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''evil%20%C3%BC.html"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_existence_and_absence(api: HfApi, web: Web, acme: Customer, repo: str, uploaded: Path) -> None:
    assert api.file_exists(repo, "config.json")
    assert not api.file_exists(repo, "nothing.json")
    assert api.repo_exists(repo)
    assert not api.repo_exists("acme/nothing")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(repo, "nothing.json", endpoint=web.url, token=acme.secret)
    with pytest.raises(RevisionNotFoundError):
        api.model_info(repo, revision="nothing")


def test_create_repo_twice_is_fine_when_asked_so(api: HfApi, repo: str) -> None:
    assert api.create_repo(repo, exist_ok=True).repo_id == repo
    with pytest.raises(HfHubHTTPError, match="already have a model"):
        api.create_repo(repo)


def test_who_am_i(api: HfApi) -> None:
    assert api.whoami()["name"] == "acme"
    assert api.whoami()["auth"]["accessToken"]["role"] == "write"


def test_info_tree_and_paths(api: HfApi, repo: str, uploaded: Path) -> None:
    write_folder(uploaded, {"sub/deep/a.txt": b"a", "sub/b.txt": b"b"})
    api.upload_folder(repo_id=repo, folder_path=uploaded)
    info = api.model_info(repo, files_metadata=True)
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
    assert sizes["model.safetensors"] == (uploaded / "model.safetensors").stat().st_size
    assert info.private
    assert info.safetensors is not None
    top = {entry.path for entry in api.list_repo_tree(repo)}
    assert top == {*model_files(), "sub"}
    below = {entry.path for entry in api.list_repo_tree(repo, path_in_repo="sub", recursive=True, expand=True)}
    assert below == {"sub/deep", "sub/deep/a.txt", "sub/b.txt"}
    assert [entry.path for entry in api.get_paths_info(repo, ["sub/b.txt", "missing", "sub"])] == ["sub", "sub/b.txt"]


def test_a_tree_comes_in_pages(web: Web, acme: Customer, repo: str, uploaded: Path) -> None:
    url, seen = f"{web.url}/api/models/{repo}/tree/main?recursive=true&limit=2", []
    with httpx.Client(headers={"Authorization": f"Bearer {acme.secret}"}) as client:
        while url:
            page = client.get(url)
            seen += [entry["path"] for entry in page.json()]
            url = page.links.get("next", {}).get("url", "")
    assert seen == sorted(model_files())


def test_branches_and_tags_with_slashes(api: HfApi, web: Web, acme: Customer, repo: str, uploaded: Path) -> None:
    api.create_branch(repo, branch="feature/x")
    api.upload_file(repo_id=repo, path_in_repo="x.txt", path_or_fileobj=b"x", revision="feature/x")
    api.create_tag(repo, tag="v1/final", revision="feature/x")
    assert api.file_exists(repo, "x.txt", revision="v1/final")
    assert not api.file_exists(repo, "x.txt")
    refs = api.list_repo_refs(repo)
    assert {ref.name for ref in refs.branches} == {"main", "feature/x"}
    assert {ref.name for ref in refs.tags} == {"v1/final"}
    assert [commit.title for commit in api.list_repo_commits(repo, revision="feature/x")][-1] == "initial commit"
    api.delete_tag(repo, tag="v1/final")
    api.delete_branch(repo, branch="feature/x")
    with pytest.raises(HfHubHTTPError, match="cannot be deleted"):
        api.delete_branch(repo, branch="main")


def test_a_foreign_and_an_anonymous_caller_see_nothing(
    web: Web, rival_api: HfApi, rival: Customer, repo: str, uploaded: Path
) -> None:
    with pytest.raises(RepositoryNotFoundError):
        rival_api.model_info(repo)
    for path in (f"/api/models/{repo}", f"/{repo}/resolve/main/config.json", f"/api/models/{repo}/tree/main"):
        assert httpx.get(web.url + path).status_code == 401
        foreign = httpx.get(web.url + path, headers={"Authorization": f"Bearer {rival.secret}"})
        assert foreign.status_code == 404
        assert foreign.headers["X-Error-Code"] == "RepoNotFound"
    wrong = httpx.get(f"{web.url}/api/models/{repo}", headers={"Authorization": "Bearer fh_wrong"})
    assert wrong.status_code == 401


def test_a_viewer_reads_and_does_not_write(web: Web, acme: Customer, repo: str, uploaded: Path) -> None:
    key = tenancy.api_key_create(actor=acme.actor, tenant_id=acme.tenant_id, name="viewer", role=Role.VIEWER)
    viewer = HfApi(endpoint=web.url, token=key.secret)
    assert viewer.file_exists(repo, "config.json")
    with pytest.raises(HfHubHTTPError, match="may not do"):
        viewer.upload_file(repo_id=repo, path_in_repo="a.txt", path_or_fileobj=b"a")
    with pytest.raises(HfHubHTTPError, match="may not do"):
        viewer.create_repo("acme/other")


def test_a_fetch_token_reads_its_revision_and_nothing_else(
    api: HfApi, web: Web, acme: Customer, repo: str, uploaded: Path
) -> None:
    revision = selectors.revision_resolve(tenant_id=acme.tenant_id, repo=repo)
    api.upload_file(repo_id=repo, path_in_repo="later.txt", path_or_fileobj=b"later")
    headers = {"Authorization": f"Bearer {fetch_token_create(revision=revision)}"}

    def status(path: str) -> int:
        return httpx.get(f"{web.url}{path}", headers=headers).status_code

    assert status(f"/api/models/{repo}/revision/{revision.commit_id}") == 200
    assert status(f"/{repo}/resolve/{revision.commit_id}/config.json") == 302
    assert status(f"/api/models/{repo}/revision/main") == 404
    assert status(f"/{repo}/resolve/main/later.txt") == 404
    assert status("/api/models") == 403
    assert httpx.post(f"{web.url}/api/repos/create", json={"name": "x"}, headers=headers).status_code == 403


def test_a_fetch_token_says_nothing_of_other_models_or_of_history(
    web: Web, acme: Customer, api: HfApi, repo: str, uploaded: Path
) -> None:
    api.create_repo("acme/other")
    revision = selectors.revision_resolve(tenant_id=acme.tenant_id, repo=repo)
    headers = {"Authorization": f"Bearer {fetch_token_create(revision=revision)}"}

    def status(path: str) -> int:
        return httpx.get(f"{web.url}/api/models/{path}", headers=headers).status_code

    assert status(f"{repo}/tree/{revision.commit_id}") == 200
    assert status(f"{repo}/refs") == 403
    assert status(f"{repo}/commits/{revision.commit_id}") == 403
    assert status("acme/other/refs") == 403
    other, missing = (httpx.get(f"{web.url}/api/models/acme/{name}", headers=headers) for name in ("other", "nothing"))
    assert (other.status_code, other.headers["X-Error-Code"]) == (404, "RepoNotFound")
    assert (missing.status_code, missing.headers["X-Error-Code"]) == (404, "RepoNotFound")
    with system_scope("tests suspend a tenant"):
        Tenant.objects.filter(pk=acme.tenant_id).update(suspended_at=clock.now())
    assert status(f"{repo}/tree/{revision.commit_id}") == 403


def test_deleting_a_repo(api: HfApi, repo: str, uploaded: Path) -> None:
    api.delete_repo(repo)
    assert not api.repo_exists(repo)
    assert [model.id for model in api.list_models()] == []


@pytest.mark.parametrize(
    "path", ["/api/datasets/acme/x", "/datasets/acme/x/resolve/main/a", "/api/spaces/acme/x/tree/main"]
)
def test_datasets_and_spaces_are_clearly_not_here(web: Web, acme: Customer, path: str) -> None:
    answer = httpx.get(web.url + path, headers={"Authorization": f"Bearer {acme.secret}"})
    assert answer.status_code == 400
    assert "models only" in answer.json()["error"]
