"""Limits of tenants and keys: who may set them, what they may be, how gateways learn of them."""

from __future__ import annotations

from typing import cast

import pytest
import redis

from freehold.audit.models import AuditEvent
from freehold.common.errors import Conflict, FreeholdError, InvalidInput, NotFound, PermissionDenied
from freehold.common.ids import uuid7
from freehold.db.rls import tenant_scope
from freehold.tenancy import publication
from freehold.tenancy.actors import Actor
from freehold.tenancy.choices import ActorKind, Role
from freehold.tenancy.models import ApiKey, Tenant
from freehold.tenancy.services import (
    NewApiKey,
    api_key_create,
    api_key_limits_set,
    api_key_revoke,
    tenant_limits_set,
)
from freehold.wire import names
from freehold.wire.names import Section
from freehold.wire.publish import split
from freehold.wire.records import KeyRecord, Limits, TenantRecord, decode
from tests.factories.tenants import actor_in, make_tenant

OPERATOR = Actor(kind=ActorKind.USER, id="usr_1", label="op@example.org", operator=True)


def _key(tenant: Tenant, **limits: int | None) -> NewApiKey:
    return api_key_create(actor=actor_in(tenant), tenant_id=tenant.pk, name="app", role=Role.INFERENCE, limits=limits)


def _tenant_record(client: redis.Redis, tenant: Tenant) -> TenantRecord:
    stored = cast("bytes", client.hget(names.section(Section.TENANTS), tenant.public_id))
    return decode(split(stored)[1], TenantRecord)


def _key_record(client: redis.Redis, key: ApiKey) -> KeyRecord:
    stored = cast("bytes", client.hget(names.section(Section.KEYS), key.secret_sha256))
    return decode(split(stored)[1], KeyRecord)


def _audited(tenant: Tenant, action: str) -> list[object]:
    with tenant_scope(tenant.pk):
        return [event.detail for event in AuditEvent.objects.filter(action=action).order_by("sequence")]


@pytest.mark.usefixtures("committed_db")
def test_the_operator_limits_a_tenant_and_gateways_learn_of_it(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    assert _tenant_record(redis_client, tenant).limits is None
    tenant_limits_set(actor=OPERATOR, tenant_id=tenant.pk, limits={"requests_per_minute": 60, "concurrency": 8})
    assert _tenant_record(redis_client, tenant).limits == Limits(requests_per_minute=60, concurrency=8)
    tenant_limits_set(actor=OPERATOR, tenant_id=tenant.pk, limits={"requests_per_minute": None})
    assert _tenant_record(redis_client, tenant).limits == Limits(concurrency=8)
    assert _audited(tenant, "tenant.limits_set") == [
        {"requests_per_minute": {"from": None, "to": 60}, "concurrency": {"from": None, "to": 8}},
        {"requests_per_minute": {"from": 60, "to": None}},
    ]


@pytest.mark.usefixtures("committed_db")
def test_a_keys_limits_are_published_with_it_and_when_they_change(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    key = _key(tenant, tokens_per_minute=1_000).key
    assert _key_record(redis_client, key).limits == Limits(tokens_per_minute=1_000)
    api_key_limits_set(actor=actor_in(tenant), tenant_id=tenant.pk, key_id=key.pk, limits={"concurrency": 2})
    assert _key_record(redis_client, key).limits == Limits(tokens_per_minute=1_000, concurrency=2)
    cleared: dict[str, int | None] = {"tokens_per_minute": None, "concurrency": None}
    api_key_limits_set(actor=actor_in(tenant), tenant_id=tenant.pk, key_id=key.pk, limits=cleared)
    assert _key_record(redis_client, key).limits is None


@pytest.mark.usefixtures("committed_db")
def test_the_resync_publishes_limits_too(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    tenant_limits_set(actor=OPERATOR, tenant_id=tenant.pk, limits={"concurrency": 3})
    key = _key(tenant, requests_per_minute=5).key
    redis_client.flushall()
    publication.publish_all()
    assert _tenant_record(redis_client, tenant).limits == Limits(concurrency=3)
    assert _key_record(redis_client, key).limits == Limits(requests_per_minute=5)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"tokens_per_minute": -1}, "tokens_per_minute"),
        ({"concurrency": 2**31}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"concurrency": "many"}, "concurrency"),
        ({"requests_per_second": 1}, "requests_per_second"),
    ],
)
def test_what_is_no_limit_is_refused_by_name(limits: dict[str, int | None], field: str) -> None:
    tenant = make_tenant()
    with pytest.raises(InvalidInput) as caught:
        tenant_limits_set(actor=OPERATOR, tenant_id=tenant.pk, limits=limits)
    assert caught.value.field == field
    with pytest.raises(InvalidInput) as caught:
        _key(tenant, **limits)
    assert caught.value.field == field


@pytest.mark.django_db
def test_a_tenants_admin_sets_the_limits_of_its_keys_and_not_its_own() -> None:
    tenant = make_tenant()
    key = _key(tenant).key
    with pytest.raises(PermissionDenied):
        tenant_limits_set(actor=actor_in(tenant), tenant_id=tenant.pk, limits={"concurrency": 1})
    with pytest.raises(PermissionDenied):
        api_key_limits_set(
            actor=actor_in(tenant, Role.DEVELOPER), tenant_id=tenant.pk, key_id=key.pk, limits={"concurrency": 1}
        )
    changed = api_key_limits_set(actor=actor_in(tenant), tenant_id=tenant.pk, key_id=key.pk, limits={"concurrency": 1})
    assert changed.limits == Limits(concurrency=1)


@pytest.mark.django_db
def test_another_tenants_key_is_missing_and_a_revoked_one_in_conflict() -> None:
    tenant, rival = make_tenant(), make_tenant("rival")
    key = _key(tenant).key
    errors: list[tuple[Actor, Tenant, type[FreeholdError]]] = [
        (actor_in(rival), tenant, NotFound),
        (actor_in(rival), rival, NotFound),
    ]
    for actor, owner, error in errors:
        with pytest.raises(error):
            api_key_limits_set(actor=actor, tenant_id=owner.pk, key_id=key.pk, limits={"concurrency": 1})
    api_key_revoke(actor=actor_in(tenant), tenant_id=tenant.pk, key_id=key.pk)
    with pytest.raises(Conflict):
        api_key_limits_set(actor=actor_in(tenant), tenant_id=tenant.pk, key_id=key.pk, limits={"concurrency": 1})
    with pytest.raises(NotFound):
        tenant_limits_set(actor=OPERATOR, tenant_id=uuid7(), limits={"concurrency": 1})


@pytest.mark.django_db
def test_the_same_limits_again_leave_no_trace() -> None:
    tenant = make_tenant()
    for _ in range(2):
        tenant_limits_set(actor=OPERATOR, tenant_id=tenant.pk, limits={"concurrency": 1})
    assert len(_audited(tenant, "tenant.limits_set")) == 1
