"""Imports, carried out for real: from a running hub (another tenant's, with that tenant's key) and from S3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi
from pytest_django.fixtures import Settings

from freehold.common import clock
from freehold.common.errors import Conflict, InvalidInput
from freehold.db.rls import system_scope, tenant_scope
from freehold.registry import contents, imports, selectors
from freehold.registry.choices import ImportKind, ImportStatus, RevisionStatus
from freehold.registry.models import Blob, ImportFile, ModelImport, ModelRepo
from freehold.registry.sources.hub import HubSource
from freehold.registry.storage import base as storage_base
from freehold.tenancy.models import Tenant
from tests.factories.models_on_disk import CONFIG, model_files, write_folder
from tests.fakes.s3 import KEYS, s3_client, s3_server
from tests.integration.hub.live import Customer, Web
from workers.jobs import imports as job

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

PART = 1024 * 1024


@pytest.fixture(autouse=True)
def _loopback_is_allowed(settings: Settings) -> None:
    settings.IMPORT_ALLOW = ["127.0.0.1"]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than a megabyte comes in parts of one."""
    monkeypatch.setattr(storage_base, "PART_BYTES", PART)
    monkeypatch.setattr(contents, "MULTIPART_BYTES", PART)


@pytest.fixture
def upstream(rival_api: HfApi, tmp_path: Path) -> dict[str, bytes]:
    """A model of somebody else on a running hub; its files."""
    files = {**model_files(fill=5_300_000), "notes/usage.md": b"# Usage\n", "empty.txt": b""}
    rival_api.create_repo("rival/original")
    rival_api.upload_folder(repo_id="rival/original", folder_path=write_folder(tmp_path / "upstream", files))
    return files


def _ask(web: Web, acme: Customer, rival: Customer, name: str = "copy", **changes: Any) -> ModelImport:
    asked: dict[str, Any] = {
        "kind": ImportKind.HUB,
        "source": {"url": web.url, "repo": "rival/original"},
        "credentials": {"token": rival.secret},
    }
    return imports.import_create(actor=acme.actor, tenant_id=acme.tenant_id, name=name, **(asked | changes))


def _again(found: ModelImport) -> ModelImport:
    return imports.import_get(tenant_id=found.tenant_id, import_id=found.pk)


def _due_now(found: ModelImport) -> None:
    with tenant_scope(found.tenant_id):
        ModelImport.objects.filter(pk=found.pk).update(next_attempt_at=clock.now(), lock_expires_at=clock.now())


