"""The fetcher as a process of its own, against the real web process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from freehold.registry import selectors, storage
from freehold.registry.models import Revision
from freehold.registry.services import fetch_token_create
from tests.factories.models_on_disk import write_folder, write_model
from tests.integration.hub.live import ROOT, Customer, Web
from workers.runtimes.fetcher import INCOMING, MANIFEST, Exit, File, digest_of

# huggingface_hub sends files in a way that its own HTTP library warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def revision(api: HfApi, acme: Customer, repo: str, tmp_path: Path) -> Revision:
    """A model with a folder in it."""
    folder = write_model(tmp_path / "source", fill=2_000_000)
    write_folder(folder, {"1_Pooling/config.json": b"{}", "empty.txt": b""})
    api.upload_folder(repo_id=repo, folder_path=folder)
    return selectors.revision_resolve(tenant_id=acme.tenant_id, repo=repo)


def _stored(customer: Customer, sha256: str) -> Path:
    path = storage.object_store().path(customer.tenant_id, sha256)
    assert path is not None
    return path


def _fetch(web: Web, revision: Revision, target: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "FREEHOLD_FETCH_URL": web.url,
        "FREEHOLD_FETCH_TOKEN": fetch_token_create(revision=revision),
        "FREEHOLD_FETCH_REPO": revision.repo.full_name,
        "FREEHOLD_FETCH_REVISION": revision.commit_id,
        "FREEHOLD_FETCH_TARGET": str(target),
        **{f"FREEHOLD_FETCH_{name}": value for name, value in changes.items()},
    }
    program = ROOT / "workers" / "runtimes" / "fetcher.py"
    return subprocess.run(
        [sys.executable, "-I", str(program)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_revision_becomes_a_folder_that_any_user_can_read(web: Web, revision: Revision, tmp_path: Path) -> None:
    target = tmp_path / "weights" / "abc"
    done = _fetch(web, revision, target, DIGEST=revision.digest)
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert len(done.stdout.splitlines()) == 7
    for file in selectors.files(revision=revision):
        assert (target / file.path).read_bytes() == (tmp_path / "source" / file.path).read_bytes()
        assert (target / file.path).stat().st_mode & 0o777 == 0o644
    assert (target / "1_Pooling").stat().st_mode & 0o777 == 0o755
    assert target.stat().st_mode & 0o777 == 0o755
    assert json.loads((target / MANIFEST).read_bytes())["digest"] == revision.digest
    assert {path.name for path in target.parent.iterdir()} == {"abc", "abc.lock"}


def test_the_digest_is_the_registrys(revision: Revision) -> None:
    files = [File(file.path, file.size, file.sha256) for file in selectors.files(revision=revision)]
    assert digest_of(files) == revision.digest


def test_a_warm_folder_is_taken_without_the_hub(web: Web, revision: Revision, tmp_path: Path) -> None:
    assert _fetch(web, revision, tmp_path / "w").returncode == Exit.OK
    again = _fetch(web, revision, tmp_path / "w", URL="http://127.0.0.1:1")
    assert again.returncode == Exit.OK
    assert "there already" in again.stdout


def test_a_damaged_folder_is_fetched_anew(web: Web, revision: Revision, tmp_path: Path) -> None:
    assert _fetch(web, revision, tmp_path / "w").returncode == Exit.OK
    (tmp_path / "w" / "model.safetensors").write_bytes(b"short")
    (tmp_path / "w.partial-99").mkdir()
    assert _fetch(web, revision, tmp_path / "w").returncode == Exit.OK
    assert (tmp_path / "w" / "model.safetensors").stat().st_size > 2_000_000
    assert not (tmp_path / "w.partial-99").exists()


def test_commits_of_the_same_files_share_a_folder(
    web: Web, api: HfApi, acme: Customer, repo: str, revision: Revision, tmp_path: Path
) -> None:
    api.upload_file(path_or_fileobj=b"more", path_in_repo="more.txt", repo_id=repo)
    api.delete_file("more.txt", repo)
    same = selectors.revision_resolve(tenant_id=acme.tenant_id, repo=repo)
    assert (same.digest, same.pk != revision.pk) == (revision.digest, True)
    assert _fetch(web, revision, tmp_path / "w").returncode == Exit.OK
    inode = (tmp_path / "w").stat().st_ino
    warm = _fetch(web, same, tmp_path / "w", DIGEST=same.digest, URL="http://127.0.0.1:1")
    assert (warm.returncode, "there already" in warm.stdout) == (Exit.OK, True)
    unnamed = _fetch(web, same, tmp_path / "w")
    assert (unnamed.returncode, "there already" in unnamed.stdout) == (Exit.OK, True)
    assert (tmp_path / "w").stat().st_ino == inode


def test_the_next_attempt_goes_on_where_one_broke_off(
    web: Web, acme: Customer, revision: Revision, tmp_path: Path
) -> None:
    weights = next(file for file in selectors.files(revision=revision) if file.path == "model.safetensors")
    blob = _stored(acme, weights.sha256)
    away = blob.rename(blob.with_name("away"))
    assert _fetch(web, revision, tmp_path / "w").returncode != Exit.OK
    partial = tmp_path / f"w.partial-{revision.digest}"
    kept = (partial / "config.json").stat().st_ino
    content = away.read_bytes()
    (partial / INCOMING / weights.sha256).write_bytes(content[:1_000_000])
    blob.write_bytes(bytes(1_000_000) + content[1_000_000:])  # so that only what is missing can come from here
    done = _fetch(web, revision, tmp_path / "w")
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert "from an earlier attempt" in done.stdout
    assert (tmp_path / "w" / "config.json").stat().st_ino == kept
    assert (tmp_path / "w" / "model.safetensors").read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} >= {"w", "w.lock"}
    assert not list(tmp_path.glob("w.partial*"))
    assert not (tmp_path / "w" / INCOMING).exists()


def test_what_an_earlier_attempt_left_damaged_comes_again(web: Web, revision: Revision, tmp_path: Path) -> None:
    weights = next(file for file in selectors.files(revision=revision) if file.path == "model.safetensors")
    incoming = tmp_path / f"w.partial-{revision.digest}" / INCOMING
    incoming.mkdir(parents=True)
    (incoming / weights.sha256).write_bytes(bytes(1_000_000))
    done = _fetch(web, revision, tmp_path / "w")
    assert (done.returncode, done.stderr) == (Exit.OK, "")


def test_two_fetchers_of_one_folder_do_not_disturb_each_other(web: Web, revision: Revision, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: _fetch(web, revision, tmp_path / "w"), range(3)))
    assert [each.returncode for each in done] == [Exit.OK] * 3
    assert sum("there already" in each.stdout for each in done) == 2


def test_every_failure_has_its_code_and_one_line(
    web: Web, acme: Customer, revision: Revision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(code: Exit, **changes: str) -> str:
        done = _fetch(web, revision, tmp_path / "w", **changes)
        assert done.returncode == code, done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "w").exists()
        return done.stderr

    failed(Exit.UNAUTHORIZED, TOKEN="fetch.nonsense")
    with monkeypatch.context() as patch:
        hours_ago = time.time() - 7200
        patch.setattr("django.core.signing.time.time", lambda: hours_ago)
        expired = fetch_token_create(revision=revision)
    assert "expired" in failed(Exit.UNAUTHORIZED, TOKEN=expired)
    failed(Exit.NOT_FOUND, REVISION="0" * 40)
    failed(Exit.MISMATCH, DIGEST="0" * 64)
    failed(Exit.MISCONFIGURED, URL="")
    failed(Exit.NETWORK, URL="http://127.0.0.1:1")
    weights = next(file for file in selectors.files(revision=revision) if file.path == "model.safetensors")
    blob = _stored(acme, weights.sha256)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    assert "model.safetensors" in failed(Exit.MISMATCH)


def test_a_fetch_goes_on_under_the_old_name_after_a_rename(
    web: Web, api: HfApi, revision: Revision, tmp_path: Path
) -> None:
    before = revision.repo.full_name
    api.move_repo(before, "acme/renamed")
    done = _fetch(web, revision, tmp_path / "old", REPO=before, DIGEST=revision.digest)
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert _fetch(web, revision, tmp_path / "new", REPO="acme/renamed").returncode == Exit.OK
    api.create_repo(before)
    taken = _fetch(web, revision, tmp_path / "taken", REPO=before)
    assert taken.returncode == Exit.NOT_FOUND
