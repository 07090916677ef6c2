"""Each record once in PostgreSQL, whatever is killed, lost, repeated or unreadable."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import msgspec
import pytest
import redis
from django.db import connection

from freehold.common import ids
from freehold.db.rls import system_scope
from freehold.metering import services
from freehold.metering.models import DueHour, GatewayWatermark, UsageEvent, UsageReject
from freehold.metering.services import DrainReport, usage_drain
from freehold.wire import names
from freehold.wire.usage import UsageBatch
from tests.factories.usage import ENDPOINT, NOON, make_batch, make_record, make_tenant, send

pytestmark = pytest.mark.usefixtures("committed_db")


def _count() -> int:
    with system_scope("test"):
        return UsageEvent.objects.count()


def _mark(gateway: str = "gw-0", epoch: str = "a") -> int:
    row = GatewayWatermark.objects.filter(gateway=gateway, epoch=epoch).first()
    return 0 if row is None else row.sequence


def _told(client: redis.Redis, field: str = "gw-0/a") -> int:
    return int(client.hget(names.WATERMARKS, field) or 0)


def test_a_record_becomes_an_event_with_all_it_says(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    record = make_record(tenant, adapter="tone", billing_mode="gpu_seconds", first_token_ms=7, estimated=True)
    send(redis_client, make_batch(1, record))
    assert usage_drain(client=redis_client) == DrainReport(entries=1, events=1)
    with system_scope("test"):
        event = UsageEvent.objects.get()
        assert DueHour.objects.get().hour == NOON
    assert event.tenant_id == tenant.pk
    assert event.endpoint_id == ENDPOINT
    assert event.occurred_at == NOON
    assert (event.event_id.hex, event.model, event.adapter) == (record.event_id, "acme/chat", "tone")
    assert (event.prompt_tokens, event.cached_tokens, event.completion_tokens) == (10, 4, 5)
    assert (event.billing_mode, event.first_token_ms, event.estimated) == ("gpu_seconds", 7, True)
    assert redis_client.xlen(names.USAGE) == 0
    assert _told(redis_client) == _mark() == 1


def test_entries_that_arrive_twice_count_once(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    records = [make_record(tenant) for _ in range(6)]
    send(redis_client, make_batch(1, *records[:4]), make_batch(1, *records[:4]), make_batch(3, *records[2:]))
    assert usage_drain(client=redis_client).events == 6
    send(redis_client, make_batch(1, *records))
    assert usage_drain(client=redis_client).events == 0
    assert (_count(), _mark()) == (6, 6)


def test_an_event_that_returns_in_another_journal_counts_once(redis_client: redis.Redis) -> None:
    record = make_record(make_tenant())
    send(redis_client, make_batch(1, record), make_batch(1, record, epoch="b"))
    usage_drain(client=redis_client)
    assert _count() == 1
    assert _mark(epoch="b") == 1


def test_a_gap_waits_for_the_resend_and_then_everything_is_there_once(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    records = [make_record(tenant) for _ in range(9)]
    send(redis_client, make_batch(1, *records[:2]), make_batch(6, *records[5:]))
    report = usage_drain(client=redis_client)
    assert (report.events, report.held) == (2, 1)
    assert _told(redis_client) == _mark() == 2
    assert redis_client.xlen(names.USAGE) == 1
    send(redis_client, make_batch(3, *records[2:]))
    report = usage_drain(client=redis_client, chunk=1)
    assert (report.events, report.held) == (7, 0)
    assert (_count(), _mark(), redis_client.xlen(names.USAGE)) == (9, 9, 0)


def test_one_gateways_gap_does_not_hold_up_another(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    send(redis_client, make_batch(5, make_record(tenant)), make_batch(1, make_record(tenant), gateway="gw-1"))
    usage_drain(client=redis_client, chunk=1)
    assert (_mark(), _mark("gw-1")) == (0, 1)


def test_more_waiting_entries_than_the_limit_stop_neither_others_nor_the_resend(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    records = [make_record(tenant) for _ in range(20)]
    send(redis_client, *(make_batch(number, records[number - 1]) for number in range(2, 21)))
    send(redis_client, make_batch(1, make_record(tenant), gateway="gw-1"))
    report = usage_drain(client=redis_client, chunk=2, most=4)
    assert (report.events, _mark("gw-1")) == (1, 1)
    send(redis_client, make_batch(1, *records))
    assert usage_drain(client=redis_client, chunk=2, most=4).events == 20
    usage_drain(client=redis_client)
    assert (_count(), _mark(), redis_client.xlen(names.USAGE)) == (21, 20, 0)


def test_after_a_restore_of_the_database_the_gateway_is_told_and_the_gap_is_on_record(
    redis_client: redis.Redis,
) -> None:
    tenant = make_tenant()
    records = [make_record(tenant) for _ in range(8)]
    send(redis_client, make_batch(1, *records[:2]))
    usage_drain(client=redis_client)
    redis_client.hset(names.WATERMARKS, "gw-0/a", 6)  # four more were confirmed, which the backup does not have
    batch = UsageBatch(gateway="gw-0", epoch="a", first_sequence=7, records=(records[6],), floor=5)
    send(redis_client, msgspec.msgpack.encode(batch))
    usage_drain(client=redis_client)
    assert (_told(redis_client), _mark()) == (4, 4)
    with system_scope("test"):
        lost = UsageReject.objects.get()
    assert (lost.gateway, lost.epoch, lost.sequence) == ("gw-0", "a", 3)
    assert "3 to 4" in lost.reason
    send(redis_client, make_batch(5, *records[4:]))
    usage_drain(client=redis_client)
    assert (_told(redis_client), _count(), redis_client.xlen(names.USAGE)) == (8, 6, 0)


def test_a_watermark_that_redis_lost_is_told_again(redis_client: redis.Redis) -> None:
    batch = make_batch(1, make_record(make_tenant()))
    send(redis_client, batch)
    usage_drain(client=redis_client)
    redis_client.flushall()
    send(redis_client, batch)
    usage_drain(client=redis_client)
    assert (_told(redis_client), _count()) == (1, 1)


def test_a_watermark_in_redis_never_goes_back(redis_client: redis.Redis) -> None:
    redis_client.hset(names.WATERMARKS, "gw-0/a", 12)
    send(redis_client, make_batch(1, make_record(make_tenant())))
    usage_drain(client=redis_client)
    assert _told(redis_client) == 12


def test_a_drain_cut_off_after_its_commit_leaves_nothing_to_count_twice(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(redis_client, make_batch(1, make_record(make_tenant())))

    def cut(*_: object) -> None:
        raise redis.ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(services, "acknowledge", cut)
        with pytest.raises(redis.ConnectionError):
            usage_drain(client=redis_client)
    assert (_count(), _told(redis_client), redis_client.xlen(names.USAGE)) == (1, 0, 1)
    usage_drain(client=redis_client)
    assert (_count(), _told(redis_client), redis_client.xlen(names.USAGE)) == (1, 1, 0)


@pytest.mark.parametrize(
    ("point", "committed"),
    [("drain._advance", False), ("services.acknowledge", True), ("redis.Redis.xdel", True)],
)
def test_a_drain_killed_at_any_point_counts_everything_once(
    redis_client: redis.Redis, redis_url: str, point: str, committed: bool
) -> None:
    tenant = make_tenant()
    send(redis_client, make_batch(1, *(make_record(tenant) for _ in range(3))))
    script = (
        "import os, signal, django, redis; django.setup()\n"
        "from freehold.metering import drain, services\n"
        f"def die(*a, **k): os.kill(os.getpid(), signal.SIGKILL)\n{point} = die\n"
        f"services.usage_drain(client=redis.Redis.from_url({redis_url!r}))\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert child.returncode == -9, child.stderr.decode()
    assert _count() == (3 if committed else 0)
    assert redis_client.xlen(names.USAGE) == 1
    # PostgreSQL lets go of the dead drain's lock once it notices that its connection is gone.
    _drain_when_free(redis_client)
    assert (_count(), _told(redis_client), redis_client.xlen(names.USAGE)) == (3, 3, 0)


def _drain_when_free(client: redis.Redis) -> None:
    patience = threading.Event()
    for _ in range(200):
        if not usage_drain(client=client).busy:
            return
        patience.wait(0.02)
    pytest.fail("the lock of a dead drain was never freed")


def test_drains_at_once_count_everything_once(redis_client: redis.Redis, redis_url: str) -> None:
    tenant = make_tenant()
    for number in range(40):
        batch = make_batch(number * 5 + 1, *(make_record(tenant) for _ in range(5)))
        send(redis_client, batch, batch)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with redis.Redis.from_url(redis_url) as client:
                for _ in range(200):
                    usage_drain(client=client, chunk=3)
                    if client.xlen(names.USAGE) == 0:
                        return
        except BaseException as error:  # noqa: BLE001 - a thread's error must reach the test
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (_count(), _mark(), redis_client.xlen(names.USAGE)) == (200, 200, 0)


def test_what_cannot_become_an_event_is_set_aside_and_the_rest_goes_on(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    unknown = ids.encode("tnt", ids.uuid7())
    redis_client.xadd(names.USAGE, {"b": b"\xc1 not msgpack"})
    redis_client.xadd(names.USAGE, {"x": b"?"})
    send(
        redis_client,
        make_batch(
            1,
            make_record(tenant),
            make_record(tenant, tenant=unknown),
            make_record(tenant, endpoint=ENDPOINT, event_id="zz"),
            make_record(tenant, model="nul\0"),
            make_record(tenant, prompt_tokens=-1, cached_tokens=-1),
            make_record(tenant, prompt_tokens=2**64 - 1),
            make_record(tenant, cached_tokens=11),
            make_record(tenant),
        ),
    )
    report = usage_drain(client=redis_client)
    assert (report.events, report.rejects) == (2, 8)
    assert (_count(), _mark(), redis_client.xlen(names.USAGE)) == (2, 8, 0)
    with system_scope("test"):
        rejects = {reject.sequence: reject for reject in UsageReject.objects.exclude(sequence=None)}
        assert UsageReject.objects.count() == 8
    assert rejects.keys() == {2, 3, 4, 5, 6, 7}
    assert rejects[2].reason == f"there is no tenant {unknown}"
    assert msgspec.msgpack.decode(bytes(rejects[4].raw))["model"] == "nul\0"


def test_the_same_reject_is_kept_once(redis_client: redis.Redis) -> None:
    for _ in range(2):
        redis_client.xadd(names.USAGE, {"b": b"garbage"})
        usage_drain(client=redis_client)
    with system_scope("test"):
        assert UsageReject.objects.count() == 1
    assert UsageReject.objects.count() == 0, "rejects are for the system scope alone"


def test_a_long_stream_is_drained_in_many_transactions(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    send(redis_client, *(make_batch(number, make_record(tenant)) for number in range(1, 31)))
    assert usage_drain(client=redis_client, chunk=4, most=8).entries == 8
    assert _mark() == 8
    assert usage_drain(client=redis_client, chunk=4).events == 22
