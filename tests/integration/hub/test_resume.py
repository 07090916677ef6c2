"""Whatever is killed, what has arrived is not sent again. Bytes are counted on the wire."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from freehold.registry import selectors
from freehold.registry.choices import RevisionStatus
from freehold.registry.storage.base import PART_BYTES
from tests.factories.models_on_disk import write_model
from tests.factories.ports import free_port
from tests.integration.hub.lfs import begin, half_put, part_urls, sha256_of
from tests.integration.hub.live import Customer, Web, kill_web, web_process
from tests.integration.hub.relay import Relay, relay

MIB = 1024 * 1024
SLACK = 4 * MIB  # for each part that is answered early: what is in the sockets' buffers then

_UPLOAD = """
import sys
from huggingface_hub import HfApi
HfApi().upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2])
"""


@pytest.fixture(autouse=True)
def empty_store() -> None:
    """No transfers of other tests."""
    shutil.rmtree(Path(os.environ["FREEHOLD_DATA"]) / "objects" / ".multipart", ignore_errors=True)


@pytest.fixture
def wire(web: Web) -> Iterator[Relay]:
    """Between the client and the web process."""
    with relay(web) as running:
        yield running


def _client(url: str, customer: Customer, repo: str, folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_TOKEN": customer.secret, "HF_HOME": str(folder.parent / "hf")}
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", _UPLOAD, repo, str(folder)], env=environment)


def _arrived() -> int:
    """Parts of the one transfer under way that have arrived."""
    transfers = (Path(os.environ["FREEHOLD_DATA"]) / "objects" / ".multipart").glob("*/*")
    return sum(marker.name.isdigit() for marker in transfers)


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _status(customer: Customer) -> str:
    return str(selectors.revision_resolve(tenant_id=customer.tenant_id, repo="tiny").status)


def test_a_client_that_was_killed_sends_only_what_is_missing(
    wire: Relay, acme: Customer, repo: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", fill=600 * MIB)
    first = _client(wire.url, acme, repo, folder)
    _until(lambda: _arrived() >= 4)
    first.kill()
    first.wait()
    arrived, wire.sent = _arrived(), 0
    second = _client(wire.url, acme, repo, folder)
    assert second.wait(60) == 0
    missing = (folder / "model.safetensors").stat().st_size - arrived * PART_BYTES
    sys.stdout.write(f"{arrived} parts had arrived; {wire.sent / MIB:.1f} MiB sent, {missing / MIB:.1f} MiB missing\n")
    assert arrived < 10
    assert missing < wire.sent < missing + arrived * SLACK
    assert _status(acme) == RevisionStatus.VERIFIED


def test_a_second_upload_of_the_same_content_moves_no_bytes(
    wire: Relay, api: HfApi, acme: Customer, repo: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", fill=30 * MIB)
    assert _client(wire.url, acme, repo, folder).wait(60) == 0
    assert wire.sent > 30 * MIB
    api.create_repo("acme/again")
    wire.sent = 0
    assert _client(wire.url, acme, "acme/again", folder).wait(60) == 0
    assert wire.sent < 100_000
    assert api.file_exists("acme/again", "model.safetensors")


def test_files_that_have_arrived_are_not_sent_again(
    wire: Relay, api: HfApi, acme: Customer, repo: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", fill=20 * MIB)
    content = (folder / "model.safetensors").read_bytes()
    addition = CommitOperationAdd("model.safetensors", folder / "model.safetensors")
    api.preupload_lfs_files(repo, [addition])  # and dies before it commits
    assert (Path(os.environ["FREEHOLD_DATA"]) / "objects" / str(acme.tenant_id) / sha256_of(content)).exists()
    assert _client(wire.url, acme, repo, folder).wait(60) == 0
    assert wire.sent < 100_000
    assert _status(acme) == RevisionStatus.VERIFIED


def test_the_web_process_may_be_killed_in_the_middle_of_a_part(
    django_db_setup: None, acme: Customer, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", fill=400 * MIB)
    port = free_port()
    with web_process(port) as web:
        repo = str(HfApi(endpoint=web.url, token=acme.secret).create_repo("acme/tiny").repo_id)
        client = _client(web.url, acme, repo, folder)
        _until(lambda: _arrived() >= 3)
        kill_web(web)
        arrived = _arrived()
    with web_process(port) as web:
        assert client.wait(60) == 0
        assert 3 <= arrived < 7
        assert _status(acme) == RevisionStatus.VERIFIED


def test_an_early_answer_that_was_lost_is_given_again_at_the_end(web: Web, acme: Customer, repo: str) -> None:
    size = 3 * PART_BYTES
    url = part_urls(begin(web, acme, repo, sha256="d" * 64, size=size))[0]
    content = bytes(PART_BYTES)
    assert httpx.put(url, content=content).headers["etag"] == '"part-1"'
    early = httpx.put(url, content=content)
    assert (early.status_code, early.headers["connection"]) == (200, "close")
    again = httpx.put(url, content=content)
    assert again.status_code == 200
    assert "connection" not in again.headers
    assert again.headers["etag"] == early.headers["etag"] == '"part-1"'


def test_who_sends_a_part_that_another_is_sending_waits_for_it(web: Web, acme: Customer, repo: str) -> None:
    url = part_urls(begin(web, acme, repo, sha256="e" * 64, size=3 * PART_BYTES))[0]
    content = bytes(PART_BYTES)
    slow = half_put(url, length=PART_BYTES, content=content[: 10 * MIB])
    _until(lambda: _writing() == 1)
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(httpx.put(url, content=content, timeout=60).status_code))
    waiting.start()
    waiting.join(1)
    assert answers == []
    slow.close()  # and now it is dead, so the other takes over
    waiting.join(30)
    assert answers == [200]
    assert _arrived() == 1


def _writing() -> int:
    transfers = (Path(os.environ["FREEHOLD_DATA"]) / "objects" / ".multipart").glob("*/*.lock")
    return len(list(transfers))
