"""Storage over the API."""

from __future__ import annotations

from datetime import timedelta

import pytest

from freehold.common import clock
from freehold.db.rls import tenant_scope
from freehold.registry import accounts, contents, services
from freehold.registry.models import Blob
from freehold.registry.trees import Add
from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from tests.factories.tenants import SYSTEM, actor_in
from tests.integration.api.client import Api, api_of


def begin(tenant: Tenant, digit: str, size: int) -> str:
    """The id of an upload that has begun."""
    wanted = services.Content(sha256=digit * 64, size=size)
    upload = services.uploads_begin(actor=actor_in(tenant), tenant_id=tenant.pk, contents=[wanted])[wanted.sha256]
    assert upload is not None
    return upload.public_id


def test_an_empty_tenant_has_all_its_room(api: Api) -> None:
    assert api.get("/storage").body == {
        "used_bytes": 0,
        "stored_bytes": 0,
        "reserved_bytes": 0,
        "quota_bytes": None,
        "free_bytes": None,
        "unreferenced_bytes": 0,
        "unreferenced_until": None,
        "uploads": [],
        "models": [],
    }


def test_everything_that_takes_room_is_shown(acme: Tenant, api: Api) -> None:
    accounts.quota_set(actor=SYSTEM, tenant_id=acme.pk, quota_bytes=1000)
    services.content_add(actor=actor_in(acme), tenant_id=acme.pk, content=b"not committed")
    upload = begin(acme, "a", 500)
    body = api.get("/storage").body
    assert (body["used_bytes"], body["stored_bytes"], body["reserved_bytes"]) == (513, 13, 500)
    assert (body["quota_bytes"], body["free_bytes"], body["unreferenced_bytes"]) == (1000, 487, 13)
    assert body["unreferenced_until"] is not None
    (shown,) = body["uploads"]
    assert (shown["id"], shown["sha256"], shown["size"], shown["received_bytes"]) == (upload, "a" * 64, 500, None)
    assert shown["expires_at"] > shown["created_at"]


def test_models_are_listed_by_what_they_hold(acme: Tenant, api: Api) -> None:
    model = api.post("/models", {"name": "tiny"}).body
    entry = services.content_add(actor=actor_in(acme), tenant_id=acme.pk, content=b"12345")
    services.revision_commit(
        actor=actor_in(acme),
        tenant_id=acme.pk,
        repo="tiny",
        operations=[Add(path=path, entry=entry) for path in ("a.txt", "b.txt")],
        message="twice",
    )
    body = api.get("/storage").body
    assert body["models"] == [{"id": model["id"], "name": "acme/tiny", "bytes": 5, "unique_bytes": 5}]
    assert (body["stored_bytes"], body["unreferenced_bytes"]) == (5, 0)
    assert api.get("/storage", models=0).body["models"] == []
    assert api.get("/storage", models=-1).problem == (400, "invalid_input", "models")


def test_an_upload_is_cancelled_by_who_may_write(acme: Tenant, api: Api, rival_api: Api) -> None:
    upload = begin(acme, "a", 500)
    assert api_of(acme, Role.VIEWER).delete(f"/storage/uploads/{upload}").problem[0] == 403
    assert rival_api.delete(f"/storage/uploads/{upload}").problem == (404, "not_found", None)
    assert api.delete("/storage/uploads/upl_nonsense").problem == (404, "not_found", None)
    assert api.delete(f"/storage/uploads/{upload}").status == 204
    assert api.get("/storage").body["used_bytes"] == 0
    assert api.delete(f"/storage/uploads/{upload}").problem == (404, "not_found", None)


def test_what_nobody_uses_is_given_up(acme: Tenant, api: Api) -> None:
    services.content_add(actor=actor_in(acme), tenant_id=acme.pk, content=b"old")
    with tenant_scope(acme.pk):
        Blob.objects.update(keep_until=clock.now() + contents.keep_for() - timedelta(hours=25))
    services.content_add(actor=actor_in(acme), tenant_id=acme.pk, content=b"young")
    begin(acme, "a", 500)
    assert api_of(acme, Role.VIEWER).post("/storage/cleanup", {}).problem[0] == 403
    answer = api.post("/storage/cleanup", {})
    assert (answer.status, answer.body) == (202, {"contents": 1, "uploads": 0, "freed_bytes": 3})
    answer = api.post("/storage/cleanup", {"idle_hours": 0})
    assert answer.body == {"contents": 2, "uploads": 1, "freed_bytes": 508}
    assert api.get("/storage").body["reserved_bytes"] == 0


@pytest.mark.parametrize("hours", [-1, "many", 1e9])
def test_a_time_that_is_none_is_refused(api: Api, hours: object) -> None:
    assert api.post("/storage/cleanup", {"idle_hours": hours}).problem == (400, "invalid_input", "idle_hours")
