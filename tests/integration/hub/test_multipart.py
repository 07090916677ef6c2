"""Large files come in parts: with the real client, and by hand where it would never do such a thing."""

from __future__ import annotations

import os
import shutil
import threading
import traceback
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi

from freehold.common import clock
from freehold.db.rls import tenant_scope
from freehold.registry import selectors
from freehold.registry.choices import RevisionStatus
from freehold.registry.contents import MULTIPART_BYTES
from freehold.registry.models import Blob, Upload
from freehold.registry.storage.base import PART_BYTES
from tests.factories.models_on_disk import write_model
from tests.integration.hub.lfs import begin, finish, part_urls, sha256_of
from tests.integration.hub.live import Customer, Web

MIB = 1024 * 1024
SIZE = MULTIPART_BYTES + 5 * MIB


@pytest.fixture(autouse=True)
def empty_store() -> None:
    """No transfers of other tests."""
    shutil.rmtree(_store() / ".multipart", ignore_errors=True)


@pytest.fixture(scope="module")
def content() -> bytes:
    """Three parts."""
    return os.urandom(MIB) * (SIZE // MIB)


def _store() -> Path:
    return Path(os.environ["FREEHOLD_DATA"]) / "objects"


def _transfers() -> list[Path]:
    return list((_store() / ".multipart").iterdir())


def _piece(content: bytes, number: int) -> bytes:
    return content[(number - 1) * PART_BYTES : number * PART_BYTES]


def _put_all(urls: list[str], content: bytes, *, first: int = 1) -> list[str]:
    answers = [httpx.put(url, content=_piece(content, n), timeout=60) for n, url in enumerate(urls, first)]
    assert [answer.status_code for answer in answers] == [200] * len(urls)
    return [answer.headers["etag"] for answer in answers]


def _blob(customer: Customer, sha256: str) -> Blob | None:
    with tenant_scope(customer.tenant_id):
        return Blob.objects.filter(sha256=sha256).first()


def test_a_large_file_arrives_in_parts_and_is_verified(api: HfApi, acme: Customer, repo: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", fill=SIZE)
    api.upload_folder(repo_id=repo, folder_path=folder)
    revision = selectors.revision_resolve(tenant_id=acme.tenant_id, repo=repo)
    assert revision.status == RevisionStatus.VERIFIED
    stored = {file.path: file.sha256 for file in selectors.files(revision=revision)}["model.safetensors"]
    assert (_store() / str(acme.tenant_id) / stored).read_bytes() == (folder / "model.safetensors").read_bytes()
    blob = _blob(acme, stored)
    assert blob is not None
    assert blob.verified_at is not None
    assert _transfers() == []


def test_a_client_that_knows_only_basic_sends_it_whole(web: Web, acme: Customer, repo: str, content: bytes) -> None:
    sha256 = sha256_of(content)
    item = begin(web, acme, repo, sha256=sha256, size=len(content), transfers=("basic",))
    assert "header" not in item["actions"]["upload"]
    assert httpx.put(item["actions"]["upload"]["href"], content=content, timeout=60).status_code == 200
    assert "actions" not in begin(web, acme, repo, sha256=sha256, size=len(content))
    assert _transfers() == []


def test_small_and_large_objects_of_one_batch_each_go_their_way(web: Web, acme: Customer, repo: str) -> None:
    objects = [{"oid": "a" * 64, "size": MULTIPART_BYTES}, {"oid": "b" * 64, "size": MULTIPART_BYTES + 1}]
    answer = httpx.post(
        f"{web.url}/{repo}.git/info/lfs/objects/batch",
        json={"operation": "upload", "transfers": ["basic", "multipart"], "objects": objects},
        headers={"Authorization": f"Bearer {acme.secret}"},
    ).json()
    small, large = answer["objects"]
    assert "header" not in small["actions"]["upload"]
    assert large["actions"]["upload"]["header"]["chunk_size"] == str(PART_BYTES)
    assert len(part_urls(large)) == 3


def test_what_is_wrong_about_a_part_or_the_end_is_said_and_costs_nothing(
    web: Web, acme: Customer, repo: str, content: bytes
) -> None:
    sha256 = sha256_of(content)
    item = begin(web, acme, repo, sha256=sha256, size=len(content))
    urls, href = part_urls(item), item["actions"]["upload"]["href"]
    short = httpx.put(urls[2], content=_piece(content, 3)[:-1])
    assert (short.status_code, str(5 * MIB) in short.json()["error"]) == (400, True)
    assert httpx.put(urls[2], content=_piece(content, 3) + b"!").status_code == 400
    assert httpx.post(urls[0], json={"oid": sha256, "parts": []}).status_code == 400
    etags = _put_all(urls[:2], content)
    missing = finish(item, [*etags, "part-3"])
    assert (missing.status_code, "1 of 3 parts" in missing.json()["error"]) == (422, True)
    etags += _put_all(urls[2:], content, first=3)
    assert finish(item, etags, oid="c" * 64).status_code == 400
    assert finish(item, [*etags[:2], "other"]).status_code == 422
    assert finish(item, etags[:2]).status_code == 422
    for nonsense in (b"{", b"[]", b'{"oid":"' + sha256.encode() + b'","parts":[{"partNumber":"1"}]}'):
        assert httpx.post(href, content=nonsense).status_code == 400
    assert finish(item, etags).status_code == 200
    assert finish(item, etags).status_code == 200
    late = httpx.put(urls[0], content=_piece(content, 1))
    assert (late.status_code, late.headers["etag"]) == (200, f'"{sha256}"')
    assert "actions" not in begin(web, acme, repo, sha256=sha256, size=len(content))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_file_that_changed_meanwhile_is_refused_and_can_be_sent_again_at_once(
    web: Web, acme: Customer, repo: str, content: bytes, order: tuple[int, ...]
) -> None:
    sha256 = sha256_of(content)
    changed = content[:-1] + bytes([content[-1] ^ 1])
    item = begin(web, acme, repo, sha256=sha256, size=len(content))
    urls = part_urls(item)
    etags = {place: httpx.put(urls[place], content=_piece(changed, place + 1)).headers["etag"] for place in order}
    refused = finish(item, [etags[place] for place in range(3)])
    assert refused.status_code == 422
    assert "Upload the file again" in refused.json()["error"]
    assert _transfers() == []
    assert _blob(acme, sha256) is None
    item = begin(web, acme, repo, sha256=sha256, size=len(content))
    assert finish(item, _put_all(part_urls(item), content)).status_code == 200


def test_two_clients_that_send_the_same_at_once_both_succeed(
    api: HfApi, acme: Customer, repo: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", fill=SIZE)
    api.create_repo("acme/other")
    failures: list[str] = []

    def upload(name: str) -> None:
        try:
            HfApi(endpoint=api.endpoint, token=acme.secret).upload_folder(repo_id=name, folder_path=folder)
        except BaseException:  # noqa: BLE001 - the test asks whether there was any
            failures.append(traceback.format_exc())

    threads = [threading.Thread(target=upload, args=(name,)) for name in (repo, "acme/other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not failures, "".join(failures)
    for name in ("tiny", "other"):
        revision = selectors.revision_resolve(tenant_id=acme.tenant_id, repo=name)
        assert revision.status == RevisionStatus.VERIFIED
    assert _transfers() == []


def test_an_upload_that_has_expired_says_so_and_can_be_begun_again(
    web: Web, acme: Customer, repo: str, content: bytes
) -> None:
    item = begin(web, acme, repo, sha256=sha256_of(content), size=len(content))
    with tenant_scope(acme.tenant_id):
        Upload.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    for answer in (httpx.put(part_urls(item)[0], content=_piece(content, 1)), finish(item, ["part-1"])):
        assert answer.status_code == 404
        assert "has expired. Start it again" in answer.json()["error"]
    item = begin(web, acme, repo, sha256=sha256_of(content), size=len(content))
    _put_all(part_urls(item)[:1], content)


def test_a_transfer_that_the_store_has_lost_is_begun_again(web: Web, acme: Customer, repo: str, content: bytes) -> None:
    sha256 = sha256_of(content)
    item = begin(web, acme, repo, sha256=sha256, size=len(content))
    with tenant_scope(acme.tenant_id):
        Upload.objects.update(multipart_id="0" * 32)
    gone = httpx.put(part_urls(item)[0], content=_piece(content, 1))
    assert (gone.status_code, "Start it again" in gone.json()["error"]) == (404, True)
    item = begin(web, acme, repo, sha256=sha256, size=len(content))
    assert finish(item, _put_all(part_urls(item), content)).status_code == 200


def test_the_hash_of_another_tenant_s_content_gives_nothing(
    web: Web, acme: Customer, rival: Customer, rival_api: HfApi, repo: str, content: bytes
) -> None:
    sha256 = sha256_of(content)
    item = begin(web, acme, repo, sha256=sha256, size=len(content))
    finish(item, _put_all(part_urls(item), content))
    rival_api.create_repo("rival/copy")
    wanted = begin(web, rival, "rival/copy", sha256=sha256, size=len(content))
    assert len(part_urls(wanted)) == 3
    assert finish(wanted, ["part-1", "part-2", "part-3"]).status_code == 422
    assert _blob(rival, sha256) is None
