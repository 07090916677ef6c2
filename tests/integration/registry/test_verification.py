"""What went past us is served once its bytes are hashed, by one worker at a time, and never if they differ."""

from __future__ import annotations

import hashlib
import threading
from datetime import datetime, timedelta
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest
from django.conf import settings
from django.db import connection

from freehold.audit.models import AuditEvent
from freehold.common import clock
from freehold.common.errors import Conflict, Refused
from freehold.db.rls import tenant_scope
from freehold.registry import selectors, services, verification
from freehold.registry.choices import RevisionStatus
from freehold.registry.contents import Content
from freehold.registry.models import Blob, Revision, WeightHeader
from freehold.registry.storage import object_store
from freehold.registry.storage.bucket import Location
from freehold.registry.storage.local import LocalStore
from freehold.registry.storage.s3 import S3Store
from freehold.registry.trees import Add, Operation
from freehold.registry.verification import Found, LostClaim, verification_progress
from freehold.serving.services import endpoint_create
from freehold.tenancy.models import Tenant
from tests.factories.models_on_disk import model_files
from tests.factories.tenants import actor_in, make_fleet, make_tenant
from workers.jobs import storage

pytestmark = pytest.mark.usefixtures("committed_db")


@pytest.fixture
def acme(s3_settings: Location) -> Tenant:
    """A tenant of an installation whose object store is S3, with an empty model `tiny`."""
    tenant = make_tenant()
    make_fleet()
    services.model_create(actor=actor_in(tenant), tenant_id=tenant.pk, name="tiny")
    return tenant


def send(tenant: Tenant, content: bytes, *, arrives: bytes | None = None) -> Add:
    """PUTs content to a presigned URL as a client does, declared as `content`; something else may arrive."""
    sha256, size = hashlib.sha256(content).hexdigest(), len(content)
    actor = actor_in(tenant)
    upload = services.uploads_begin(actor=actor, tenant_id=tenant.pk, contents=[Content(sha256=sha256, size=size)])[
        sha256
    ]
    if upload is not None:
        url = object_store().upload_url(tenant.pk, sha256=sha256, size=size, seconds=60)
        assert url is not None
        assert httpx.put(url, content=content if arrives is None else arrives).is_success
        assert object_store().size(tenant.pk, sha256) == size
        services.upload_finish(actor=actor, tenant_id=tenant.pk, upload_id=upload.pk, sha256=sha256, verified=False)
    entry = services.content_find(tenant_id=tenant.pk, sha256=sha256)
    assert entry is not None
    return Add(path="model.safetensors", entry=entry)


def commit(tenant: Tenant, weights: Add, *, leave_out: str = "") -> Revision:
    """Weights by a presigned URL, the rest through the hub."""
    actor = actor_in(tenant)
    operations: list[Operation] = [weights]
    for path, content in model_files().items():
        if path not in {weights.path, leave_out}:
            entry = services.content_add(actor=actor, tenant_id=tenant.pk, content=content)
            operations.append(Add(path=path, entry=entry))
    return services.revision_commit(
        actor=actor,
        tenant_id=tenant.pk,
        repo="tiny",
        operations=operations,
        message="Upload",
    )


def again(revision: Revision) -> Revision:
    return selectors.revision_by_key(tenant_id=revision.tenant_id, revision_id=revision.pk)


def deploy(tenant: Tenant) -> None:
    endpoint_create(actor=actor_in(tenant), tenant_id=tenant.pk, name="chat", model="acme/tiny")


def actions(tenant: Tenant) -> list[str]:
    with tenant_scope(tenant.pk):
        return list(
            AuditEvent.objects.filter(tenant_id=tenant.pk).order_by("sequence").values_list("action", flat=True)
        )


WEIGHTS = model_files(fill=100_000)["model.safetensors"]


def test_a_revision_is_verified_once_its_bytes_are_hashed(acme: Tenant) -> None:
    revision = commit(acme, send(acme, WEIGHTS))
    assert revision.status == RevisionStatus.VERIFYING
    done, total = verification_progress(revision=revision)
    assert total == sum(len(content) for path, content in model_files().items() if path != "model.safetensors") + len(
        WEIGHTS
    )
    assert done == total - len(WEIGHTS)
    with pytest.raises(Conflict, match=r"is still being verified: .* of .* are hashed\. Deploy it when it is done"):
        deploy(acme)
    assert storage.contents_verify() is False
    assert again(revision).status == RevisionStatus.VERIFIED
    assert verification_progress(revision=revision) == (total, total)
    assert "revision.verify" in actions(acme)
    deploy(acme)


