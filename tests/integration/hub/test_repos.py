"""Repositories with the real client: names, renames and what becomes of old clients, settings, lists, access."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RepositoryNotFoundError

from freehold.common import clock
from freehold.db.rls import system_scope
from freehold.tenancy import services as tenancy
from freehold.tenancy.choices import Role
from freehold.tenancy.models import ApiKey, Tenant
from tests.factories.models_on_disk import write_model
from tests.integration.hub.live import Customer, Web

# huggingface_hub sends files in a way that its own HTTP library warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def uploaded(api: HfApi, repo: str, tmp_path: Path) -> Path:
    """A model in `repo`; the folder it came from."""
    folder = write_model(tmp_path / "source", fill=100_000)
    api.upload_folder(repo_id=repo, folder_path=folder)
    return folder


def _key(customer: Customer, web: Web, role: Role) -> HfApi:
    key = tenancy.api_key_create(actor=customer.actor, tenant_id=customer.tenant_id, name=role.value, role=role)
    return HfApi(endpoint=web.url, token=key.secret)


def test_old_clients_keep_working_after_a_rename(
    api: HfApi, web: Web, acme: Customer, repo: str, uploaded: Path, tmp_path: Path
) -> None:
    sha = api.model_info(repo).sha
    api.move_repo(repo, "acme/small")
    info = api.model_info(repo)
    assert (info.id, info.sha) == ("acme/small", sha)
    folder = Path(snapshot_download(repo, endpoint=web.url, token=acme.secret, cache_dir=tmp_path / "cache"))
    assert (folder / "model.safetensors").read_bytes() == (uploaded / "model.safetensors").read_bytes()
    (tmp_path / "new.safetensors").write_bytes((uploaded / "model.safetensors").read_bytes())
    api.upload_file(repo_id=repo, path_in_repo="notes.txt", path_or_fileobj=b"by the old name")
    api.upload_file(repo_id=repo, path_in_repo="copy.safetensors", path_or_fileobj=tmp_path / "new.safetensors")
    api.create_tag(repo, tag="v1")
    assert api.file_exists("acme/small", "notes.txt", revision="v1")
    assert api.get_paths_info(repo, "notes.txt")[0].path == "notes.txt"
    assert [model.id for model in api.list_models()] == ["acme/small"]


def test_an_old_name_is_free_for_a_new_model(api: HfApi, repo: str, uploaded: Path) -> None:
    api.move_repo(repo, "acme/small")
    with pytest.raises(HfHubHTTPError, match="was renamed to small"):
        api.delete_repo(repo)
    with pytest.raises(HfHubHTTPError, match="was renamed to small"):
        api.move_repo(repo, "acme/other")
    api.create_repo(repo)
    assert api.list_repo_files(repo) == []
    assert len(api.list_repo_files("acme/small")) == 5
    with pytest.raises(HfHubHTTPError, match="already have a model named 'tiny'"):
        api.move_repo("acme/small", repo)


def test_the_old_name_says_nothing_to_strangers(web: Web, api: HfApi, rival_api: HfApi, repo: str) -> None:
    api.move_repo(repo, "acme/small")
    with pytest.raises(RepositoryNotFoundError):
        rival_api.model_info(repo)
    assert httpx.get(f"{web.url}/api/models/{repo}").status_code == 401
    assert httpx.get(f"{web.url}/{repo}/resolve/main/config.json").status_code == 401


def test_the_redirect_keeps_path_and_query(web: Web, acme: Customer, api: HfApi, repo: str) -> None:
    api.move_repo(repo, "acme/small")
    headers = {"Authorization": f"Bearer {acme.secret}"}
    path = f"{repo}/tree/feature%2Fx/a%20b?recursive=true&limit=2"
    answer = httpx.get(f"{web.url}/api/models/{path}", headers=headers)
    assert answer.status_code == 307
    assert answer.headers["Location"] == "/api/models/acme/small/tree/feature%2Fx/a%20b?recursive=true&limit=2"
    batch = httpx.post(f"{web.url}/{repo}.git/info/lfs/objects/batch", json={}, headers=headers)
    assert (batch.status_code, batch.headers["Location"]) == (307, "/acme/small.git/info/lfs/objects/batch")


def test_a_model_stays_in_its_namespace(api: HfApi, rival_api: HfApi, repo: str) -> None:
    with pytest.raises(HfHubHTTPError, match="cannot be moved to another namespace"):
        api.move_repo(repo, "rival/tiny")
    with pytest.raises(RepositoryNotFoundError):
        rival_api.move_repo(repo, "rival/tiny")
    with pytest.raises(HfHubHTTPError, match="no rights in the namespace 'rival'"):
        api.create_repo("rival/tiny")
    with pytest.raises(BadRequestError, match="1 to 96 letters"):
        api.move_repo(repo, "acme/.hidden")


def test_settings_stay_private_and_take_a_description(web: Web, acme: Customer, api: HfApi, repo: str) -> None:
    api.update_repo_settings(repo, private=True)
    with pytest.raises(BadRequestError, match="cannot be made public"):
        api.update_repo_settings(repo, visibility="public")
    with pytest.raises(BadRequestError, match="cannot be made public"):
        api.create_repo("acme/open", private=False)
    with pytest.raises(BadRequestError, match="Access to a model cannot be asked for"):
        api.update_repo_settings(repo, gated="auto")
    url, headers = f"{web.url}/api/models/{repo}", {"Authorization": f"Bearer {acme.secret}"}
    assert httpx.put(f"{url}/settings", json={"description": "For support."}, headers=headers).status_code == 200
    assert httpx.get(url, headers=headers).json()["description"] == "For support."


def test_models_are_listed_filtered_and_sorted(api: HfApi, repo: str, uploaded: Path) -> None:
    api.create_repo("acme/empty")
    api.upload_file(repo_id="acme/empty", path_in_repo="README.md", path_or_fileobj=b"# Soon")
    api.create_repo("acme/newest")
    api.upload_file(repo_id=repo, path_in_repo="a.txt", path_or_fileobj=b"a")

    def ids(**query: object) -> list[str]:
        return [model.id.partition("/")[2] for model in api.list_models(**query)]  # type: ignore[arg-type]

    assert ids() == ["newest", "empty", "tiny"]
    assert ids(sort="last_modified") == ["tiny", "newest", "empty"]
    assert ids(limit=2) == ["newest", "empty"]
    assert (ids(search="EMP"), ids(search="acme/e"), ids(search="acme"), ids(search="other/e")) == (
        ["empty"],
        ["empty"],
        ["newest", "empty", "tiny"],
        [],
    )
    assert (ids(author="acme", search="tiny"), ids(author="rival")) == (["tiny"], [])
    assert (ids(filter="license:apache-2.0"), ids(filter=["qwen3", "nothing"])) == (["tiny"], [])
    assert (ids(pipeline_tag="text-generation"), ids(gated=True), ids(num_parameters="min:1M")) == (["tiny"], [], [])
    assert ids(num_parameters="min:1,max:1M") == ["tiny"]
    full = next(iter(api.list_models(search="tiny", full=True, cardData=True, fetch_config=True)))
    assert full.sha == api.model_info(repo).sha
    assert "a.txt" in {sibling.rfilename for sibling in full.siblings or []}
    assert full.config == {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
    for query in ({"sort": "nonsense"}, {"expand": ["nonsense"]}, {"num_parameters": "big"}, {"apps": "vllm"}):
        with pytest.raises(BadRequestError):
            ids(**query)


def test_a_list_comes_in_pages(web: Web, acme: Customer, api: HfApi) -> None:
    for number in range(5):
        api.create_repo(f"acme/m{number}")
    for query in ("limit=2", "limit=2&sort=lastModified", "limit=2&search=m&filter="):
        url, seen = f"{web.url}/api/models?{query}", []
        with httpx.Client(headers={"Authorization": f"Bearer {acme.secret}"}) as client:
            while url:
                page = client.get(url)
                seen.append([model["id"] for model in page.json()])
                url = page.links.get("next", {}).get("url", "")
        assert seen == [["acme/m4", "acme/m3"], ["acme/m2", "acme/m1"], ["acme/m0"]], query
    bad = httpx.get(f"{web.url}/api/models?cursor=x", headers={"Authorization": f"Bearer {acme.secret}"})
    assert bad.status_code == 400


def test_everything_a_tenant_has_is_listed_with_its_bytes(api: HfApi, repo: str, uploaded: Path) -> None:
    (listed,) = api.list_user_repos()
    assert (listed.id, listed.type, listed.visibility) == (repo, "model", "private")
    assert listed.storage == sum(file.stat().st_size for file in uploaded.iterdir())
    assert [each.id for each in api.list_user_repos("acme")] == [repo]
    with pytest.raises(HfHubHTTPError, match="no organization 'rival'"):
        list(api.list_user_repos("rival"))


def test_access_is_checked_for_reading_and_writing(web: Web, api: HfApi, acme: Customer, repo: str) -> None:
    api.auth_check(repo, write=True)
    viewer = _key(acme, web, Role.VIEWER)
    viewer.auth_check(repo)
    with pytest.raises(HfHubHTTPError, match=r"may not do model\.write"):
        viewer.auth_check(repo, write=True)
    with pytest.raises(RepositoryNotFoundError):
        api.auth_check("acme/nothing")
    assert viewer.whoami()["auth"]["accessToken"]["role"] == "read"
    developer = _key(acme, web, Role.DEVELOPER)
    with pytest.raises(HfHubHTTPError, match=r"may not do model\.delete"):
        developer.delete_repo(repo)
    with pytest.raises(HfHubHTTPError, match=r"may not do model\.delete"):
        developer.super_squash_history(repo)


def test_a_key_that_is_wrong_expired_or_suspended_is_told_so(web: Web, acme: Customer, repo: str) -> None:
    def says(secret: str, message: str) -> None:
        client = HfApi(endpoint=web.url, token=secret)
        for call in (lambda: client.upload_file(repo_id=repo, path_in_repo="a", path_or_fileobj=b"a"), client.whoami):
            with pytest.raises(Exception, match=message):
                call()

    says("fh_wrong", "mistyped, expired or revoked|Invalid user token")
    key = tenancy.api_key_create(actor=acme.actor, tenant_id=acme.tenant_id, name="old", role=Role.ADMIN)
    with system_scope("tests let a key expire"):
        ApiKey.objects.filter(pk=key.key.pk).update(expires_at=clock.now() - timedelta(seconds=1))
    says(key.secret, "mistyped, expired or revoked|Invalid user token")
    with system_scope("tests suspend a tenant"):
        Tenant.objects.filter(pk=acme.tenant_id).update(suspended_at=clock.now())
    says(acme.secret, "acme is suspended")


def test_what_this_hub_has_not_is_said_in_words(api: HfApi, web: Web, acme: Customer, repo: str) -> None:
    with pytest.raises(HfHubHTTPError, match="no discussions or pull requests"):
        list(api.get_repo_discussions(repo))
    with pytest.raises(HfHubHTTPError, match="no discussions or pull requests"):
        api.upload_file(repo_id=repo, path_in_repo="a.txt", path_or_fileobj=b"a", create_pr=True)
    assert api.list_repo_files(repo) == []
    with pytest.raises(HfHubHTTPError, match="does not duplicate models"):
        api.duplicate_repo(repo, "acme/twin")
    with pytest.raises(HfHubHTTPError, match="it has no collections"):
        list(api.list_collections())
    with pytest.raises(BadRequestError, match="models only"):
        api.create_repo("acme/data", repo_type="dataset")
    with pytest.raises(BadRequestError, match="models only"):
        api.dataset_info("acme/data")
    assert not api.repo_exists("gpt2")
    assert httpx.head(f"{web.url}/api/telemetry/transformers").status_code == 204