def _downloaded(web: Web, acme: Customer, repo: str, folder: Path) -> dict[str, bytes]:
    HfApi(endpoint=web.url, token=acme.secret).snapshot_download(repo, local_dir=folder)
    files = (path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.usefixtures("small_parts")
def test_a_model_comes_in_byte_for_byte(
    web: Web, acme: Customer, rival: Customer, upstream: dict[str, bytes], tmp_path: Path
) -> None:
    found = _ask(web, acme, rival)
    assert job.import_next()
    found = _again(found)
    assert (found.status, found.message) == (ImportStatus.SUCCEEDED, "")
    assert found.revision is not None
    assert found.revision.status == RevisionStatus.VERIFIED
    assert found.credentials == ""
    assert _downloaded(web, acme, "acme/copy", tmp_path / "down") == upstream
    theirs = selectors.revision_resolve(tenant_id=rival.tenant_id, repo="original")
    assert found.pinned == theirs.commit_id
    assert found.revision.digest == theirs.digest
    with tenant_scope(acme.tenant_id):
        progress = imports.import_progress([found])[found.pk]
    assert progress.bytes_done == progress.bytes_total == sum(map(len, upstream.values()))
    assert progress.files_done == progress.files_total == len(upstream)
    assert not job.import_next()


def test_what_is_here_already_is_not_moved_again(
    web: Web, acme: Customer, rival: Customer, upstream: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    _ask(web, acme, rival)
    job.import_next()
    opened: list[str] = []
    real = HubSource.open

    def counted(self: HubSource, file: Any, *, offset: int = 0) -> Any:
        opened.append(file.path)
        return real(self, file, offset=offset)

    monkeypatch.setattr(HubSource, "open", counted)
    again = _ask(web, acme, rival, name="another")
    job.import_next()
    assert _again(again).status == ImportStatus.SUCCEEDED
    assert opened == []


@pytest.mark.usefixtures("small_parts")
def test_a_worker_that_dies_is_followed_by_one_that_goes_on(
    web: Web,
    acme: Customer,
    rival: Customer,
    upstream: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = _ask(web, acme, rival)
    real, offsets = HubSource.open, []

    class Killed(BaseException):
        pass

    def dies(self: HubSource, file: Any, *, offset: int = 0) -> Any:
        if file.path == "model.safetensors":
            offsets.append(offset)
            if offset >= 2 * PART and len(offsets) == 3:
                raise Killed
        return real(self, file, offset=offset)

    monkeypatch.setattr(HubSource, "open", dies)
    with pytest.raises(Killed):
        job.import_next()
    assert _again(found).status == ImportStatus.RUNNING
    assert not job.import_next()  # its claim still holds
    _due_now(found)
    assert job.import_next()
    assert _again(found).status == ImportStatus.SUCCEEDED
    assert offsets == [0, PART, 2 * PART, 2 * PART, 3 * PART, 4 * PART, 5 * PART]
    assert _downloaded(web, acme, "acme/copy", tmp_path / "down") == upstream


def test_it_takes_turns(
    web: Web, acme: Customer, rival: Customer, upstream: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_base, "PART_BYTES", PART)
    monkeypatch.setattr(contents, "MULTIPART_BYTES", PART)
    monkeypatch.setattr(job, "SLICE_SECONDS", 0.0)
    first = _ask(web, acme, rival)
    job.import_next()
    assert _again(first).status == ImportStatus.QUEUED
    second = _ask(web, acme, rival, name="second")
    turns = 0
    while imports.imports_due(now=clock.now()) and turns < 40:
        job.import_next()
        turns += 1
    assert _again(first).status == _again(second).status == ImportStatus.SUCCEEDED
    assert turns > 2


def test_cancelling_ends_it_and_a_retry_goes_on(
    web: Web, acme: Customer, rival: Customer, upstream: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _ask(web, acme, rival)
    real = HubSource.describe

    def cancelled_meanwhile(self: HubSource) -> Any:
        imports.import_cancel(actor=acme.actor, tenant_id=acme.tenant_id, import_id=found.pk)
        return real(self)

    monkeypatch.setattr(HubSource, "describe", cancelled_meanwhile)
    job.import_next()
    assert _again(found).status == ImportStatus.CANCELLED
    monkeypatch.setattr(HubSource, "describe", real)
    imports.import_retry(actor=acme.actor, tenant_id=acme.tenant_id, import_id=found.pk)
    job.import_next()
    assert _again(found).status == ImportStatus.SUCCEEDED
    with pytest.raises(Conflict, match="succeeded already"):
        imports.import_cancel(actor=acme.actor, tenant_id=acme.tenant_id, import_id=found.pk)


def test_only_what_was_asked_for_comes(
    web: Web, acme: Customer, rival: Customer, upstream: dict[str, bytes], tmp_path: Path
) -> None:
    _ask(web, acme, rival, exclude=["notes/", "*.txt"])
    job.import_next()
    wanted = {path: content for path, content in upstream.items() if path not in {"notes/usage.md", "empty.txt"}}
    assert _downloaded(web, acme, "acme/copy", tmp_path / "down") == wanted


def test_a_wrong_token_ends_it_with_words_and_a_right_one_lets_it_go_on(
    web: Web, acme: Customer, rival: Customer, upstream: dict[str, bytes]
) -> None:
    found = _ask(web, acme, rival, credentials={"token": acme.secret})
    job.import_next()
    ended = _again(found)
    assert ended.status == ImportStatus.FAILED
    assert "rival/original" in ended.message
    imports.import_retry(
        actor=acme.actor, tenant_id=acme.tenant_id, import_id=found.pk, credentials={"token": rival.secret}
    )
    job.import_next()
    assert _again(found).status == ImportStatus.SUCCEEDED


def test_a_quota_ends_it_before_a_byte_moves(
    web: Web,
    acme: Customer,
    rival: Customer,
    upstream: dict[str, bytes],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.STORAGE_QUOTA_BYTES = 5_000_000
    monkeypatch.setattr(HubSource, "open", lambda *_, **__: pytest.fail("a byte moved"))
    found = _ask(web, acme, rival)
    job.import_next()
    ended = _again(found)
    assert ended.status == ImportStatus.FAILED
    assert "of storage" in ended.message
    with tenant_scope(acme.tenant_id):
        assert not Blob.objects.exists()


def test_a_hub_that_is_down_is_tried_again_later_and_given_up_in_the_end(acme: Customer, rival: Customer) -> None:
    found = _ask(Web(url="http://127.0.0.1:9", pid=0), acme, rival)
    job.import_next()
    waiting = _again(found)
    assert (waiting.status, waiting.attempts) == (ImportStatus.QUEUED, 1)
    assert waiting.next_attempt_at > clock.now()
    assert "127.0.0.1" in waiting.message
    for _ in range(imports.MOST_ATTEMPTS):
        _due_now(found)
        job.import_next()
    ended = _again(found)
    assert ended.status == ImportStatus.FAILED
    assert "Given up after" in ended.message


def test_addresses_inside_are_refused_at_once(web: Web, acme: Customer, rival: Customer, settings: Settings) -> None:
    settings.IMPORT_ALLOW = []
    found = _ask(web, acme, rival)
    job.import_next()
    ended = _again(found)
    assert ended.status == ImportStatus.FAILED
    assert "IMPORT_ALLOW" in ended.message


def test_a_model_with_code_of_its_own_is_refused_unless_that_is_taken_out(
    web: Web, acme: Customer, rival: Customer, rival_api: HfApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Freehold's own hub refuses such a model, so a source is made to hold one."""
    files = model_files()
    config = json.dumps({**CONFIG, "auto_map": {"AutoModel": "modeling_x.X"}}).encode()
    rival_api.create_repo("rival/original")
    rival_api.create_commit("rival/original", _adds({**files, "modeling_x.py": b"x = 1\n"}), commit_message="first")
    real = HubSource.open
    lies: dict[str, bytes] = {"config.json": config}

    def lying(self: HubSource, file: Any, *, offset: int = 0) -> Any:
        return _Fixed(lies[file.path]) if file.path in lies else real(self, file, offset=offset)

    real_describe = HubSource.describe

    def described(self: HubSource) -> Any:
        listing = real_describe(self)
        return type(listing)(
            origin=listing.origin,
            pin=listing.pin,
            files=tuple(
                file if file.path not in lies else type(file)(path=file.path, size=len(lies[file.path]), etag=file.etag)
                for file in listing.files
            ),
            skipped=listing.skipped,
        )

    monkeypatch.setattr(HubSource, "open", lying)
    monkeypatch.setattr(HubSource, "describe", described)
    refused = _ask(web, acme, rival)
    job.import_next()
    assert _again(refused).status == ImportStatus.FAILED
    assert "config.json: has 'auto_map'" in _again(refused).message
    taken = _ask(web, acme, rival, name="cleaned", remove_remote_code=True)
    job.import_next()
    ended = _again(taken)
    assert ended.status == ImportStatus.SUCCEEDED, ended.message
    revision = selectors.revision_resolve(tenant_id=acme.tenant_id, repo="cleaned")
    assert revision.status == RevisionStatus.VERIFIED
    assert "modeling_x.py" not in {file.path for file in selectors.files(revision=revision)}
    notes = {file.path: file.note for file in imports.import_files(tenant_id=acme.tenant_id, import_id=taken.pk)}
    assert "taken out" in notes["config.json"]
    assert "Python" in notes["modeling_x.py"]


class _Fixed:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def __enter__(self) -> Iterator[bytes]:
        return iter([self._content])

    def __exit__(self, *_: object) -> None:
        return None


def _adds(files: dict[str, bytes]) -> list[Any]:
    from huggingface_hub import CommitOperationAdd

    return [CommitOperationAdd(path, content) for path, content in files.items()]


def test_the_branch_holds_what_the_source_holds_and_nothing_else(
    web: Web, acme: Customer, rival: Customer, api: HfApi, upstream: dict[str, bytes]
) -> None:
    api.create_repo("acme/copy")
    api.create_commit("acme/copy", _adds({"old.txt": b"old"}), commit_message="before")
    _ask(web, acme, rival)
    job.import_next()
    assert set(api.list_repo_files("acme/copy")) == set(upstream)
    assert set(api.list_repo_files("acme/copy", revision=api.list_repo_commits("acme/copy")[1].commit_id)) == {
        "old.txt"
    }


def test_a_suspended_tenants_import_waits(
    web: Web, acme: Customer, rival: Customer, upstream: dict[str, bytes]
) -> None:
    _ask(web, acme, rival)
    with system_scope("tests"):
        Tenant.objects.filter(pk=acme.tenant_id).update(suspended_at=clock.now())
    assert not job.import_next()


def test_one_at_a_time_to_a_branch(web: Web, acme: Customer, rival: Customer) -> None:
    _ask(web, acme, rival)
    with pytest.raises(Conflict, match="under way"):
        _ask(web, acme, rival)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"source": {"url": "http://127.0.0.1:1"}}, "repo"),
        ({"source": {"url": "http://127.0.0.1:1", "repo": "a/b", "bucket": "c"}}, "bucket"),
        ({"credentials": {"password": "x"}}, "password"),
        ({"kind": ImportKind.S3, "source": {"prefix": "x"}, "credentials": {}}, "bucket"),
        ({"ref": "nowhere"}, "branch"),
    ],
)
def test_bad_input_names_the_field(
    web: Web, acme: Customer, rival: Customer, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        _ask(web, acme, rival, **changes)
    assert refused.value.field == field
    with tenant_scope(acme.tenant_id):
        assert not ModelImport.objects.exists()
        assert not ModelRepo.objects.exists()  # a refusal leaves no empty model behind either


def test_a_retry_is_for_what_has_ended_and_not_beside_another_to_the_same_branch(
    web: Web, acme: Customer, rival: Customer, upstream: dict[str, bytes]
) -> None:
    first = _ask(web, acme, rival, credentials={"token": acme.secret})
    claim = imports.import_claim()
    assert claim is not None
    for state in ("running", "queued"):
        assert _again(first).status == state
        with pytest.raises(Conflict, match=f"is {state}"):
            imports.import_retry(actor=acme.actor, tenant_id=acme.tenant_id, import_id=first.pk)
        if state == "running":
            imports.import_pause(claim=claim, seconds=0)
    job.import_next()
    assert _again(first).status == ImportStatus.FAILED
    second = _ask(web, acme, rival)
    with pytest.raises(Conflict, match="under way"):
        imports.import_retry(actor=acme.actor, tenant_id=acme.tenant_id, import_id=first.pk)
    job.import_next()
    assert _again(second).status == ImportStatus.SUCCEEDED


def test_a_prefix_of_a_bucket_comes_in(web: Web, acme: Customer, tmp_path: Path) -> None:
    """S3 knows no SHA-256: files are hashed here, small ones and those that come in parts."""
    files = {**model_files(fill=20_000_000), "notes/usage.md": b"# Usage\n", "old.bin": b"left out"}
    with s3_server() as endpoint:
        client = s3_client(endpoint)
        client.create_bucket(Bucket="whole-models")  # moto keeps buckets beyond its server: no other test may know it
        for path, content in files.items():
            client.put_object(Bucket="whole-models", Key=f"models/tiny/{path}", Body=content)
        client.put_object(Bucket="whole-models", Key="models/other/config.json", Body=b"{}")
        found = imports.import_create(
            actor=acme.actor,
            tenant_id=acme.tenant_id,
            name="copy",
            kind=ImportKind.S3,
            source={"endpoint_url": endpoint, "bucket": "whole-models", "prefix": "models/tiny"},
            credentials={
                "access_key_id": KEYS["aws_access_key_id"],
                "secret_access_key": KEYS["aws_secret_access_key"],
            },
        )
        job.import_next()
    ended = _again(found)
    assert ended.status == ImportStatus.SUCCEEDED, ended.message
    assert "old.bin" in ended.message
    del files["old.bin"]
    assert _downloaded(web, acme, "acme/copy", tmp_path / "down") == files


def test_over_rest_it_is_asked_for_watched_and_cancelled_and_no_secret_is_shown(
    web: Web, acme: Customer, rival: Customer
) -> None:
    with httpx.Client(base_url=f"{web.url}/api/v1", headers={"Authorization": f"Bearer {acme.secret}"}) as client:
        body = {
            "model": "copy",
            "source": {"kind": "hub", "url": "https://hub.example", "repo": "org/model"},
            "credentials": {"token": "secret-token"},
        }
        made = client.post("/imports", json=body)
        assert made.status_code == 201, made.text
        shown = client.get(made.headers["location"].removeprefix("/api/v1"))
        assert shown.json()["status"] == "queued"
        assert shown.json()["files"] == []
        assert "secret-token" not in shown.text + client.get("/imports").text
        cancelled = client.post(f"/imports/{made.json()['id']}/cancel")
        assert cancelled.json()["status"] == "cancelled"
        assert client.post("/imports", json={**body, "source": {"kind": "ftp"}}).status_code == 400
        assert client.post(f"/imports/{made.json()['id']}/explode").status_code == 400
    with httpx.Client(base_url=f"{web.url}/api/v1", headers={"Authorization": f"Bearer {rival.secret}"}) as client:
        assert client.get(f"/imports/{made.json()['id']}").status_code == 404
        assert client.post(f"/imports/{made.json()['id']}/cancel").status_code == 404
    with tenant_scope(acme.tenant_id):
        stored = ModelImport.objects.get()
        assert not ImportFile.objects.exists()
    assert "secret-token" in stored.credentials
