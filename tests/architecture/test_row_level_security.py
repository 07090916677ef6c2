"""Invariant 1's floor: every table with a tenant's rows is under forced row-level security, and so are we."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.db import connection, transaction
from django.db.models import Model

from freehold.api.models import IdempotencyRecord
from freehold.db.rls import system_scope, tenant_scope
from freehold.onebox.postgres import APP, OWNER, EmbeddedPostgres
from freehold.registry.models import ModelRepo
from freehold.tenancy.models import Tenant
from tests.factories.tenants import make_endpoint, make_fleet, make_revision, make_tenant

DATABASE = "freehold_test"

# Whatever a policy says, it must come down to these two settings (db.rls).
SETTINGS = ("freehold.tenant", "freehold.scope")


def tenant_owned() -> list[type[Model]]:
    """Models with a tenant's rows: whatever has a column `tenant_id`, and the tenants themselves."""
    return [
        model
        for model in apps.get_models()
        if model is Tenant or any(field.column == "tenant_id" for field in model._meta.concrete_fields)
    ]


def query(sql: str, *parameters: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def with_partitions(table: str) -> list[str]:
    """The table and, where it is partitioned, every partition: a partition can be named and read by itself."""
    rows = query(
        "SELECT c.relname FROM pg_class c WHERE c.oid = %s::regclass "
        "UNION SELECT c.relname FROM pg_partition_tree(%s::regclass) p JOIN pg_class c ON c.oid = p.relid",
        table,
        table,
    )
    return sorted(name for (name,) in rows)


@pytest.mark.django_db
def test_there_are_tenant_owned_tables_to_look_at() -> None:
    names = {model._meta.label for model in tenant_owned()}
    assert {"tenancy.ApiKey", "serving.Endpoint", "metering.UsageEvent", "audit.AuditEvent", "tenancy.Tenant"} <= names


@pytest.mark.django_db
@pytest.mark.parametrize("model", tenant_owned(), ids=lambda model: model._meta.label)
def test_every_tenant_owned_table_has_forced_row_level_security(model: type[Model]) -> None:
    for table in with_partitions(model._meta.db_table):
        ((enabled, forced),) = query(
            "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = %s::regclass", table
        )
        assert enabled, f"{table} has no row-level security: add rls.enable({table!r}) to its migration"
        assert forced, f"{table}: its owner is exempt"
        policies = query("SELECT permissive, cmd, qual, with_check FROM pg_policies WHERE tablename = %s", table)
        assert len(policies) == 1, f"{table}: policies of one kind are joined by OR, so there is one"
        ((_, command, condition, check),) = policies
        assert command == "ALL", table
        assert check is None, f"{table}: what may be read may be written"
        column = "id" if model is Tenant else "tenant_id"
        assert condition.startswith(f"(({column} = (NULLIF("), f"{table}: {condition}"
        assert all(setting in condition for setting in SETTINGS), f"{table}: {condition}"
        assert condition.count(" OR ") == 1, f"{table}: {condition}"


@pytest.mark.django_db
def test_no_table_with_a_tenant_column_escapes_the_models() -> None:
    """Tables that a migration made behind Django's back."""
    bare = query(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped "
        "WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
    )
    assert bare == []


@pytest.mark.django_db
def test_no_view_shows_what_a_table_hides() -> None:
    """A view reads with its owner's rights unless it says security_invoker."""
    views = query(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = 'public' AND c.relkind IN ('v', 'm') "
        "AND NOT coalesce(c.reloptions, '{}') && ARRAY['security_invoker=true', 'security_invoker=on']"
    )
    assert views == []


@pytest.mark.django_db
def test_the_applications_role_is_nobody_special() -> None:
    ((name, superuser, bypass, create_role, create_db),) = query(
        "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
    )
    assert name == APP
    assert not any((superuser, bypass, create_role, create_db))
    assert query("SELECT 1 FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = %s", APP) == []


@pytest.mark.django_db
def test_the_applications_role_owns_nothing() -> None:
    assert (
        query("SELECT relname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = current_user")
        == []
    )
    ((owner,),) = query(
        "SELECT rolname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE datname = current_database()"
    )
    assert owner == OWNER


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE tenancy_apikey DISABLE ROW LEVEL SECURITY",
        "SET row_security = off; SELECT count(*) FROM tenancy_apikey",
    ],
)
def test_the_applications_role_cannot_switch_it_off(
    django_db_setup: None, postgres: EmbeddedPostgres, statement: str
) -> None:
    """row_security=off makes a query fail instead of being filtered, so it opens nothing either."""
    with psycopg.connect(postgres.url(APP, DATABASE)) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(statement)


