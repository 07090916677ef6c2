"""With S3 as the object store weight bytes go straight there: the web process hands out URLs and hears the end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, get_session, hf_hub_download

from freehold.db.rls import tenant_scope
from freehold.registry import selectors
from freehold.registry.choices import RevisionStatus
from freehold.registry.contents import MULTIPART_BYTES
from freehold.registry.models import Blob, Upload
from freehold.registry.storage.base import PART_BYTES
from freehold.registry.storage.bucket import Location
from tests.factories.models_on_disk import write_model
from tests.fakes.s3 import bucket_make, s3_client, s3_server, variables
from tests.integration.hub.lfs import begin, part_urls, sha256_of
from tests.integration.hub.live import Customer, Web, web_process
from tests.integration.hub.relay import Relay, relay

MIB = 1024 * 1024
SIZE = MULTIPART_BYTES + 5 * MIB

_UPLOAD = """
import sys
from huggingface_hub import HfApi
HfApi().upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2])
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Location]:
    """A bucket."""
    with s3_server() as url:
        yield bucket_make(url)


@pytest.fixture(scope="module")
def web(django_db_setup: None, place: Location) -> Iterator[Web]:
    """A web process whose object store that bucket is; instead of the session's."""
    with web_process(variables=variables(place)) as running:
        yield running


@pytest.fixture
def wire(web: Web) -> Iterator[Relay]:
    """Between the client and the web process, not the bucket."""
    with relay(web) as running:
        yield running


def _upload(url: str, customer: Customer, repo: str, folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_TOKEN": customer.secret, "HF_HOME": str(folder.parent / "hf")}
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", _UPLOAD, repo, str(folder)], env=environment)


def _key(place: Location, customer: Customer, sha256: str) -> dict[str, str]:
    return {"Bucket": place.bucket, "Key": f"objects/{customer.tenant_id}/{sha256}"}


def test_weights_go_to_the_bucket_and_come_from_there(
    wire: Relay, place: Location, acme: Customer, repo: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", fill=SIZE)
    content = (folder / "model.safetensors").read_bytes()
    assert _upload(wire.url, acme, repo, folder).wait(90) == 0
    assert wire.sent < 100_000
    stored = s3_client(place.endpoint_url).get_object(**_key(place, acme, sha256_of(content)))["Body"].read()
    assert stored == content
    assert selectors.revision_resolve(tenant_id=acme.tenant_id, repo=repo).status == RevisionStatus.VERIFYING
    path = hf_hub_download(repo, "model.safetensors", endpoint=wire.url, token=acme.secret, local_dir=tmp_path / "down")
    assert Path(path).read_bytes() == content
    url = f"{wire.url}/{repo}/resolve/main/model.safetensors"
    headers = {"Authorization": f"Bearer {acme.secret}", "Range": "bytes=1000-1999"}
    part = get_session().get(url, headers=headers)
    assert (part.status_code, part.content) == (206, content[1000:2000])
    assert str(part.url).startswith(place.endpoint_url)
    assert "authorization" not in part.request.headers  # S3 refuses a request that is authorized twice


def test_a_small_file_is_known_once_the_client_says_it_is_there(
    web: Web, api: HfApi, acme: Customer, repo: str
) -> None:
    content = os.urandom(2 * MIB)
    sha256 = sha256_of(content)
    actions = begin(web, acme, repo, sha256=sha256, size=len(content))["actions"]
    verify = {"url": actions["verify"]["href"], "json": {"oid": sha256, "size": len(content)}}
    headers = {"Authorization": f"Bearer {acme.secret}"}
    assert httpx.post(**verify, headers=headers).status_code == 404
    assert not actions["upload"]["href"].startswith(web.url)
    assert httpx.put(actions["upload"]["href"], content=content).status_code == 200
    assert httpx.post(**verify, headers=headers).status_code == 200
    with tenant_scope(acme.tenant_id):
        assert Blob.objects.get(sha256=sha256).verified_at is None
        assert not Upload.objects.exists()


def test_a_client_that_died_before_it_said_so_need_not_send_it_again(web: Web, acme: Customer, repo: str) -> None:
    content = os.urandom(2 * MIB)
    sha256 = sha256_of(content)
    href = begin(web, acme, repo, sha256=sha256, size=len(content))["actions"]["upload"]["href"]
    assert httpx.put(href, content=content).status_code == 200
    assert "actions" not in begin(web, acme, repo, sha256=sha256, size=len(content))


def test_parts_that_are_there_are_answered_by_us_and_the_others_by_the_bucket(
    wire: Relay, web: Web, place: Location, acme: Customer, repo: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", fill=SIZE)
    content = (folder / "model.safetensors").read_bytes()
    urls = part_urls(begin(web, acme, repo, sha256=sha256_of(content), size=len(content)))
    assert all(url.startswith(place.endpoint_url) for url in urls)
    assert httpx.put(urls[1], content=content[PART_BYTES : 2 * PART_BYTES], timeout=60).status_code == 200
    urls = part_urls(begin(web, acme, repo, sha256=sha256_of(content), size=len(content)))
    assert [url.startswith(web.url) for url in urls] == [False, True, False]
    began = time.monotonic()
    assert _upload(wire.url, acme, repo, folder).wait(90) == 0
    sys.stdout.write(f"{wire.sent / MIB:.1f} MiB to the web process in {time.monotonic() - began:.1f} s\n")
    assert wire.sent < 8 * MIB
    stored = s3_client(place.endpoint_url).get_object(**_key(place, acme, sha256_of(content)))["Body"].read()
    assert stored == content
