"""Quotas and garbage collection, with the real client against the real web process."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from django.db import connection
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from freehold.db.rls import tenant_scope
from freehold.registry import accounts, garbage, services
from freehold.registry.models import Blob, ModelFile, ModelRepo, Upload
from freehold.registry.storage import object_store
from tests.factories.models_on_disk import write_model
from tests.factories.tenants import SYSTEM
from tests.integration.hub.lfs import sha256_of
from tests.integration.hub.live import Customer, Web

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

MIB = 1024 * 1024


def _allow(customer: Customer, quota: int) -> None:
    accounts.quota_set(actor=SYSTEM, tenant_id=customer.tenant_id, quota_bytes=quota)


def _nothing_came(customer: Customer) -> bool:
    with tenant_scope(customer.tenant_id):
        rows = Blob.objects.count() + Upload.objects.count() + ModelFile.objects.count()
    return rows == 0 and not list(object_store().listing(customer.tenant_id))


def test_the_terminal_says_how_much_room_there_is_before_a_byte_moves(
    web: Web, acme: Customer, repo: str, tmp_path: Path
) -> None:
    _allow(acme, 2 * MIB)
    folder = write_model(tmp_path / "model", fill=5 * MIB)
    environment = {**os.environ, "HF_ENDPOINT": web.url, "HF_TOKEN": acme.secret, "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-m", "huggingface_hub.cli.hf", "upload", repo, str(folder)]
    tried = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert tried.returncode != 0
    said = " ".join(tried.stderr.split())
    assert "This upload needs 5.0 MiB, but of your tenant's 2.0 MiB of storage only 2.0 MiB are free" in said
    assert "Delete models you no longer need, or ask your provider for more." in said
    assert _nothing_came(acme)


def test_small_files_are_refused_as_well(api: HfApi, acme: Customer, repo: str) -> None:
    _allow(acme, 10)
    with pytest.raises(HfHubHTTPError, match="of storage only 10 B are free") as refused:
        api.upload_file(repo_id=repo, path_in_repo="notes.txt", path_or_fileobj=b"eleven byte")
    assert refused.value.response.status_code == 403
    assert api.list_repo_files(repo) == []
    assert _nothing_came(acme)
    api.upload_file(repo_id=repo, path_in_repo="notes.txt", path_or_fileobj=b"ten bytes!")
    api.upload_file(repo_id=repo, path_in_repo="copy.txt", path_or_fileobj=b"ten bytes!")  # costs nothing
    assert sorted(api.list_repo_files(repo)) == ["copy.txt", "notes.txt"]


def test_a_model_that_fits_to_the_byte_comes_in_and_room_is_back_once_it_is_deleted(
    api: HfApi, acme: Customer, repo: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", fill=2 * MIB)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    _allow(acme, size - 1)
    with pytest.raises(HfHubHTTPError, match="of storage only"):
        api.upload_folder(repo_id=repo, folder_path=folder)
    assert api.list_repo_files(repo) == []
    _allow(acme, size)
    api.upload_folder(repo_id=repo, folder_path=folder)
    assert accounts.storage_usage(tenant_id=acme.tenant_id).free_bytes == 0
    api.create_branch(repo, branch="copy")
    api.delete_repo(repo)
    garbage.collect(tenant_id=acme.tenant_id)
    assert accounts.storage_usage(tenant_id=acme.tenant_id).free_bytes == size
    api.create_repo(repo)
    api.upload_folder(repo_id=repo, folder_path=folder)


def test_an_upload_that_is_cancelled_on_its_way_tells_its_client(
    web: Web, api: HfApi, acme: Customer, repo: str
) -> None:
    content = os.urandom(MIB)
    wanted = services.Content(sha256=sha256_of(content), size=MIB)
    batch = httpx.post(
        f"{web.url}/{repo}.git/info/lfs/objects/batch",
        json={"operation": "upload", "transfers": ["basic"], "objects": [{"oid": wanted.sha256, "size": MIB}]},
        headers={"Authorization": f"Bearer {acme.secret}"},
    ).json()
    href = batch["objects"][0]["actions"]["upload"]["href"]
    listed = httpx.get(f"{web.url}/api/v1/storage", headers={"Authorization": f"Bearer {acme.secret}"}).json()
    (upload,) = listed["uploads"]

    def cancelling() -> object:
        yield content[: MIB // 2]
        cancelled = httpx.delete(
            f"{web.url}/api/v1/storage/uploads/{upload['id']}", headers={"Authorization": f"Bearer {acme.secret}"}
        )
        assert cancelled.status_code == 204
        yield content[MIB // 2 :]

    answer = httpx.put(href, content=cancelling(), headers={"Content-Length": str(MIB)})  # type: ignore[arg-type]
    assert answer.status_code == 404
    assert "Start it again" in answer.text
    assert accounts.storage_usage(tenant_id=acme.tenant_id).used_bytes == 0
    api.upload_file(repo_id=repo, path_in_repo="data.msgpack", path_or_fileobj=content)
    assert api.hf_hub_download(repo, "data.msgpack", force_download=True)


def test_uploads_over_http_lose_nothing_to_a_collector_that_never_rests(web: Web, acme: Customer) -> None:
    """Everything that is not committed is given up at once, again and again."""
    until = time.monotonic() + 10
    shared = [bytes([0, number]) * (50_000 + number) for number in range(6)]
    commits: list[str] = []
    refusals: list[str] = []
    errors: list[BaseException] = []

    def customer(name: str) -> None:
        api = HfApi(endpoint=web.url, token=acme.secret)
        turn = 0
        while time.monotonic() < until:
            turn += 1
            api.create_repo(f"acme/{name}", exist_ok=True)
            chosen = [shared[(turn + place * len(name)) % len(shared)] for place in range(2)]
            operations = [CommitOperationAdd(f"{place}.msgpack", content) for place, content in enumerate(chosen)]
            try:
                api.create_commit(f"acme/{name}", operations, commit_message="Upload")
                commits.append(name)
            except (HfHubHTTPError, RuntimeError) as error:  # given up in between: upload it again
                refusals.append(str(error))
                continue
            if turn % 5 == 0:
                api.delete_repo(f"acme/{name}")

    def collector() -> None:
        dice, give_up_at = random.Random(3), 0.0
        while time.monotonic() < until + 1:
            if time.monotonic() > give_up_at:
                give_up_at = time.monotonic() + dice.uniform(0.1, 1.5)  # a commit takes something in between
                services.content_discard(actor=SYSTEM, tenant_id=acme.tenant_id, idle=timedelta(0))
            garbage.collect(tenant_id=acme.tenant_id)

    def guarded(action: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                action()
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)
            finally:
                connection.close()

        return run

    actions = [lambda: customer("one"), lambda: customer("second"), collector]
    threads = [threading.Thread(target=guarded(action)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    assert len(commits) > 3, refusals
    assert refusals
    with tenant_scope(acme.tenant_id):
        referenced = set(ModelFile.objects.values_list("sha256", flat=True))
        assert referenced <= set(Blob.objects.filter(doomed_at=None).values_list("sha256", flat=True))
    for sha256 in referenced:
        with object_store().open(acme.tenant_id, sha256) as stream:
            assert sha256_of(stream.read()) == sha256
    with tenant_scope(acme.tenant_id):
        models = list(ModelRepo.objects.values_list("pk", flat=True))
    for model in models:
        with contextlib.suppress(FileNotFoundError):
            services.model_delete(actor=acme.actor, tenant_id=acme.tenant_id, model_id=model)
    services.content_discard(actor=SYSTEM, tenant_id=acme.tenant_id, idle=timedelta(0))
    garbage.collect(tenant_id=acme.tenant_id)
    with tenant_scope(acme.tenant_id):
        assert not Blob.objects.exists()
        assert not Upload.objects.exists()
