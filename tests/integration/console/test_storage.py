"""Storage on the console: where it goes, and how to get room."""

from __future__ import annotations

from datetime import timedelta

import pytest

from freehold.common import clock
from freehold.db.rls import tenant_scope
from freehold.registry import services
from freehold.registry.models import Blob, StorageAccount, Upload
from freehold.tenancy.models import Tenant
from tests.factories.models_on_disk import model_files
from tests.factories.tenants import actor_in
from tests.integration.console.furniture import upload
from tests.integration.console.people import Person, sign_in

DISCARD = "/console/storage/discard"


@pytest.fixture
def developer(acme: Tenant) -> Person:
    """A developer of `acme`, signed in."""
    return sign_in("dev@acme.example", (acme, "developer"))


def _reserve(tenant: Tenant, size: int = 5_242_880) -> Upload:
    content = services.Content(sha256="d" * 64, size=size)
    found = services.uploads_begin(actor=actor_in(tenant), tenant_id=tenant.pk, contents=[content])[content.sha256]
    assert found is not None
    return found


def _uploads(tenant: Tenant) -> int:
    with tenant_scope(tenant.pk):
        return Upload.objects.filter(doomed_at=None, expires_at__gt=clock.now()).count()


def test_it_shows_models_uploads_and_what_no_model_uses(acme: Tenant, viewer: Person) -> None:
    upload(acme, "real", model_files(fill=1_048_576))
    services.content_add(actor=actor_in(acme), tenant_id=acme.pk, content=b"x" * 2048)
    _reserve(acme)
    page = viewer.get("/console/storage").text
    for shown in ("acme/real", "1 MiB", "no limit", "2 KiB</strong> in 1 file", "5 MiB", "dddddddddddd…"):
        assert shown in page
    assert "<form" not in page[page.index("<main") :]


def test_an_empty_storage_has_nothing_to_free(acme: Tenant, developer: Person) -> None:
    page = developer.get("/console/storage").text
    assert "Nothing: every byte belongs" in page
    assert "Free now" not in page


def test_a_quota_says_what_to_do_when_it_is_full(acme: Tenant, viewer: Person) -> None:
    with tenant_scope(acme.pk):
        StorageAccount.objects.create(tenant=acme, quota_bytes=0)
    page = viewer.get("/console/storage").text
    assert "The storage is full" in page
    assert "ask your provider for a larger quota" in page


def test_an_upload_is_cancelled(acme: Tenant, developer: Person) -> None:
    found = _reserve(acme)
    path = f"/console/storage/uploads/{found.public_id}/cancel"
    assert path in developer.get("/console/storage").text
    assert "The upload is cancelled" in developer.follow(path).text
    assert _uploads(acme) == 0
    assert developer.post(path).status == 404
    assert developer.get(path).status == 405


def test_what_was_left_alone_for_a_day_is_freed(acme: Tenant, developer: Person) -> None:
    services.content_add(actor=actor_in(acme), tenant_id=acme.pk, content=b"x" * 2048)
    assert "nothing that was left alone for a day" in developer.follow(DISCARD).text
    with tenant_scope(acme.pk):
        Blob.objects.update(keep_until=clock.now() + timedelta(minutes=1))
    assert "2.0 KiB are being freed" in developer.follow(DISCARD).text
    assert "Free now" not in developer.get("/console/storage").text


def test_everything_that_no_model_uses_is_freed_where_that_is_asked_for(acme: Tenant, developer: Person) -> None:
    services.content_add(actor=actor_in(acme), tenant_id=acme.pk, content=b"x" * 2048)
    _reserve(acme)
    assert "5.0 MiB are being freed" in developer.follow(DISCARD, all="1").text
    assert _uploads(acme) == 0


def test_a_viewer_frees_nothing(acme: Tenant, viewer: Person) -> None:
    found = _reserve(acme)
    assert viewer.post(DISCARD, all="1").status == 403
    assert viewer.post(f"/console/storage/uploads/{found.public_id}/cancel").status == 403
    assert _uploads(acme) == 1


def test_another_tenants_upload_is_not_found(rival: Tenant, developer: Person) -> None:
    found = _reserve(rival)
    assert found.sha256[:12] not in developer.get("/console/storage").text
    assert developer.post(f"/console/storage/uploads/{found.public_id}/cancel").status == 404
    assert developer.post("/console/storage/uploads/nonsense/cancel").status == 404
    assert _uploads(rival) == 1