def test_what_was_incomplete_stays_so(acme: Tenant) -> None:
    actor = actor_in(acme)
    revision = services.revision_commit(
        actor=actor, tenant_id=acme.pk, repo="tiny", operations=[send(acme, WEIGHTS)], message="upload-large-folder"
    )
    assert revision.status == RevisionStatus.VERIFYING
    storage.contents_verify()
    assert again(revision).status == RevisionStatus.INCOMPLETE


def test_other_bytes_than_declared_are_never_served(acme: Tenant) -> None:
    weights = send(acme, WEIGHTS, arrives=WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1]))
    revision = commit(acme, weights)
    assert revision.status == RevisionStatus.VERIFYING
    storage.contents_verify()
    refused = again(revision)
    assert refused.status == RevisionStatus.REFUSED
    [problem] = refused.inspection["problems"]
    assert (problem["file"], problem["reason"]) == ("model.safetensors", "hash_mismatch")
    assert f"not the declared {weights.entry.sha256}" in problem["detail"]
    with pytest.raises(Conflict, match=r"is refused.*model\.safetensors: arrived with the sha256 .* Upload it again"):
        deploy(acme)
    assert object_store().size(acme.pk, weights.entry.sha256) is None
    with tenant_scope(acme.pk):
        assert not Blob.objects.filter(sha256=weights.entry.sha256).exists()
        assert not WeightHeader.objects.filter(sha256=weights.entry.sha256).exists()
    assert actions(acme)[-3:] == ["revision.refuse", "blob.refuse", "storage.collect"]

    mended = commit(acme, send(acme, WEIGHTS))
    storage.contents_verify()
    assert mended.pk != revision.pk, "the same files again make a new revision"
    assert again(mended).status == RevisionStatus.VERIFIED
    assert again(revision).status == RevisionStatus.REFUSED
    deploy(acme)


def test_every_revision_that_holds_the_bytes_is_refused_and_no_other(acme: Tenant) -> None:
    good = commit(acme, send(acme, model_files(fill=10)["model.safetensors"]))
    bad = send(acme, WEIGHTS, arrives=bytes(len(WEIGHTS) - 8) + WEIGHTS[:8])
    with pytest.raises(Refused, match=r"model\.safetensors"):
        commit(acme, bad)  # these are not even weights
    wrong = WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1])
    object_store_put(acme, bad.entry.sha256, wrong)
    first = commit(acme, bad)
    with_more = services.content_add(actor=actor_in(acme), tenant_id=acme.pk, content=b"notes")
    second = services.revision_commit(
        actor=actor_in(acme),
        tenant_id=acme.pk,
        repo="tiny",
        operations=[Add(path="notes.txt", entry=with_more)],
        message="More",
    )
    storage.contents_verify()
    assert [again(each).status for each in (good, first, second)] == ["verified", "refused", "refused"]


def object_store_put(tenant: Tenant, sha256: str, content: bytes) -> None:
    """Past every check, as bytes go bad."""
    store = object_store()
    assert isinstance(store, S3Store)
    store._bucket._client.put_object(Bucket=settings.S3_BUCKET, Key=f"objects/{tenant.pk}/{sha256}", Body=content)


def test_content_that_is_gone_or_cut_is_refused_without_reading(acme: Tenant) -> None:
    cut, gone = model_files(fill=20)["model.safetensors"], model_files(fill=30)["model.safetensors"]
    revisions = [commit(acme, send(acme, content)) for content in (cut, gone)]
    object_store_put(acme, hashlib.sha256(cut).hexdigest(), cut[:-1])
    object_store().delete(acme.pk, hashlib.sha256(gone).hexdigest())
    storage.contents_verify()
    details = [again(revision).inspection["problems"][0]["detail"] for revision in revisions]
    assert details[0] == f"arrived with {len(cut) - 1} bytes, not the declared {len(cut)}"
    assert details[1] == "is gone from the object store"


def test_a_claim_is_one_workers_until_it_ends(acme: Tenant) -> None:
    send(acme, WEIGHTS)
    start = clock.now()
    first = verification.content_claim(now=lambda: start)
    assert first is not None
    assert verification.content_claim(now=lambda: start + timedelta(minutes=2)) is None
    assert not verification.contents_waiting(now=lambda: start + timedelta(minutes=2))
    longer = verification.content_beat(claim=first, now=lambda: start + timedelta(minutes=2))
    assert verification.content_claim(now=lambda: start + timedelta(minutes=4)) is None, "it was extended"
    with pytest.raises(LostClaim):
        verification.content_beat(claim=first)
    second = verification.content_claim(now=lambda: start + timedelta(minutes=6))
    assert second is not None
    assert second.blob_id == first.blob_id
    with pytest.raises(LostClaim):
        verification.content_settle(claim=longer, found=Found(sha256=first.sha256, size=first.size))
    with pytest.raises(LostClaim):
        verification.content_settle(claim=longer, found=Found(sha256="0" * 64, size=first.size))
    assert object_store().size(acme.pk, first.sha256) == first.size, "nobody may remove what another works on"
    assert verification.content_settle(claim=second, found=Found(sha256=first.sha256, size=first.size))


