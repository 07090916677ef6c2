"""Limits of endpoints: the owner's to set, the gateways' to keep to, no new generation."""

from __future__ import annotations

from typing import cast

import pytest
import redis

from freehold.common.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from freehold.serving.models import Endpoint
from freehold.serving.services import endpoint_create, endpoint_delete, endpoint_limits_set
from freehold.tenancy.choices import Role
from freehold.tenancy.models import Tenant
from freehold.wire import names
from freehold.wire.names import Section
from freehold.wire.publish import split
from freehold.wire.records import Limits, RouteRecord, decode
from tests.factories.tenants import actor_in, make_endpoint, make_fleet, make_revision, make_tenant


def _served() -> tuple[Tenant, Endpoint]:
    tenant = make_tenant()
    make_fleet()
    make_revision(tenant)
    return tenant, make_endpoint(tenant)


def _route(client: redis.Redis, name: str) -> RouteRecord:
    stored = cast("bytes", client.hget(names.section(Section.ROUTES), name))
    return decode(split(stored)[1], RouteRecord)


@pytest.mark.usefixtures("committed_db")
def test_limits_reach_the_route_and_make_no_new_generation(redis_client: redis.Redis) -> None:
    tenant, endpoint = _served()
    before = _route(redis_client, "acme/chat")
    assert (before.limits, before.default_max_tokens) == (None, 0)
    endpoint_limits_set(
        actor=actor_in(tenant, Role.DEVELOPER),
        tenant_id=tenant.pk,
        endpoint_id=endpoint.pk,
        limits={"concurrency": 4, "default_max_tokens": 512},
    )
    after = _route(redis_client, "acme/chat")
    assert (after.limits, after.default_max_tokens) == (Limits(concurrency=4), 512)
    assert after.generation == before.generation == 1
    endpoint_limits_set(
        actor=actor_in(tenant), tenant_id=tenant.pk, endpoint_id=endpoint.pk, limits={"default_max_tokens": None}
    )
    assert _route(redis_client, "acme/chat").default_max_tokens == 0


@pytest.mark.usefixtures("committed_db")
def test_an_endpoint_may_begin_with_limits(redis_client: redis.Redis) -> None:
    tenant, _ = _served()
    endpoint_create(
        actor=actor_in(tenant),
        tenant_id=tenant.pk,
        name="small",
        model="acme/tiny",
        limits={"tokens_per_minute": 9_000},
    )
    assert _route(redis_client, "acme/small").limits == Limits(tokens_per_minute=9_000)


@pytest.mark.django_db
def test_only_who_may_write_endpoints_of_the_tenant_may_limit_them() -> None:
    tenant, endpoint = _served()
    with pytest.raises(PermissionDenied):
        endpoint_limits_set(
            actor=actor_in(tenant, Role.VIEWER), tenant_id=tenant.pk, endpoint_id=endpoint.pk, limits={"concurrency": 1}
        )
    rival = make_tenant("rival")
    for owner in (tenant, rival):
        with pytest.raises(NotFound):
            endpoint_limits_set(
                actor=actor_in(rival), tenant_id=owner.pk, endpoint_id=endpoint.pk, limits={"concurrency": 1}
            )
    with pytest.raises(InvalidInput) as caught:
        endpoint_limits_set(
            actor=actor_in(tenant), tenant_id=tenant.pk, endpoint_id=endpoint.pk, limits={"default_max_tokens": 0}
        )
    assert caught.value.field == "default_max_tokens"
    endpoint_delete(actor=actor_in(tenant), tenant_id=tenant.pk, endpoint_id=endpoint.pk)
    with pytest.raises(Conflict):
        endpoint_limits_set(
            actor=actor_in(tenant), tenant_id=tenant.pk, endpoint_id=endpoint.pk, limits={"concurrency": 1}
        )
