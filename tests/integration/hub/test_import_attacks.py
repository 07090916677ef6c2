"""Imports from sources that lie, break, stall or list what nobody foresaw; and what happens to them in the middle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from freehold.common import clock
from freehold.db.rls import system_scope, tenant_scope
from freehold.registry import contents, imports, selectors, services
from freehold.registry.choices import ImportKind, ImportStatus
from freehold.registry.models import Blob, ModelImport, Upload
from freehold.registry.sources.hub import HubSource
from freehold.registry.sources.s3 import S3Source
from freehold.registry.storage import base as storage_base
from freehold.registry.storage import object_store
from freehold.tenancy.models import Tenant
from tests.factories.models_on_disk import CONFIG, model_files
from tests.fakes.foreign_hub import COMMIT, ForeignHub
from tests.fakes.origin import Origin, Reply, Seen, origin
from tests.fakes.s3 import KEYS, s3_client, s3_server
from tests.integration.hub.live import Customer
from workers.jobs import imports as job

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
def there() -> Iterator[Origin]:
    """The machine of somebody else."""
    with origin() as running:
        yield running


def _hub(there: Origin, files: dict[str, bytes], *, lfs: frozenset[str] = frozenset(), **more: Any) -> ForeignHub:
    return ForeignHub(at=there, cdn=there, files=files, lfs=lfs, page=1000, **more)


def _ask(there: Origin, acme: Customer, name: str = "copy", **changes: Any) -> ModelImport:
    asked: dict[str, Any] = {"kind": ImportKind.HUB, "source": {"url": there.url(), "repo": "acme/tiny"}}
    return imports.import_create(actor=acme.actor, tenant_id=acme.tenant_id, name=name, **(asked | changes))


def _again(found: ModelImport) -> ModelImport:
    return imports.import_get(tenant_id=found.tenant_id, import_id=found.pk)


def _due_now(found: ModelImport) -> None:
    with tenant_scope(found.tenant_id):
        ModelImport.objects.filter(pk=found.pk).update(next_attempt_at=clock.now(), lock_expires_at=clock.now())


def _outcome(found: ModelImport) -> tuple[str, str]:
    ended = _again(found)
    return ended.status, ended.message


def _served(found: ModelImport) -> dict[str, str]:
    """sha256 by path."""
    revision = selectors.revision_resolve(tenant_id=found.tenant_id, repo="copy")
    return {file.path: file.sha256 for file in selectors.files(revision=revision)}


@pytest.mark.parametrize("size", [200_000, 3_500_000])
@pytest.mark.usefixtures("small_parts")
def test_the_same_content_under_two_names_comes_once(
    there: Origin, acme: Customer, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_BEAT_SECONDS", 0.0)
    files = {**model_files(fill=size), "second/model.safetensors": b""}
    files["second/model.safetensors"] = files["model.safetensors"]
    hub = _hub(there, files, lfs=frozenset({"model.safetensors", "second/model.safetensors"}))
    found = _ask(there, acme)
    job.import_next()
    assert _outcome(found) == (ImportStatus.SUCCEEDED, "")
    assert _served(found)["second/model.safetensors"] == hub.sha256("model.safetensors")
    assert [path for path in there.paths() if path.startswith("/cdn/second")] == []


def test_names_of_left_out_files_that_look_alike_do_no_harm(there: Origin, acme: Customer) -> None:
    hub = _hub(there, model_files())
    alike = "a" * 230
    cut = "a" * 199 + "…"
    names = [f"{alike}1.bin", f"{alike}2.bin", "x\x01.txt", "x\\x01.txt", "x\0.txt", "y" * 3000 + ".bin"]
    hub.extra = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in names]
    hub.files[cut] = b"is taken"
    there.answers(f"/acme/tiny/resolve/{COMMIT}/{cut}", Reply(200, b"is taken"))
    found = _ask(there, acme)
    job.import_next()
    status, message = _outcome(found)
    assert status == ImportStatus.SUCCEEDED, message
    assert cut in _served(found)


def test_what_nobody_foresaw_is_tried_a_few_times_and_then_given_up(
    there: Origin, acme: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hub(there, model_files())
    found = _ask(there, acme)

    def broken(_: HubSource) -> Any:
        raise ZeroDivisionError("token-of-somebody")

    monkeypatch.setattr(HubSource, "describe", broken)
    assert job.import_next()
    waiting = _again(found)
    assert (waiting.status, waiting.attempts, waiting.lock_token) == (ImportStatus.QUEUED, 1, None)
    assert waiting.next_attempt_at > clock.now()
    for _ in range(imports.MOST_ATTEMPTS):
        _due_now(found)
        job.import_next()
    status, message = _outcome(found)
    assert status == ImportStatus.FAILED
    assert "token-of-somebody" not in message


@pytest.mark.usefixtures("small_parts")
def test_a_source_that_always_breaks_off_in_the_same_part_is_given_up(
    there: Origin, acme: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that do not stay are no progress."""
    monkeypatch.setattr(job, "_BEAT_SECONDS", 0.0)
    hub = _hub(there, model_files(fill=3_500_000), lfs=frozenset({"model.safetensors"}))
    hub.cdn.answers("/cdn/model.safetensors", lambda _: Reply(200, hub.files["model.safetensors"], cut=PART // 2))
    found = _ask(there, acme)
    for _ in range(imports.MOST_ATTEMPTS):
        _due_now(found)
        job.import_next()
    assert _again(found).status == ImportStatus.FAILED
    assert "Given up" in _again(found).message


def test_many_small_files_take_turns_too(there: Origin, acme: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "SLICE_SECONDS", 0.0)
    _hub(there, {**model_files(), **{f"notes/{number}.md": b"%d" % number for number in range(9)}})
    found = _ask(there, acme)
    turns = 0
    while imports.imports_due(now=clock.now()) and turns < 40:
        job.import_next()
        turns += 1
    assert _outcome(found) == (ImportStatus.SUCCEEDED, "")
    assert turns > 9


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_takes_ages_gives_way_to_others(
    there: Origin, acme: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(job, "GRACE_SECONDS", -1.0)
    _hub(there, model_files(fill=3_500_000), lfs=frozenset({"model.safetensors"}))
    found = _ask(there, acme, include=["model.safetensors"])
    job.import_next()
    waiting = _again(found)
    assert (waiting.status, waiting.attempts) == (ImportStatus.QUEUED, 1)
    assert "too slow" in waiting.message


def test_a_claim_is_kept_up_while_the_source_takes_its_time(
    there: Origin, acme: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listing, hashing and committing take longer than a lease, and none of them can be interrupted."""
    monkeypatch.setattr(job, "PULSE_SECONDS", 0.01)
    _hub(there, model_files())
    found = _ask(there, acme)
    real = HubSource.describe

    def slow(self: HubSource) -> Any:
        _due_now(found)  # as if the lease had run out meanwhile
        deadline = clock.now() + imports.LEASE / 10
        while clock.now() < deadline and not _lease_left(found):
            pass
        assert _lease_left(found)
        return real(self)

    monkeypatch.setattr(HubSource, "describe", slow)
    job.import_next()
    assert _outcome(found) == (ImportStatus.SUCCEEDED, "")


def test_a_tenant_with_many_imports_lets_others_go_first(there: Origin, acme: Customer, rival: Customer) -> None:
    """Each of them may hold a worker for minutes, and there are few workers."""
    for name in ("first", "second"):
        _ask(there, acme, name=name)
    others = _ask(there, rival, name="theirs")
    held = imports.import_claim()
    assert held is not None
    assert held.model_import.tenant_id == acme.tenant_id
    following = imports.import_claim()
    assert following is not None
    assert following.model_import.pk == others.pk
    assert imports.import_claim() is not None  # nobody else waits


def _lease_left(found: ModelImport) -> bool:
    with tenant_scope(found.tenant_id):
        return ModelImport.objects.filter(pk=found.pk, lock_expires_at__gt=clock.now()).exists()


def test_a_tenant_that_is_suspended_in_the_middle_waits(
    there: Origin, acme: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hub(there, model_files())
    found = _ask(there, acme)
    real = HubSource.describe

    def suspended_meanwhile(self: HubSource) -> Any:
        with system_scope("tests"):
            Tenant.objects.filter(pk=acme.tenant_id).update(suspended_at=clock.now())
        return real(self)

    monkeypatch.setattr(HubSource, "describe", suspended_meanwhile)
    job.import_next()
    assert _again(found).status == ImportStatus.QUEUED
    with tenant_scope(acme.tenant_id):
        assert not Blob.objects.exists()
    monkeypatch.setattr(HubSource, "describe", real)
    with system_scope("tests"):
        Tenant.objects.filter(pk=acme.tenant_id).update(suspended_at=None)
    _due_now(found)
    job.import_next()
    assert _outcome(found) == (ImportStatus.SUCCEEDED, "")


def test_content_that_goes_before_the_commit_is_fetched_again(
    there: Origin, acme: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hub(there, model_files())
    found = _ask(there, acme)
    real = contents.contents_find
    gone: list[str] = []

    def collected(**asked: Any) -> Any:
        if not gone:
            gone.append("once")
            with tenant_scope(acme.tenant_id):
                Blob.objects.all().delete()
        return real(**asked)

    monkeypatch.setattr(services, "contents_find", collected)
    job.import_next()
    assert _again(found).status == ImportStatus.QUEUED
    _due_now(found)
    job.import_next()
    assert _outcome(found) == (ImportStatus.SUCCEEDED, "")


@pytest.mark.usefixtures("small_parts")
def test_an_upload_that_somebody_else_finishes_in_the_middle_is_no_failure(
    there: Origin, acme: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = model_files(fill=3_500_000)
    hub = _hub(there, files, lfs=frozenset({"model.safetensors"}))
    found = _ask(there, acme)
    real = HubSource.open

    def another(self: HubSource, file: Any, *, offset: int = 0) -> Any:
        if file.path == "model.safetensors" and offset == PART:
            with tenant_scope(acme.tenant_id):
                upload = Upload.objects.get(sha256=file.sha256)
            object_store().multipart_abort(upload.multipart)
            writer = object_store().writer(acme.tenant_id, sha256=file.sha256, size=file.size)
            writer.write(files["model.safetensors"])
            writer.commit()
            contents.upload_finish(
                actor=acme.actor,
                tenant_id=acme.tenant_id,
                upload_id=upload.pk,
                sha256=file.sha256,
                verified=True,
            )
        return real(self, file, offset=offset)

    monkeypatch.setattr(HubSource, "open", another)
    for _ in range(3):
        _due_now(found)
        job.import_next()
    assert _outcome(found) == (ImportStatus.SUCCEEDED, "")
    assert _served(found)["model.safetensors"] == hub.sha256("model.safetensors")


def test_a_git_hash_that_nobody_checked_is_not_shown(
    there: Origin, acme: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients name what they keep by it: a false one would let one file pass for another."""
    monkeypatch.setattr(job, "_INLINE_BYTES", 1000)
    hub = _hub(there, {**model_files(), "notes.md": os.urandom(5000)})
    monkeypatch.setattr(ForeignHub, "git_oid", lambda *_: "f" * 40)
    there.answers(
        f"/api/models/acme/tiny/tree/{COMMIT}",
        Reply(200, json.dumps([{"type": "file", "path": "notes.md", "size": 5000, "oid": "f" * 40}]).encode()),
    )
    found = _ask(there, acme)
    job.import_next()
    status, message = _outcome(found)
    assert status == ImportStatus.SUCCEEDED, message
    revision = selectors.revision_resolve(tenant_id=acme.tenant_id, repo="copy")
    (file,) = selectors.files(revision=revision)
    assert file.sha256 == hub.sha256("notes.md")
    assert file.oid != "f" * 40


def test_remote_code_is_taken_out_of_a_large_files_configuration_too(there: Origin, acme: Customer) -> None:
    """Some hubs keep every file in LFS, and some list the SHA-256 of every file."""
    config = json.dumps({**CONFIG, "auto_map": {"AutoModel": "modeling_x.X"}}).encode()
    _hub(there, {**model_files(), "config.json": config}, lfs=frozenset({"config.json"}))
    refused = _ask(there, acme, name="refused")
    job.import_next()
    assert _again(refused).status == ImportStatus.FAILED  # and its content stays for a while
    found = _ask(there, acme, remove_remote_code=True)
    job.import_next()
    assert _outcome(found) == (ImportStatus.SUCCEEDED, "")


def test_a_retry_from_s3_goes_on_and_reserves_nothing_twice(
    acme: Customer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """S3 names no hashes, so what came is known again by its ETag."""
    monkeypatch.setattr(storage_base, "PART_BYTES", 8 * PART)
    monkeypatch.setattr(contents, "MULTIPART_BYTES", 8 * PART)
    files = {**model_files(fill=20_000_000), "z.safetensors": model_files(fill=20_000_000)["model.safetensors"]}
    with s3_server() as endpoint:
        client = s3_client(endpoint)
        client.create_bucket(Bucket="weights")
        for path, content in files.items():
            client.put_object(Bucket="weights", Key=path, Body=content)
        found = imports.import_create(
            actor=acme.actor,
            tenant_id=acme.tenant_id,
            name="copy",
            kind=ImportKind.S3,
            source={"endpoint_url": endpoint, "bucket": "weights"},
            credentials={
                "access_key_id": KEYS["aws_access_key_id"],
                "secret_access_key": KEYS["aws_secret_access_key"],
            },
        )
        asked: list[tuple[str, int]] = []
        real = S3Source.open

        def cancelled_at_last(self: Any, file: Any, *, offset: int = 0) -> Any:
            asked.append((file.path, offset))
            if (file.path, offset) == ("z.safetensors", 8 * PART) and len(asked) < 10:
                with tenant_scope(acme.tenant_id):
                    Upload.objects.update(expires_at=clock.now() + timedelta(minutes=1))
                imports.import_cancel(actor=acme.actor, tenant_id=acme.tenant_id, import_id=found.pk)
                raise job._Cancelled
            if asked.count(("z.safetensors", 8 * PART)) == 2:
                with tenant_scope(acme.tenant_id):
                    assert Upload.objects.get().expires_at > clock.now() + timedelta(hours=1)
            return real(self, file, offset=offset)

        monkeypatch.setattr(S3Source, "open", cancelled_at_last)
        job.import_next()
        assert _again(found).status == ImportStatus.CANCELLED, asked
        before = list(asked)
        imports.import_retry(actor=acme.actor, tenant_id=acme.tenant_id, import_id=found.pk)
        job.import_next()
    assert _outcome(found) == (ImportStatus.SUCCEEDED, "")
    assert asked[len(before) :] == [("z.safetensors", 8 * PART), ("z.safetensors", 16 * PART)]
    with tenant_scope(acme.tenant_id):
        assert not Upload.objects.exists()


def test_what_changed_at_the_source_between_two_tries_comes_anew(there: Origin, acme: Customer) -> None:
    hub = _hub(there, model_files())
    found = _ask(there, acme)
    imports.import_cancel(actor=acme.actor, tenant_id=acme.tenant_id, import_id=found.pk)
    hub.files["README.md"] = b"# Another\n"
    imports.import_retry(actor=acme.actor, tenant_id=acme.tenant_id, import_id=found.pk)
    job.import_next()
    assert _outcome(found) == (ImportStatus.SUCCEEDED, "")
    assert _served(found)["README.md"] == hub.sha256("README.md")


def test_a_list_of_links_without_end_takes_no_time(there: Origin, acme: Customer) -> None:
    hub = _hub(there, model_files())
    real = there.routes[f"/api/models/acme/tiny/tree/{COMMIT}"]

    def linked(seen: Seen) -> Reply:
        reply = real(seen)
        return Reply(reply.status, reply.body, {"Link": "<a>;" * 15_000})

    there.answers(f"/api/models/acme/tiny/tree/{COMMIT}", linked)
    begun = clock.now()
    found = _ask(there, acme)
    job.import_next()
    assert (clock.now() - begun).total_seconds() < 5
    assert _outcome(found) == (ImportStatus.SUCCEEDED, "")
    assert set(_served(found)) == set(hub.files)
