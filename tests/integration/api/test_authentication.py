"""Who gets in, and how everybody else is told."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client

from freehold.common import clock
from freehold.db.rls import system_scope, tenant_scope
from freehold.tenancy.choices import Role
from freehold.tenancy.models import ApiKey, Tenant
from freehold.tenancy.services import api_key_create, api_key_revoke
from tests.factories.tenants import SYSTEM
from tests.integration.api.client import Api, api_of


def test_a_key_names_its_tenant_role_and_addresses(acme: Tenant) -> None:
    answer = api_of(acme, Role.VIEWER).get("/tenants/me")
    assert answer.status == 200
    assert (answer.body["id"], answer.body["slug"], answer.body["role"]) == (acme.public_id, "acme", "viewer")
    assert answer.body["api_url"] == answer.body["hub_url"] + "/api/v1"
    assert answer.body["gateway_url"].startswith("http")
    assert answer.headers["X-Request-Id"].startswith("req_")


@pytest.mark.parametrize(
    "header",
    ["Bearer fh_wrong", "Bearer sk-other", "Bearer ", "Bearer", "Basic Zm9vOmJhcg==", "fh_wrong", "Bearer fh_\xe9"],
)
def test_whatever_is_no_valid_key_is_a_401_with_a_challenge(acme: Tenant, header: str) -> None:
    answer = Api(None).call("get", "/tenants/me", {}, Authorization=header)
    assert answer.problem == (401, "not_authenticated", None)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_no_header_is_a_401_with_a_challenge(acme: Tenant) -> None:
    answer = Api(None).get("/tenants/me")
    assert answer.problem == (401, "not_authenticated", None)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_revoked_key_is_refused(acme: Tenant, api: Api) -> None:
    with tenant_scope(acme.pk):
        key = ApiKey.objects.get()
    api_key_revoke(actor=SYSTEM, tenant_id=acme.pk, key_id=key.pk)
    assert api.get("/tenants/me").problem == (401, "not_authenticated", None)


def test_an_expired_key_is_refused(acme: Tenant) -> None:
    new = api_key_create(
        actor=SYSTEM, tenant_id=acme.pk, name="soon", role=Role.ADMIN, expires_at=clock.now() + timedelta(hours=1)
    )
    assert Api(new.secret).get("/tenants/me").status == 200
    with tenant_scope(acme.pk):
        ApiKey.objects.filter(pk=new.key.pk).update(expires_at=clock.now() - timedelta(seconds=1))
    assert Api(new.secret).get("/tenants/me").problem == (401, "not_authenticated", None)


def test_a_suspended_tenant_is_told_so(acme: Tenant, api: Api) -> None:
    with system_scope("a test suspends a tenant"):
        Tenant.objects.filter(pk=acme.pk).update(suspended_at=clock.now())
    assert api.get("/tenants/me").problem == (403, "permission_denied", None)


def test_a_signed_in_browser_is_nobody_to_the_api(acme: Tenant) -> None:
    """No cookies: nothing on another site can call the API as the person who reads it."""
    assert Client().get("/api/v1/tenants/me").status_code == 401


@pytest.mark.parametrize(
    "path", ["/tenants/me", "/api-keys", "/models", "/endpoints", "/usage", "/models/mdl_x", "/endpoints/ep_x/logs"]
)
def test_a_key_for_inference_reads_nothing(acme: Tenant, path: str) -> None:
    assert api_of(acme, Role.INFERENCE).get(path).problem == (403, "permission_denied", None)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api-keys", {"name": "mine", "role": "viewer"}),
        ("/models", {"name": "mine"}),
        ("/endpoints", {"name": "mine", "model": "acme/tiny"}),
    ],
)
def test_a_viewer_may_create_nothing(acme: Tenant, path: str, body: dict[str, str]) -> None:
    answer = api_of(acme, Role.VIEWER).post(path, body)
    assert answer.problem == (403, "permission_denied", None)
    assert "admin" in answer.body["detail"]


def test_a_viewer_may_delete_nothing(acme: Tenant) -> None:
    for path in ("/api-keys/key_x", "/models/mdl_x", "/endpoints/ep_x"):
        assert api_of(acme, Role.VIEWER).delete(path).problem == (403, "permission_denied", None)
