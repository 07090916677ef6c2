"""Quotas and what counts against them, on the real database."""

from __future__ import annotations

import uuid

import pytest
from django.conf import settings as installation
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from freehold.audit.models import AuditEvent
from freehold.common.errors import InvalidInput, NotFound, PermissionDenied
from freehold.db.rls import tenant_scope
from freehold.registry import accounts, occupancy, services
from freehold.registry.accounts import NO_LIMIT, QuotaExceeded
from freehold.registry.models import StorageAccount, Upload
from freehold.registry.storage import object_store
from freehold.tenancy.services import operator_create
from tests.factories.tenants import SYSTEM
from tests.integration.registry.stored import Keeper, committed, keeper, sha256_of

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def acme() -> Keeper:
    """A tenant."""
    return keeper()


def allow(of: Keeper, quota: int | None) -> None:
    accounts.quota_set(actor=SYSTEM, tenant_id=of.tenant_id, quota_bytes=quota)


def usage(of: Keeper) -> accounts.StorageUsage:
    return accounts.storage_usage(tenant_id=of.tenant_id)


def test_what_fits_to_the_byte_is_taken_and_one_more_is_refused(acme: Keeper) -> None:
    allow(acme, 10)
    with pytest.raises(QuotaExceeded):
        acme.begin(b"eleven byte")
    assert acme.begin(b"ten bytes!") is not None
    assert usage(acme).free_bytes == 0
    assert acme.begin(b"") is not None
    with pytest.raises(QuotaExceeded, match="only 0 B are free"):
        acme.begin(b"1")
    assert acme.begin(b"ten bytes!") is not None  # the same upload goes on


def test_a_refusal_leaves_nothing_and_says_what_to_do(acme: Keeper) -> None:
    allow(acme, 4096)
    with pytest.raises(QuotaExceeded) as refused:
        services.contents_add(actor=acme.actor, tenant_id=acme.tenant_id, contents=[b"small", b"x" * 5000])
    assert refused.value.message == (
        "This upload needs 4.9 KiB, but of your tenant's 4.0 KiB of storage only 4.0 KiB are free (0 B stored, "
        "0 B reserved by uploads under way). Delete models you no longer need, or ask your provider for more."
    )
    assert acme.known == acme.stored == set()
    assert acme.uploads == 0


def test_content_counts_once_for_its_tenant_however_many_models_hold_it(acme: Keeper) -> None:
    for name in ("first", "second"):
        for _ in range(2):
            acme.add(b"12345")
            committed(acme, name, [b"12345", b"12345"])
    assert usage(acme).stored_bytes == 5
    assert usage(keeper("rival")).stored_bytes == 0


def test_a_quota_below_what_is_there_only_keeps_new_content_out(acme: Keeper) -> None:
    acme.add(b"12345")
    allow(acme, 3)
    assert (usage(acme).used_bytes, usage(acme).free_bytes) == (5, 0)
    assert acme.begin(b"12345") is None
    committed(acme, "tiny", [b"12345"])
    with pytest.raises(QuotaExceeded):
        acme.add(b"1")
    allow(acme, 6)
    acme.add(b"1")


def test_the_default_holds_where_no_quota_is_set(acme: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "STORAGE_QUOTA_BYTES", 4)
    assert usage(acme).quota_bytes == 4
    with pytest.raises(QuotaExceeded):
        acme.add(b"12345")
    allow(acme, NO_LIMIT)
    assert (usage(acme).quota_bytes, usage(acme).free_bytes) == (None, None)
    acme.add(b"12345")
    allow(acme, None)
    assert usage(acme).quota_bytes == 4
    allow(acme, 0)
    assert usage(acme).quota_bytes == 0


def test_only_the_operator_sets_a_quota_and_it_is_recorded(acme: Keeper) -> None:
    with pytest.raises(PermissionDenied, match="Only the operator"):
        accounts.quota_set(actor=acme.actor, tenant_id=acme.tenant_id, quota_bytes=NO_LIMIT)
    with pytest.raises(InvalidInput):
        allow(acme, -2)
    with pytest.raises(NotFound):
        accounts.quota_set(actor=SYSTEM, tenant_id=uuid.uuid4(), quota_bytes=1)
    for _ in range(2):
        allow(acme, 1024)
    with tenant_scope(acme.tenant_id):
        (event,) = AuditEvent.objects.filter(action="quota.set")
    assert event.detail == {"quota": "1.0 KiB", "before": "default"}


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("500GiB", 500 * 1024**3),
        ("1.5 TiB", 3 * 1024**4 // 2),
        ("2g", 2 * 1024**3),
        ("1024", 1024),
        ("7 B", 7),
        ("0", 0),
        ("None", NO_LIMIT),
        ("default", None),
    ],
)
def test_a_quota_is_read_as_people_write_it(text: str, quota: int | None) -> None:
    assert accounts.quota_parse(text) == quota
    assert accounts.quota_parse(accounts.quota_in_words(quota)) == quota


