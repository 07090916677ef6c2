"""The epoch of balances: back within seconds of a loss, and never before every balance is."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import redis
from django.db import connection

from freehold.billing.models import SeenGateway
from freehold.billing.publication import epoch_ensure
from freehold.billing.services import account_set, credit_grant
from freehold.tenancy.actors import system
from freehold.tenancy.models import Tenant
from freehold.wire import names
from freehold.wire.balances import Balances
from tests.factories.usage import make_tenant

pytestmark = pytest.mark.usefixtures("committed_db")


def _prepaid(slug: str) -> Tenant:
    tenant = make_tenant(slug)
    credit_grant(actor=system("test"), tenant_id=tenant.pk, amount_nanos=100, reason="test")
    account_set(actor=system("test"), tenant_id=tenant.pk, prepaid=True)
    return tenant


def _epoch(client: redis.Redis) -> str:
    return Balances(client).epoch().id


def _expected(client: redis.Redis) -> list[str]:
    stored: Any = client.hget(names.MONEY_EPOCH, "expected")
    found: list[str] = json.loads(stored)
    return found


def _at_work(client: redis.Redis, *gateways: str) -> None:
    """Gateways with a lease, which have told what they hold."""
    client.delete(names.GATEWAYS)
    if gateways:
        client.zadd(names.GATEWAYS, dict.fromkeys(gateways, 2**50))
    client.set(names.MONEY_OPEN, _epoch(client))


def test_a_lost_epoch_comes_back_with_every_balance(redis_client: redis.Redis) -> None:
    tenants = [_prepaid("a"), _prepaid("b")]
    redis_client.flushall()
    assert epoch_ensure()
    assert all(redis_client.hget(names.money(tenant.public_id), "b") == b"100" for tenant in tenants)
    before = _epoch(redis_client)
    assert before
    assert not epoch_ensure()
    assert _epoch(redis_client) == before
    redis_client.flushall()
    assert epoch_ensure()
    assert _epoch(redis_client) not in ("", before)


def test_it_waits_for_the_gateways_that_were_last_seen_and_for_those_that_are_back(redis_client: redis.Redis) -> None:
    epoch_ensure()
    _at_work(redis_client, "gw-0", "gw-1", "gw-2")
    epoch_ensure()
    _at_work(redis_client, "gw-0", "gw-1")  # gw-2 has left cleanly
    epoch_ensure()
    redis_client.flushall()
    redis_client.zadd(names.GATEWAYS, {"gw-3": 2**50})
    epoch_ensure()
    assert _expected(redis_client) == ["gw-0", "gw-1", "gw-3"]


def test_it_waits_for_one_that_crashed_until_its_journal_is_settled(redis_client: redis.Redis) -> None:
    epoch_ensure()
    _at_work(redis_client, "gw-0", "gw-1")
    redis_client.hset(names.held("gw-1"), "m:tnt_1", 5)
    epoch_ensure()
    _at_work(redis_client, "gw-0")  # its lease is over, its money still on hold
    epoch_ensure()
    assert set(SeenGateway.objects.values_list("gateway", flat=True)) == {"gw-0", "gw-1"}
    redis_client.delete(names.held("gw-1"))
    epoch_ensure()
    assert list(SeenGateway.objects.values_list("gateway", flat=True)) == ["gw-0"]


def test_nobody_is_dropped_while_the_epoch_is_not_in_force(redis_client: redis.Redis) -> None:
    epoch_ensure()
    _at_work(redis_client, "gw-0", "gw-1")
    epoch_ensure()
    for _ in range(2):  # lost again before both were back
        redis_client.flushall()
        epoch_ensure()
        redis_client.zadd(names.GATEWAYS, {"gw-0": 2**50})
        epoch_ensure()
        assert _expected(redis_client) == ["gw-0", "gw-1"]
    _at_work(redis_client, "gw-0")
    epoch_ensure()
    assert list(SeenGateway.objects.values_list("gateway", flat=True)) == ["gw-0"]


def test_no_epoch_begins_over_balances_that_were_lost_while_it_was_prepared(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = _prepaid("a")
    put = Balances.put

    def lose(wire: Balances, balances: dict[str, int], *, version: int) -> int:
        found = put(wire, balances, version=version)
        redis_client.flushall()
        return found

    redis_client.flushall()
    with monkeypatch.context() as patched:
        patched.setattr(Balances, "put", lose)
        assert not epoch_ensure()
    assert _epoch(redis_client) == ""
    assert epoch_ensure()
    assert redis_client.hget(names.money(tenant.public_id), "b") == b"100"


def test_two_workers_at_once_make_one_epoch(redis_client: redis.Redis) -> None:
    _prepaid("a")
    redis_client.flushall()
    made: list[bool] = []
    together = threading.Barrier(4)

    def work() -> None:
        try:
            together.wait(timeout=10)
            made.append(epoch_ensure())
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, False, False, True]
