"""Row-level security scopes, as the application's role."""

from __future__ import annotations

import uuid

import pytest
from django.db import DatabaseError, connection, transaction

from freehold.db.rls import system_scope, tenant_scope
from freehold.tenancy.choices import Role
from freehold.tenancy.models import ApiKey, Tenant
from freehold.tenancy.services import api_key_create
from tests.factories.tenants import SYSTEM, make_tenant

pytestmark = pytest.mark.usefixtures("committed_db")


@pytest.fixture
def two() -> tuple[Tenant, Tenant]:
    """Two tenants with a key each."""
    tenants = make_tenant("acme"), make_tenant("other")
    for tenant in tenants:
        api_key_create(actor=SYSTEM, tenant_id=tenant.pk, name=tenant.slug, role=Role.ADMIN)
    return tenants


def visible() -> set[str]:
    return set(ApiKey.objects.values_list("name", flat=True))


def test_without_a_scope_nothing_is_there(two: tuple[Tenant, Tenant]) -> None:
    assert visible() == set()
    assert not Tenant.objects.exists()


def test_a_tenants_scope_shows_its_own_rows_and_no_others(two: tuple[Tenant, Tenant]) -> None:
    with tenant_scope(two[0].pk):
        assert visible() == {"acme"}
        assert list(Tenant.objects.values_list("slug", flat=True)) == ["acme"]
    assert visible() == set(), "nothing survives the transaction"


def test_system_scope_shows_everything(two: tuple[Tenant, Tenant]) -> None:
    with system_scope("tests"):
        assert visible() == {"acme", "other"}


def test_scopes_nest_and_the_outer_one_comes_back(two: tuple[Tenant, Tenant]) -> None:
    with tenant_scope(two[0].pk):
        with tenant_scope(two[1].pk):
            assert visible() == {"other"}
        assert visible() == {"acme"}
        with system_scope("tests"):
            assert visible() == {"acme", "other"}
        assert visible() == {"acme"}


def test_the_outer_scope_comes_back_after_an_error_too(two: tuple[Tenant, Tenant]) -> None:
    with tenant_scope(two[0].pk):
        with pytest.raises(RuntimeError), system_scope("tests"):
            raise RuntimeError
        assert visible() == {"acme"}
        with pytest.raises(DatabaseError), tenant_scope(two[1].pk), connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
        assert visible() == {"acme"}


def test_a_row_cannot_be_written_into_another_tenant(two: tuple[Tenant, Tenant]) -> None:
    values = {"name": "stolen", "role": "admin", "secret_sha256": "0" * 64, "hint": "", "created_by": ""}
    with pytest.raises(DatabaseError, match="row-level security"), tenant_scope(two[0].pk):
        ApiKey.objects.create(tenant_id=two[1].pk, **values)
    with tenant_scope(two[0].pk):
        assert ApiKey.objects.filter(tenant_id=two[1].pk).update(name="mine") == 0
        assert ApiKey.objects.filter(tenant_id=two[1].pk).delete()[0] == 0


def test_the_setting_cannot_be_fooled_by_an_empty_or_foreign_value(two: tuple[Tenant, Tenant]) -> None:
    with tenant_scope(uuid.uuid4()):
        assert visible() == set()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('freehold.tenant', '', true), set_config('freehold.scope', '', true)")
        assert visible() == set()


def test_the_role_can_neither_bypass_nor_drop_the_policies(two: tuple[Tenant, Tenant]) -> None:
    for statement in (
        "ALTER TABLE tenancy_apikey DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenancy_apikey_tenant ON tenancy_apikey",
        "TRUNCATE tenancy_apikey",
        "SET ROLE freehold_owner",
    ):
        with pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute(statement)
