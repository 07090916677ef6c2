"""Uploads with the real client against the real web process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

from freehold.db.rls import tenant_scope
from freehold.registry import selectors
from freehold.registry.choices import RevisionStatus
from freehold.registry.models import Revision
from freehold.tenancy import services as tenancy
from freehold.tenancy.choices import Role
from tests.factories.models_on_disk import framed, model_files, write_folder, write_model
from tests.integration.hub.lfs import begin, half_put
from tests.integration.hub.live import Customer, Web

# huggingface_hub sends files in a way that its own HTTP library warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

MIB = 1024 * 1024


def _revisions(customer: Customer) -> int:
    with tenant_scope(customer.tenant_id):
        return Revision.objects.exclude(message="initial commit").count()


def _peak(web: Web) -> int:
    """The most memory the web process has had since its last clear_refs, in bytes (proc(5))."""
    status = Path(f"/proc/{web.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_a_folder_becomes_one_verified_revision(api: HfApi, acme: Customer, repo: str, tmp_path: Path) -> None:
    write_model(tmp_path)
    commit = api.upload_folder(repo_id=repo, folder_path=tmp_path, commit_message="First")
    revision = selectors.revision_resolve(tenant_id=acme.tenant_id, repo=repo)
    assert commit.oid == revision.commit_id
    assert revision.status == RevisionStatus.VERIFIED
    facts = revision.inspection
    assert facts["architecture"] == "Qwen3ForCausalLM"
    assert facts["task"] == "generate"
    assert facts["parameters"] == 16
    assert facts["dtypes"] == {"F32": 16}
    assert facts["max_model_len"] == 512
    assert facts["licence"] == "apache-2.0"
    assert facts["has_chat_template"] is True
    assert facts["missing"] == []
    assert sorted(api.list_repo_files(repo)) == sorted(model_files())


def test_the_web_process_does_not_grow_with_the_file(
    api: HfApi, web: Web, acme: Customer, repo: str, tmp_path: Path
) -> None:
    write_model(tmp_path / "small")
    api.upload_folder(repo_id=repo, folder_path=tmp_path / "small")
    Path(f"/proc/{web.pid}/clear_refs").write_text("5")
    before = _peak(web)
    write_model(tmp_path / "large", fill=90 * MIB)
    api.upload_folder(repo_id=repo, folder_path=tmp_path / "large")
    grown = _peak(web) - before
    sys.stdout.write(f"peak grew by {grown / MIB:.1f} MiB over 90 MiB up\n")
    assert grown < 48 * MIB, f"{grown / MIB:.1f} MiB"
    revision = selectors.revision_resolve(tenant_id=acme.tenant_id, repo=repo)
    content = (tmp_path / "large" / "model.safetensors").read_bytes()
    stored = {file.path: file.sha256 for file in selectors.files(revision=revision)}
    assert stored["model.safetensors"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("pytorch_model.bin", b"\x80\x02}q\x00.", "is a pickle"),
        ("weights.dat", b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00.", "is a pickle"),
        (
            "model-2.safetensors",
            framed(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}') + bytes(4),
            "data_offsets",
        ),
        ("sub/config.json", b'{"auto_map": {"AutoModel": "x.Y"}}', "auto_map"),
        ("README.MD", b"twice", "cannot lie beside"),
    ],
)
def test_a_refusal_names_file_and_reason_and_registers_nothing(
    api: HfApi, acme: Customer, repo: str, tmp_path: Path, path: str, content: bytes, reason: str
) -> None:
    write_folder(tmp_path, {**model_files(), path: content})
    with pytest.raises(HfHubHTTPError) as refused:
        api.upload_folder(repo_id=repo, folder_path=tmp_path)
    assert path in str(refused.value)
    assert reason in str(refused.value)
    assert api.list_repo_files(repo) == []
    assert _revisions(acme) == 0


def test_weights_without_a_configuration_are_refused(api: HfApi, acme: Customer, repo: str, tmp_path: Path) -> None:
    files = model_files()
    del files["config.json"]
    write_folder(tmp_path, files)
    with pytest.raises(HfHubHTTPError, match=r"config\.json: is missing"):
        api.upload_folder(repo_id=repo, folder_path=tmp_path)
    assert _revisions(acme) == 0


def test_a_large_folder_may_come_in_pieces(api: HfApi, acme: Customer, repo: str) -> None:
    message = "Add files using upload-large-folder tool"
    files = model_files()
    weights = CommitOperationAdd("model.safetensors", files.pop("model.safetensors"))
    api.create_commit(repo, [weights], commit_message=message)
    assert selectors.revision_resolve(tenant_id=acme.tenant_id, repo=repo).status == RevisionStatus.INCOMPLETE
    rest = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit(repo, rest, commit_message=message)
    assert selectors.revision_resolve(tenant_id=acme.tenant_id, repo=repo).status == RevisionStatus.VERIFIED


def test_a_card_alone_is_incomplete(api: HfApi, acme: Customer, repo: str) -> None:
    api.upload_file(repo_id=repo, path_in_repo="README.md", path_or_fileobj=b"# Soon")
    assert selectors.revision_resolve(tenant_id=acme.tenant_id, repo=repo).status == RevisionStatus.INCOMPLETE


def test_the_same_content_again_moves_no_bytes_and_makes_no_commit(
    api: HfApi, acme: Customer, repo: str, tmp_path: Path
) -> None:
    write_model(tmp_path)
    first = api.upload_folder(repo_id=repo, folder_path=tmp_path)
    second = api.upload_folder(repo_id=repo, folder_path=tmp_path)
    assert first.oid == second.oid
    assert _revisions(acme) == 1


def test_one_commit_adds_deletes_and_copies(api: HfApi, repo: str, tmp_path: Path) -> None:
    write_model(tmp_path)
    api.upload_folder(repo_id=repo, folder_path=tmp_path)
    api.create_commit(
        repo,
        [
            CommitOperationAdd("notes.txt", b"hello"),
            CommitOperationDelete("README.md"),
            CommitOperationCopy("model.safetensors", "copies/model.safetensors"),
        ],
        commit_message="Three at once",
    )
    files = set(api.list_repo_files(repo))
    assert {"notes.txt", "copies/model.safetensors", "model.safetensors"} <= files
    assert "README.md" not in files


def test_a_stale_parent_is_a_412(api: HfApi, repo: str) -> None:
    head = api.model_info(repo).sha
    api.upload_file(repo_id=repo, path_in_repo="a.txt", path_or_fileobj=b"a")
    with pytest.raises(HfHubHTTPError, match="has moved on"):
        api.upload_file(repo_id=repo, path_in_repo="b.txt", path_or_fileobj=b"b", parent_commit=head)


def test_naming_content_of_another_tenant_gives_nothing(
    api: HfApi, rival_api: HfApi, rival: Customer, web: Web, repo: str, tmp_path: Path
) -> None:
    write_model(tmp_path)
    api.upload_folder(repo_id=repo, folder_path=tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    rival_api.create_repo("rival/copy")
    lines = (
        '{"key":"header","value":{"summary":"steal"}}\n'
        f'{{"key":"lfsFile","value":{{"path":"model.safetensors","algo":"sha256","oid":"{sha256}","size":{len(content)}}}}}\n'
    )
    answer = httpx.post(
        f"{web.url}/api/models/rival/copy/commit/main",
        content=lines,
        headers={"Authorization": f"Bearer {rival.secret}", "Content-Type": "application/x-ndjson"},
    )
    assert answer.status_code == 422
    assert "was not uploaded" in answer.json()["error"]
    assert rival_api.list_repo_files("rival/copy") == []


def test_a_blob_whose_bytes_differ_from_its_hash_leaves_nothing(web: Web, acme: Customer, repo: str) -> None:
    headers = {"Authorization": f"Bearer {acme.secret}"}
    sha256 = hashlib.sha256(b"the truth").hexdigest()
    wanted = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": sha256, "size": 9}]}
    batch = httpx.post(f"{web.url}/{repo}.git/info/lfs/objects/batch", json=wanted, headers=headers).json()
    actions = batch["objects"][0]["actions"]
    href = actions["upload"]["href"]
    assert httpx.put(href, content=b"a lie....").status_code == 422
    assert httpx.put(href, content=b"short").status_code == 400
    assert httpx.put(href[:-3] + "abc", content=b"the truth").status_code == 403
    assert httpx.get(href).status_code == 403
    verify = {"oid": sha256, "size": 9}
    assert httpx.post(actions["verify"]["href"], json=verify, headers=headers).status_code == 404
    store = Path(os.environ["FREEHOLD_DATA"]) / "objects"
    assert list((store / ".partial").iterdir()) == []
    assert not (store / str(acme.tenant_id) / sha256).exists()
    assert httpx.put(href, content=b"the truth").status_code == 200
    assert httpx.post(actions["verify"]["href"], json=verify, headers=headers).status_code == 200


def test_an_upload_that_breaks_off_leaves_nothing(web: Web, acme: Customer, repo: str) -> None:
    sha256 = hashlib.sha256(b"never").hexdigest()
    item = begin(web, acme, repo, sha256=sha256, size=50 * MIB)
    partial = Path(os.environ["FREEHOLD_DATA"]) / "objects" / ".partial"
    with half_put(item["actions"]["upload"]["href"], length=50 * MIB, content=bytes(5 * MIB)):
        _until(lambda: any(partial.glob(f"{sha256}.*")))
    _until(lambda: not any(partial.iterdir()))


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_client_that_tries_xet_is_told_the_variable(web: Web, acme: Customer, repo: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", fill=MIB)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_XET"},
        "HF_ENDPOINT": web.url,
        "HF_TOKEN": acme.secret,
        "HF_HOME": str(tmp_path / "hf"),
    }
    command = [sys.executable, "-m", "huggingface_hub.cli.hf", "upload", repo, str(folder)]
    tried = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert tried.returncode != 0
    assert "HF_HUB_DISABLE_XET=1" in tried.stderr
    answer = httpx.get(
        f"{web.url}/api/models/{repo}/xet-write-token/main",
        headers={"Authorization": f"Bearer {acme.secret}"},
        follow_redirects=True,
    )
    assert answer.status_code == 422
    assert "HF_HUB_DISABLE_XET=1" in answer.headers["X-Error-Message"]


def test_only_who_may_write_sends_a_large_commit(web: Web, acme: Customer, repo: str) -> None:
    viewer = tenancy.api_key_create(actor=acme.actor, tenant_id=acme.tenant_id, name="v", role=Role.VIEWER).secret
    spaces = b" " * MIB + b"\n"
    body = b'{"key":"header","value":{"summary":"x"}}\n' + spaces * 5

    def status(secret: str) -> int:
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return httpx.post(f"{web.url}/api/models/{repo}/commit/main", content=body, headers=headers).status_code

    assert [status(secret) for secret in ("", "fh_guessed", viewer)] == [413, 413, 413]
    assert status(acme.secret) == 200


@pytest.mark.parametrize(
    ("path", "lines", "status"),
    [
        ("commit/main", [{"key": "header", "value": {"summary": "a\0b"}}], 400),
        ("commit/main", [{"key": "header", "value": {"summary": "\ud800"}}], 400),
        ("commit/main", [{"key": "deletedFile", "value": {"path": "a\0"}}], 400),
        ("commit/main", [{"key": "file", "value": {"path": "a", "content": "\ud800"}}], 400),
        ("commit/main%00", [{"key": "header", "value": {}}], 404),
    ],
)
def test_text_that_the_database_cannot_hold_is_refused(
    web: Web, acme: Customer, repo: str, path: str, lines: list[object], status: int
) -> None:
    body = "\n".join(map(json.dumps, lines))
    headers = {"Authorization": f"Bearer {acme.secret}"}
    assert httpx.post(f"{web.url}/api/models/{repo}/{path}", content=body, headers=headers).status_code == status
