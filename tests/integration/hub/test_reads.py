"""What tools read of a model with the real client: facts, headers by Range, a file system, who changed what."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, HfFileSystem, ModelCard, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, NotASafetensorsRepoError
from huggingface_hub.hf_api import RepoFile, RepoFolder

from freehold.registry import selectors
from freehold.registry.services import fetch_token_create
from tests.factories.models_on_disk import write_folder, write_model
from tests.integration.hub.live import Customer, Web

# huggingface_hub sends files in a way that its own HTTP library warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def uploaded(api: HfApi, repo: str, tmp_path: Path) -> Path:
    """A model in `repo`; the folder it came from."""
    folder = write_model(tmp_path / "source", fill=300_000)
    write_folder(folder, {"sub/deep/a.txt": b"a", "sub/b.txt": b"b"})
    api.upload_folder(repo_id=repo, folder_path=folder, commit_message="All")
    return folder


def test_a_models_facts_are_told_in_the_hubs_words(api: HfApi, repo: str, uploaded: Path) -> None:
    info = api.model_info(repo, files_metadata=True, securityStatus=True)
    assert (info.author, info.pipeline_tag, info.library_name) == ("acme", "text-generation", "transformers")
    assert {"transformers", "safetensors", "qwen3", "license:apache-2.0"} <= set(info.tags or [])
    assert info.config == {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
    assert info.card_data is not None
    assert info.card_data.license == "apache-2.0"
    assert info.transformers_info is not None
    assert info.transformers_info.auto_model == "AutoModelForCausalLM"
    assert info.safetensors is not None
    assert info.safetensors.parameters.keys() == {"F32"} or info.safetensors.total > 0
    assert info.security_repo_status == {"scansDone": True, "filesWithIssues": []}
    assert info.used_storage == sum(file.stat().st_size for file in uploaded.rglob("*") if file.is_file())
    lfs = next(each for each in info.siblings or [] if each.rfilename == "model.safetensors").lfs
    assert lfs is not None
    assert lfs.size == (uploaded / "model.safetensors").stat().st_size
    few = api.model_info(repo, expand=["sha", "lastModified"])
    assert (few.sha, few.siblings, few.tags) == (info.sha, None, None)


def test_headers_of_weights_are_read_by_range(api: HfApi, repo: str, uploaded: Path) -> None:
    metadata = api.get_safetensors_metadata(repo)
    assert not metadata.sharded
    assert metadata.files_metadata["model.safetensors"].tensors.keys()
    assert api.parse_safetensors_file_metadata(repo, "model.safetensors").parameter_count == metadata.parameter_count
    api.create_repo("acme/plain")
    with pytest.raises(NotASafetensorsRepoError):
        api.get_safetensors_metadata("acme/plain")


def test_a_card_loads(web: Web, acme: Customer, api: HfApi, repo: str, uploaded: Path) -> None:
    path = hf_hub_download(repo, "README.md", endpoint=web.url, token=acme.secret, local_dir=uploaded.parent / "card")
    assert ModelCard.load(path).data.license == "apache-2.0"


def test_each_entry_names_the_commit_that_last_changed_it(api: HfApi, repo: str, uploaded: Path) -> None:
    api.upload_file(repo_id=repo, path_in_repo="sub/b.txt", path_or_fileobj=b"2", commit_message="Second")
    titles = {
        entry.path: entry.last_commit.title
        for entry in api.list_repo_tree(repo, recursive=True, expand=True)
        if entry.last_commit is not None
    }
    assert (titles["sub"], titles["sub/b.txt"]) == ("Second", "Second")
    assert (titles["sub/deep"], titles["config.json"]) == ("All", "All")
    (info,) = api.get_paths_info(repo, ["config.json"], expand=True)
    assert isinstance(info, RepoFile)
    assert info.last_commit is not None
    assert (info.last_commit.title, info.security) == ("All", info.security)
    (folder,) = api.get_paths_info(repo, "sub")
    assert isinstance(folder, RepoFolder)
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(repo, "nothing"))


def test_a_fetch_token_is_not_told_who_changed_what(
    web: Web, acme: Customer, api: HfApi, repo: str, uploaded: Path
) -> None:
    revision = selectors.revision_resolve(tenant_id=acme.tenant_id, repo=repo)
    answer = httpx.get(
        f"{web.url}/api/models/{repo}/tree/{revision.commit_id}?expand=true",
        headers={"Authorization": f"Bearer {fetch_token_create(revision=revision)}"},
    )
    assert answer.status_code == 200
    assert not any("lastCommit" in entry for entry in answer.json())


def test_a_repository_is_a_file_system(web: Web, acme: Customer, repo: str, uploaded: Path) -> None:
    files = HfFileSystem(endpoint=web.url, token=acme.secret, skip_instance_cache=True)
    assert {str(path).rpartition("/")[2] for path in files.ls(repo, detail=False)} == {
        "sub",
        *(file.name for file in uploaded.iterdir() if file.is_file()),
    }
    assert sorted(files.glob(f"{repo}/sub/**/*.txt")) == [f"{repo}/sub/b.txt", f"{repo}/sub/deep/a.txt"]
    with files.open(f"{repo}/config.json", "rb") as stream:
        assert stream.read() == (uploaded / "config.json").read_bytes()
    with files.open(f"{repo}/model.safetensors", "rb", block_size=64 * 1024) as stream:
        stream.seek(100_000)
        assert stream.read(10) == (uploaded / "model.safetensors").read_bytes()[100_000:100_010]
    with files.open(f"{repo}/new.txt", "w") as stream:
        stream.write("written")
    assert files.cat(f"{repo}/new.txt") == b"written"
    files.rm(f"{repo}/new.txt")
    files.invalidate_cache()
    assert f"{repo}/new.txt" not in files.ls(repo, detail=False)