@pytest.mark.parametrize("text", ["", "much", "-1", "5GB", "1e9", "5 XiB", "1.2.3", "٣"])
def test_what_is_no_quota_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no quota"):
        accounts.quota_parse(text)


def test_the_command_shows_and_sets(acme: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    acme.add(b"x" * 2048)
    call_command("storage_quota", "acme")
    assert capsys.readouterr().out == ("acme: 2.0 KiB stored, 0 B reserved by uploads under way; quota: no limit\n")
    call_command("storage_quota", "acme", "1KiB")
    out = capsys.readouterr().out
    assert "quota: 1.0 KiB" in out
    assert "more than the quota" in out
    with pytest.raises(CommandError, match="is no quota"):
        call_command("storage_quota", "acme", "lots")


def test_the_operator_sets_a_quota_in_the_admin(acme: Keeper) -> None:
    client = Client()
    client.force_login(operator_create(actor=SYSTEM, email="op@example.com", password="correct horse battery"))
    add = reverse("admin:registry_storageaccount_add")
    answer = client.post(add, {"tenant": str(acme.tenant_id), "quota": "5 lots"})
    assert "is no quota" in answer.content.decode()
    assert client.post(add, {"tenant": str(acme.tenant_id), "quota": "2GiB"}).status_code == 302
    with tenant_scope(acme.tenant_id):
        account = StorageAccount.objects.get()
        event = AuditEvent.objects.get(action="quota.set")
    assert account.quota_bytes == 2 * 1024**3
    assert event.actor_label == "op@example.com"
    acme.add(b"x" * 2048)
    shown = client.get(reverse("admin:registry_storageaccount_changelist")).content.decode()
    assert "2.0 GiB" in shown
    assert "2.0 KiB" in shown
    change = reverse("admin:registry_storageaccount_change", args=[account.pk])
    assert 'value="2.0 GiB"' in client.get(change).content.decode()
    assert client.post(change, {"quota": "none"}).status_code == 302
    assert usage(acme).quota_bytes is None
    delete = reverse("admin:registry_storageaccount_delete", args=[account.pk])
    assert client.post(delete, {"post": "yes"}).status_code == 403


def test_each_model_shows_what_it_holds_and_what_deleting_it_would_free(acme: Keeper) -> None:
    contents = {name: name.encode() * size for name, size in (("a", 100), ("b", 10), ("c", 1))}
    for content in contents.values():
        acme.add(content)
    committed(acme, "first", [contents["a"], contents["b"]])
    committed(acme, "first", [contents["a"], contents["c"]])
    committed(acme, "second", [contents["b"]])
    committed(acme, "third", [])
    found = occupancy.storage_by_model(tenant_id=acme.tenant_id)
    assert [(each.repo.full_name, each.bytes, each.unique_bytes) for each in found] == [
        ("acme/first", 111, 101),
        ("acme/second", 10, 0),
    ]
    assert [each.repo.name for each in occupancy.storage_by_model(tenant_id=acme.tenant_id, most=1)] == ["first"]
    assert occupancy.storage_by_model(tenant_id=keeper("rival").tenant_id) == []


def test_what_no_model_uses_yet_is_shown_with_its_time(acme: Keeper) -> None:
    assert occupancy.storage_unreferenced(tenant_id=acme.tenant_id).kept_until is None
    acme.add(b"used")
    acme.add(b"not used")
    committed(acme, "tiny", [b"used"])
    found = occupancy.storage_unreferenced(tenant_id=acme.tenant_id)
    assert (found.contents, found.bytes) == (1, 8)
    assert found.kept_until is not None


def test_uploads_under_way_show_what_has_come(acme: Keeper) -> None:
    whole = acme.begin(b"whole")
    parts = services.upload_begin_unnamed(actor=acme.actor, tenant_id=acme.tenant_id, size=1000)
    assert whole is not None
    store = object_store()
    writer = store.part_writer(parts.multipart, number=1)
    writer.write(bytes(1000))
    writer.commit()
    found = occupancy.uploads_under_way(tenant_id=acme.tenant_id)
    assert [(each.upload.pk, each.received_bytes) for each in found] == [(parts.pk, 1000), (whole.pk, None)]
    store.multipart_abort(parts.multipart)
    assert occupancy.uploads_under_way(tenant_id=acme.tenant_id)[0].received_bytes is None
    with tenant_scope(acme.tenant_id):
        assert Upload.objects.filter(sha256=sha256_of(b"whole")).exists()
