"""`manage.py gateway_forget`: the money of a gateway that never comes back."""

from __future__ import annotations

import io

import pytest
import redis
from django.core.management import CommandError, call_command

from freehold.audit.models import AuditEvent
from freehold.billing.models import SeenGateway
from freehold.billing.services import gateway_forget
from freehold.common.errors import PermissionDenied
from freehold.db.rls import system_scope
from freehold.wire import names
from tests.factories.tenants import actor_in, make_tenant

pytestmark = pytest.mark.django_db


def _run(gateway: str) -> str:
    output = io.StringIO()
    call_command("gateway_forget", gateway, stdout=output)
    return output.getvalue()


def test_what_it_held_is_released_printed_and_on_record(redis_client: redis.Redis) -> None:
    SeenGateway.objects.create(gateway="gw-0")
    redis_client.hset(names.held("gw-0"), mapping={"m:tnt_1": 1_500_000_000, "c:k:key_1": 2})
    redis_client.hset(names.money("tnt_1"), "h", 1_500_000_000)
    printed = _run("gw-0")
    assert "tnt_1: 1.50 EUR" in printed
    assert "k:key_1: 2 requests in flight" in printed
    assert redis_client.hget(names.money("tnt_1"), "h") == b"0"
    assert not SeenGateway.objects.exists()
    with system_scope("test"):
        event = AuditEvent.objects.get(action="gateway.forget")
    assert (event.object_id, event.detail["money"]) == ("gw-0", {"tnt_1": 1_500_000_000})
    assert "held nothing" in _run("gw-0")


def test_a_gateway_that_lives_is_refused(redis_client: redis.Redis) -> None:
    redis_client.zadd(names.GATEWAYS, {"gw-0": 2**50})
    redis_client.hset(names.held("gw-0"), "m:tnt_1", 5)
    with pytest.raises(CommandError, match="is alive"):
        _run("gw-0")
    assert redis_client.exists(names.held("gw-0"))


def test_it_is_the_operators_to_do(redis_client: redis.Redis) -> None:
    with pytest.raises(PermissionDenied):
        gateway_forget(actor=actor_in(make_tenant()), gateway="gw-0")