@pytest.fixture
def two_tenants(db: None) -> tuple[Tenant, Tenant]:
    """Each with a model, an endpoint, a key's answer."""
    make_fleet()
    tenants = (make_tenant("acme"), make_tenant("rival"))
    for tenant in tenants:
        make_revision(tenant)
        make_endpoint(tenant)
        with tenant_scope(tenant.pk):
            IdempotencyRecord.objects.create(tenant=tenant, key="k", fingerprint="f", status=201, body="{}")
    return tenants


def owners(model: type[Model]) -> set[Any]:
    return set(model._default_manager.values_list("pk" if model is Tenant else "tenant_id", flat=True))


def test_a_tenants_scope_sees_its_rows_and_no_others(two_tenants: tuple[Tenant, Tenant]) -> None:
    for tenant in two_tenants:
        with tenant_scope(tenant.pk):
            seen = {model: owners(model) for model in tenant_owned()}
        assert all(rows <= {tenant.pk} for rows in seen.values()), seen
        assert sum(bool(rows) for rows in seen.values()) >= 7
    with system_scope("a test counts everything"):
        assert owners(ModelRepo) == {tenant.pk for tenant in two_tenants}


def test_without_a_scope_there_is_nothing(two_tenants: tuple[Tenant, Tenant]) -> None:
    for model in tenant_owned():
        assert owners(model) == set(), model._meta.label


def test_a_scope_ends_with_its_block(two_tenants: tuple[Tenant, Tenant]) -> None:
    acme, rival = two_tenants
    with tenant_scope(acme.pk):
        with tenant_scope(rival.pk):
            assert owners(ModelRepo) == {rival.pk}
        assert owners(ModelRepo) == {acme.pk}
        with pytest.raises(RuntimeError), system_scope("a test that fails half-way"):
            raise RuntimeError
        assert owners(ModelRepo) == {acme.pk}
    assert owners(ModelRepo) == set()


def test_another_tenants_rows_can_be_neither_written_changed_nor_deleted(two_tenants: tuple[Tenant, Tenant]) -> None:
    acme, rival = two_tenants
    with system_scope("a test looks for a victim"):
        victim = ModelRepo.objects.get(tenant=rival)
    with tenant_scope(acme.pk):
        assert ModelRepo.objects.filter(pk=victim.pk).update(name="mine") == 0
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM registry_modelrepo WHERE id = %s", [victim.pk])
            assert cursor.rowcount == 0
        for tenant_id in (rival.pk, victim.pk):
            with pytest.raises(Exception, match="row-level security"), transaction.atomic():
                ModelRepo.objects.create(tenant_id=tenant_id, name="planted")
        with pytest.raises(Exception, match="row-level security"), transaction.atomic():
            ModelRepo.objects.update(tenant_id=rival.pk)


@pytest.mark.usefixtures("committed_db")
def test_a_pooled_connection_remembers_no_scope() -> None:
    """The next request on the same connection starts with nothing."""
    tenant = make_tenant()
    make_revision(tenant)
    with tenant_scope(tenant.pk):
        assert owners(ModelRepo) == {tenant.pk}
    assert owners(ModelRepo) == set()
    seen: list[set[Any]] = []

    def elsewhere() -> None:
        seen.append(owners(ModelRepo))
        connection.close()

    connection.close()
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [set()]
