"""A revision taken along: as a tar over HTTP with the clients people have, and as folder or tar by the operator."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from huggingface_hub import HfApi

from freehold.common import clock
from freehold.db.rls import system_scope
from freehold.hub import exports as hub_exports
from freehold.registry import selectors
from freehold.registry.archive import archive_of
from freehold.registry.storage import object_store
from freehold.registry.storage.base import ObjectStore
from freehold.tenancy.models import Tenant
from tests.factories.models_on_disk import model_files, write_folder
from tests.integration.hub.live import Customer, Web

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

LONG = "nested/" + "a" * 120 + "/" + "ü" * 60 + "/notes.md"


@pytest.fixture
def uploaded(api: HfApi, repo: str, tmp_path: Path) -> Path:
    """A model in `repo`, with an empty file and a path that old tar headers cannot hold; the folder it came from."""
    files = {**model_files(fill=3_000_001), LONG: b"hello\n", "empty.txt": b""}
    folder = write_folder(tmp_path / "source", files)
    api.upload_folder(repo_id=repo, folder_path=folder)
    return folder


@pytest.fixture
def link(web: Web, acme: Customer, uploaded: Path) -> str:
    """Where the tar is, as the REST API says."""
    with httpx.Client(base_url=web.url, headers={"Authorization": f"Bearer {acme.secret}"}) as client:
        model = client.get("/api/v1/models").json()["data"][0]["id"]
        answer = client.get(f"/api/v1/models/{model}/archive")
    assert answer.status_code == 302
    # The origin is the configured one; the process under test listens elsewhere.
    return web.url + "/exports/" + answer.headers["location"].partition("/exports/")[2]


def _contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _unpacked(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {
            member.name.partition("/")[2]: stream.read()
            for member in archive
            if (stream := archive.extractfile(member)) is not None
        }


def test_the_tar_holds_every_file_byte_for_byte(link: str, uploaded: Path) -> None:
    answer = httpx.get(link)
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''tiny-")
    assert _unpacked(answer.content) == _contents(uploaded)


def test_the_systems_tar_reads_it(link: str, uploaded: Path, tmp_path: Path) -> None:
    target = tmp_path / "unpacked"
    target.mkdir()
    subprocess.run(["tar", "-x", "--strip-components=1", "-C", target], input=httpx.get(link).content, check=True)
    assert _contents(target) == _contents(uploaded)


def test_it_is_the_same_tar_every_time_and_goes_on_where_it_was_cut(link: str) -> None:
    whole = httpx.get(link)
    cut = 1_234_567
    rest = httpx.get(link, headers={"Range": f"bytes={cut}-", "If-Range": whole.headers["etag"]})
    assert rest.status_code == 206
    assert rest.headers["content-range"] == f"bytes {cut}-{len(whole.content) - 1}/{len(whole.content)}"
    assert whole.content[:cut] + rest.content == whole.content
    assert httpx.get(link, headers={"Range": f"bytes={len(whole.content)}-"}).status_code == 416
    assert httpx.head(link).headers["content-length"] == str(len(whole.content))
    assert httpx.get(link, headers={"Range": "bytes=5-9", "If-Range": '"other"'}).status_code == 200


def test_a_link_says_nothing_to_whoever_changes_it(link: str) -> None:
    assert httpx.get(link[:-1] + ("a" if link[-1] != "a" else "b")).status_code == 403
    assert httpx.post(link).status_code == 405


def test_another_tenant_gets_no_link(web: Web, acme: Customer, rival: Customer, uploaded: Path) -> None:
    model = selectors.model_find(tenant_id=acme.tenant_id, name="tiny").public_id
    address = f"{web.url}/api/v1/models/{model}/archive"
    assert httpx.get(address, headers={"Authorization": f"Bearer {rival.secret}"}).status_code == 404


def test_a_suspended_tenants_link_ends(link: str, acme: Customer) -> None:
    with system_scope("tests"):
        Tenant.objects.filter(pk=acme.tenant_id).update(suspended_at=clock.now())
    assert httpx.get(link).status_code == 403


def test_content_that_is_cut_short_in_the_store_never_looks_like_a_whole_download(link: str, acme: Customer) -> None:
    revision = selectors.revision_resolve(tenant_id=acme.tenant_id, repo="tiny")
    weights = selectors.file_get(revision=revision, path="model.safetensors")
    location = object_store().path(acme.tenant_id, weights.sha256)
    assert location is not None
    os.truncate(location, 1000)
    with pytest.raises(httpx.HTTPError):
        httpx.get(link)


def test_content_that_is_gone_from_the_store_never_looks_like_a_whole_download(link: str, acme: Customer) -> None:
    revision = selectors.revision_resolve(tenant_id=acme.tenant_id, repo="tiny")
    location = object_store().path(
        acme.tenant_id, selectors.file_get(revision=revision, path="model.safetensors").sha256
    )
    assert location is not None
    location.unlink()
    with pytest.raises(httpx.HTTPError):
        httpx.get(link)
    assert httpx.get(link, headers={"Range": "bytes=0-9"}).status_code == 206


def test_whoever_goes_on_after_a_rename_starts_anew(link: str, api: HfApi, repo: str) -> None:
    """The model's name is in the tar."""
    before = httpx.head(link).headers["etag"]
    api.move_repo(repo, "acme/small")
    rest = httpx.get(link, headers={"Range": "bytes=5-9", "If-Range": before})
    assert rest.status_code == 200
    assert rest.headers["etag"] != before


def test_nothing_is_read_for_a_client_that_has_gone(
    acme: Customer, uploaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = selectors.revision_resolve(tenant_id=acme.tenant_id, repo="tiny")
    archive = archive_of(revision, selectors.files(revision=revision))
    opened: list[str] = []

    def counted() -> ObjectStore:
        opened.append("once")
        return object_store()

    async def send(_: dict[str, Any]) -> None:
        return None

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    monkeypatch.setattr(hub_exports, "object_store", counted)
    scope = {"method": "GET", "headers": []}
    asyncio.run(hub_exports._serve(scope, receive, send, acme.tenant_id, archive))
    assert len(opened) == 1


def test_the_operator_writes_a_folder_and_a_tar(uploaded: Path, tmp_path: Path, link: str) -> None:
    call_command("revision_export", "acme/tiny", to=tmp_path / "folder")
    assert _contents(tmp_path / "folder") == _contents(uploaded)
    call_command("revision_export", "acme/tiny", tar=str(tmp_path / "model.tar"))
    assert (tmp_path / "model.tar").read_bytes() == httpx.get(link).content


def test_the_operator_is_told_what_is_wrong(uploaded: Path, tmp_path: Path, acme: Customer) -> None:
    with pytest.raises(CommandError, match="is not empty"):
        call_command("revision_export", "acme/tiny", to=uploaded)
    with pytest.raises(CommandError, match="no tenant 'nobody'"):
        call_command("revision_export", "nobody/tiny", to=tmp_path / "folder")
    revision = selectors.revision_resolve(tenant_id=acme.tenant_id, repo="tiny")
    weights = selectors.file_get(revision=revision, path="model.safetensors")
    location = object_store().path(acme.tenant_id, weights.sha256)
    assert location is not None
    location.write_bytes(b"x" * weights.size)
    with pytest.raises(CommandError, match=r"model\.safetensors: the object store holds other content"):
        call_command("revision_export", "acme/tiny", to=tmp_path / "folder")
    assert not (tmp_path / "folder" / "model.safetensors").exists()
    shutil.rmtree(tmp_path / "folder")
