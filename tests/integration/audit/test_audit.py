"""The audit trail: complete, append-only, chained."""

from __future__ import annotations

import threading

import psycopg
import pytest
from django.db import DatabaseError, connection

from freehold.audit.models import AuditEvent
from freehold.audit.services import first_broken
from freehold.db.rls import system_scope, tenant_scope
from freehold.onebox.postgres import SUPERUSER, EmbeddedPostgres
from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from freehold.tenancy.services import api_key_create, api_key_revoke
from tests.factories.tenants import SYSTEM, actor_in, make_tenant

pytestmark = pytest.mark.usefixtures("committed_db")


def test_writes_leave_events_with_who_what_and_whom() -> None:
    tenant = make_tenant()
    actor = actor_in(tenant)
    made = api_key_create(actor=actor, tenant_id=tenant.pk, name="ci", role=Role.INFERENCE)
    api_key_revoke(actor=actor, tenant_id=tenant.pk, key_id=made.key.pk)
    api_key_revoke(actor=actor, tenant_id=tenant.pk, key_id=made.key.pk)
    with tenant_scope(tenant.pk):
        events = list(AuditEvent.objects.order_by("sequence"))
    assert [event.action for event in events] == ["tenant.create", "key.create", "key.revoke"]
    assert events[1].actor_id == actor.id
    assert events[1].object_id == made.key.public_id
    assert made.secret not in str([event.detail for event in events])


def test_a_write_that_fails_leaves_no_event() -> None:
    tenant = make_tenant()
    with pytest.raises(Exception, match="slug"):
        make_tenant()
    with tenant_scope(tenant.pk):
        assert AuditEvent.objects.count() == 1


def test_events_can_be_neither_changed_nor_deleted() -> None:
    tenant = make_tenant()
    with pytest.raises(DatabaseError, match="append-only"), tenant_scope(tenant.pk):
        AuditEvent.objects.update(action="innocent")
    with pytest.raises(DatabaseError, match="append-only"), tenant_scope(tenant.pk):
        AuditEvent.objects.all().delete()


def test_a_chain_altered_behind_our_back_is_found(postgres: EmbeddedPostgres) -> None:
    tenant = make_tenant()
    for number in range(3):
        api_key_create(actor=SYSTEM, tenant_id=tenant.pk, name=f"k{number}", role=Role.VIEWER)
    with tenant_scope(tenant.pk):
        assert first_broken(tenant_id=tenant.pk) is None
    url = postgres.url(SUPERUSER, connection.settings_dict["NAME"])
    with psycopg.connect(url, autocommit=True) as direct:
        direct.execute("SET session_replication_role = replica")
        direct.execute("UPDATE audit_auditevent SET actor_label = 'nobody' WHERE sequence = 3")
    with tenant_scope(tenant.pk):
        assert first_broken(tenant_id=tenant.pk) == 3
    with psycopg.connect(url, autocommit=True) as direct:
        direct.execute("SET session_replication_role = replica")
        direct.execute("DELETE FROM audit_auditevent WHERE sequence = 2")
    with tenant_scope(tenant.pk):
        assert first_broken(tenant_id=tenant.pk) == 2


def test_writers_at_once_make_one_unbroken_chain() -> None:
    tenant: Tenant = make_tenant()

    def write(number: int) -> None:
        try:
            api_key_create(actor=SYSTEM, tenant_id=tenant.pk, name=f"k{number}", role=Role.VIEWER)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    with system_scope("tests"):
        assert AuditEvent.objects.filter(tenant_id=tenant.pk).count() == 9
        assert first_broken(tenant_id=tenant.pk) is None