def test_a_worker_that_dies_is_followed_by_another(acme: Tenant) -> None:
    revision = commit(acme, send(acme, WEIGHTS))
    dead = verification.content_claim()  # and never heard of again
    assert dead is not None
    assert storage.contents_verify() is False
    assert again(revision).status == RevisionStatus.VERIFYING
    claim = verification.content_claim(now=lambda: dead.until + timedelta(seconds=1))
    assert claim is not None
    storage.content_verify(claim)
    assert again(revision).status == RevisionStatus.VERIFIED


def test_a_worker_that_is_told_to_stop_gives_its_claim_back(acme: Tenant) -> None:
    send(acme, WEIGHTS)
    claim = verification.content_claim()
    assert claim is not None
    storage.content_verify(claim, stopping=lambda: True)
    assert verification.contents_waiting()


def test_a_long_reading_keeps_its_claim(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    send(acme, model_files(fill=5_000_000)["model.safetensors"])
    claim = verification.content_claim()
    assert claim is not None
    beats: list[datetime] = []
    beat = verification.content_beat

    def counted(**arguments: object) -> verification.ContentClaim:
        longer = beat(**arguments)  # type: ignore[arg-type]
        beats.append(longer.until)
        return longer

    monkeypatch.setattr(verification, "content_beat", counted)
    ticks = iter(range(0, 10_000, 20))
    storage.content_verify(claim, monotonic=lambda: next(ticks))
    assert len(beats) >= 2
    assert beats == sorted(beats)
    assert not verification.contents_waiting()


def test_two_workers_at_once_hash_once(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    revision = commit(acme, send(acme, WEIGHTS))
    opened: list[str] = []
    reading = threading.Event()
    original = S3Store.open

    def counted(self: S3Store, tenant_id: object, sha256: str) -> BinaryIO:
        opened.append(sha256)
        reading.wait(10)
        return original(self, tenant_id, sha256)  # type: ignore[arg-type]

    monkeypatch.setattr(S3Store, "open", counted)

    def work() -> None:
        try:
            storage.contents_verify()
        finally:
            connection.close()
            reading.set()  # whoever finds nothing to do lets the other go on

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert len(opened) == 1
    assert again(revision).status == RevisionStatus.VERIFIED


def test_another_tenants_content_does_not_wait_behind_a_large_upload(acme: Tenant) -> None:
    rival = make_tenant("rival")
    send(acme, b"first of acme")
    send(acme, b"second of acme")
    send(rival, b"first of rival")
    order = []
    while (claim := verification.content_claim()) is not None:
        order.append(claim.tenant_id)
    assert order == [acme.pk, rival.pk, acme.pk]


def test_a_store_that_fails_refuses_nothing(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    revision = commit(acme, send(acme, WEIGHTS))

    def broken(*_: object) -> BufferedReader:
        raise ConnectionError("away")

    with monkeypatch.context() as patched:
        patched.setattr(S3Store, "open", broken)
        storage.contents_verify()
    assert again(revision).status == RevisionStatus.VERIFYING
    assert not verification.contents_waiting(), "later, when the claim has run out"
    later = clock.now() + timedelta(minutes=4)
    assert verification.contents_waiting(now=lambda: later)


def test_hashed_by_somebody_else_is_hashed(acme: Tenant) -> None:
    revision = commit(acme, send(acme, WEIGHTS))
    with tenant_scope(acme.pk):
        Blob.objects.filter(verified_at=None).update(verified_at=clock.now())
    storage.contents_verify()
    assert again(revision).status == RevisionStatus.VERIFIED


def test_content_of_a_folder_is_verified_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "OBJECT_STORE_PATH", tmp_path)
    tenant = make_tenant()
    services.model_create(actor=actor_in(tenant), tenant_id=tenant.pk, name="tiny")
    entry = services.content_add(actor=actor_in(tenant), tenant_id=tenant.pk, content=WEIGHTS)
    with tenant_scope(tenant.pk):
        Blob.objects.update(verified_at=None)
    revision = commit(tenant, Add(path="model.safetensors", entry=entry))
    path = LocalStore(tmp_path).path(tenant.pk, entry.sha256)
    path.write_bytes(WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1]))
    storage.contents_verify()
    assert again(revision).status == RevisionStatus.REFUSED
    assert not path.exists()
