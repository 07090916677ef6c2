"""Usage is off the published balances before a gateway is told that it is committed, whatever is killed in between."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid

import pytest
import redis

from freehold.db.rls import system_scope
from freehold.metering import drain, services
from freehold.metering.models import UnsettledTenant, UsageEvent
from freehold.metering.services import usage_drain
from freehold.tenancy.models import Tenant
from freehold.wire import names
from tests.factories.usage import make_batch, make_record, make_tenant, send

pytestmark = pytest.mark.usefixtures("committed_db")


def _told(client: redis.Redis) -> int:
    return int(client.hget(names.WATERMARKS, "gw-0/a") or 0)


def _unsettled() -> set[uuid.UUID]:
    with system_scope("test"):
        return set(UnsettledTenant.objects.values_list("tenant_id", flat=True))


def _events() -> int:
    with system_scope("test"):
        return UsageEvent.objects.count()


class Settlements:
    """Whom the drain had settled, and what was committed and told at that moment."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.seen: list[tuple[set[uuid.UUID], int, int]] = []

    def __call__(self, tenants: set[uuid.UUID]) -> None:
        self.seen.append((tenants, _events(), _told(self._client)))


def _refuse(_: set[uuid.UUID]) -> None:
    raise redis.ConnectionError


def test_tenants_are_settled_after_the_commit_and_before_the_watermark(redis_client: redis.Redis) -> None:
    one, two = make_tenant("one"), make_tenant("two")
    make_tenant("idle")
    send(redis_client, make_batch(1, make_record(one), make_record(two), make_record(one)))
    settled = Settlements(redis_client)
    usage_drain(client=redis_client, settled=settled)
    assert settled.seen == [({one.pk, two.pk}, 3, 0)]
    assert (_told(redis_client), _unsettled()) == (3, set())
    usage_drain(client=redis_client, settled=settled)
    assert len(settled.seen) == 1


def test_where_nothing_can_be_published_no_watermark_is_told_and_the_next_drain_does_both(
    redis_client: redis.Redis,
) -> None:
    tenant = make_tenant()
    send(redis_client, make_batch(1, make_record(tenant)))
    with pytest.raises(redis.ConnectionError):
        usage_drain(client=redis_client, settled=_refuse)
    assert (_events(), _told(redis_client), redis_client.xlen(names.USAGE)) == (1, 0, 1)
    settled = Settlements(redis_client)
    usage_drain(client=redis_client, settled=settled)
    assert settled.seen == [({tenant.pk}, 1, 0)]
    assert (_told(redis_client), redis_client.xlen(names.USAGE)) == (1, 0)


def test_a_resend_of_a_part_settles_all_that_the_watermark_covers(redis_client: redis.Redis) -> None:
    """A drain commits two tenants' records and dies; Redis is emptied; the gateway sends the first again, alone."""
    one, two = make_tenant("one"), make_tenant("two")
    first, second = make_record(one), make_record(two)
    send(redis_client, make_batch(1, first, second))
    with pytest.raises(redis.ConnectionError):
        usage_drain(client=redis_client, settled=_refuse)
    redis_client.flushall()
    send(redis_client, make_batch(1, first))
    settled = Settlements(redis_client)
    usage_drain(client=redis_client, settled=settled)
    assert settled.seen == [({one.pk, two.pk}, 2, 0)]
    assert _told(redis_client) == 2


def test_a_drain_without_the_port_leaves_tenants_to_one_that_has_it(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    send(redis_client, make_batch(1, make_record(tenant)))
    usage_drain(client=redis_client)
    assert _unsettled() == {tenant.pk}


def test_usage_that_comes_while_a_tenant_is_settled_is_not_forgotten(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    send(redis_client, make_batch(1, make_record(tenant)))

    def meanwhile(_: set[uuid.UUID]) -> None:
        send(redis_client, make_batch(1, make_record(tenant), gateway="gw-1"))
        with pytest.raises(redis.ConnectionError):
            usage_drain(client=redis_client, settled=_refuse)

    usage_drain(client=redis_client, settled=meanwhile, most=1)
    assert _unsettled() == {tenant.pk}


def _drain_child(redis_url: str, preparation: str) -> None:
    script = (
        "import os, signal, django, redis; django.setup()\n"
        "from freehold.metering import drain, services\n"
        "from freehold.billing import publication\n"
        f"def die(*a, **k): os.kill(os.getpid(), signal.SIGKILL)\n{preparation}\n"
        f"services.usage_drain(client=redis.Redis.from_url({redis_url!r}), settled=publication.usage_settled)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert child.returncode == -9, child.stderr.decode()


def _prepaid(nanos: int) -> Tenant:
    from freehold.billing.choices import Meter
    from freehold.billing.records import NewPrice
    from freehold.billing.services import account_set, credit_grant, price_book_publish
    from freehold.tenancy.actors import system
    from tests.factories.usage import NOON

    tenant = make_tenant()
    actor = system("test")
    prices = [NewPrice(meter=Meter.COMPLETION_TOKENS, nanos=10**6)]
    price_book_publish(actor=actor, name="a", currency="EUR", prices=prices, valid_from=NOON.replace(day=1))
    credit_grant(actor=actor, tenant_id=tenant.pk, amount_nanos=nanos, reason="test")
    account_set(actor=actor, tenant_id=tenant.pk, prepaid=True)
    return tenant


@pytest.mark.parametrize(
    ("preparation", "published"),
    [
        ("services.settle = die", False),  # between the commit and the publication
        ("publication.Balances.put = die", False),
        ("services.acknowledge = die", True),  # between the publication and the watermark
        ("redis.Redis.xdel = die", True),
    ],
)
def test_a_drain_killed_around_the_publication_never_tells_first(
    redis_client: redis.Redis, redis_url: str, preparation: str, published: bool
) -> None:
    from freehold.billing import publication

    tenant = _prepaid(1_000)
    send(redis_client, make_batch(1, *(make_record(tenant) for _ in range(3))))
    _drain_child(redis_url, preparation)
    balance = names.money(tenant.public_id)
    assert redis_client.hget(balance, "b") == (b"985" if published else b"1000")
    if not published:
        assert _told(redis_client) == 0
    patience = threading.Event()
    for _ in range(200):
        if not usage_drain(client=redis_client, settled=publication.usage_settled).busy:
            break
        patience.wait(0.02)
    assert (redis_client.hget(balance, "b"), _told(redis_client), _events()) == (b"985", 3, 3)
    assert (redis_client.xlen(names.USAGE), _unsettled()) == (0, set())


def test_the_drain_of_the_workers_has_the_port(redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.jobs import metering

    tenant = _prepaid(100)
    send(redis_client, make_batch(1, make_record(tenant)))
    before = []
    balance = names.money(tenant.public_id)

    def watch(client: redis.Redis, committed: drain.Committed) -> None:
        before.append(redis_client.hget(balance, "b"))
        drain.acknowledge(client, committed)

    monkeypatch.setattr(services, "acknowledge", watch)
    metering.drain()
    assert before == [b"95"]
