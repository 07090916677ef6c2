"""Celery as it is set up: workers that die, wake up too late, lose Redis; and everything that is sent twice."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from celery import Celery as Application

from freehold.billing.choices import Meter
from freehold.billing.models import LedgerEntry
from freehold.billing.records import NewPrice
from freehold.billing.services import price_book_publish
from freehold.common import clock
from freehold.db.rls import system_scope
from freehold.metering.models import UsageEvent
from freehold.onebox.redis import EmbeddedRedis
from freehold.operations.choices import QueueState
from freehold.operations.models import QueueHeartbeat
from freehold.operations.queues import BEAT_SECONDS, QUEUES
from freehold.operations.selectors import queues_status
from freehold.serving.claims import LEASE
from freehold.serving.models import Endpoint
from freehold.tenancy.actors import system
from freehold.tenancy.models import Tenant
from freehold.wire import hints
from tests.factories.ports import free_port
from tests.factories.tenants import make_endpoint, make_fleet, make_revision, make_tenant
from tests.factories.usage import NOON, make_batch, make_record, send
from tests.integration.workers.celery_processes import Celery, until
from workers.app import app

HELD = "tests.fakes.worker"

app.loader.import_default_modules()


# How it is set up


def test_every_task_has_ended_before_its_message_is_given_to_another_worker() -> None:
    visibility = app.conf.broker_transport_options["visibility_timeout"]
    assert visibility == 300
    for name, task in app.tasks.items():
        hard = task.time_limit or app.conf.task_time_limit
        soft = task.soft_time_limit or app.conf.task_soft_time_limit
        assert soft < hard < visibility, name


def test_a_task_is_acknowledged_when_it_has_ended_but_for_those_that_take_minutes() -> None:
    long = {name for name, task in app.tasks.items() if not task.acks_late and name.startswith("workers.")}
    assert long == {hints.IMPORT, hints.VERIFY}, "theirs is a claim in PostgreSQL, and a beat brings them again"
    assert app.conf.worker_prefetch_multiplier == 1


def test_what_beat_sends_does_not_pile_up_while_nobody_works() -> None:
    assert all(entry["options"].get("expires") for entry in app.conf.beat_schedule.values())


def test_beat_sends_a_heartbeat_through_every_queue() -> None:
    sent = {
        entry["options"]["queue"]: entry["schedule"]
        for entry in app.conf.beat_schedule.values()
        if entry["task"] == hints.HEARTBEAT
    }
    assert sent == {queue.name: BEAT_SECONDS for queue in QUEUES}
    used = {entry["options"].get("queue", hints.DEFAULT) for entry in app.conf.beat_schedule.values()}
    assert used == {queue.name for queue in QUEUES}
    assert all(queue.silence_seconds > 3 * BEAT_SECONDS for queue in QUEUES)


# Death in the middle


@pytest.fixture
def tenant(committed_db: None) -> Tenant:
    tenant = make_tenant()
    make_fleet()
    make_revision(tenant)
    return tenant


def again(endpoint: Endpoint) -> Endpoint:
    with system_scope("test"):
        return Endpoint.objects.get(pk=endpoint.pk)


def lease_runs_out(endpoint: Endpoint) -> None:
    """As if its time had passed."""
    past = clock.now() - timedelta(seconds=1)
    with system_scope("test"):
        Endpoint.objects.filter(pk=endpoint.pk).update(lock_expires_at=past, next_reconcile_at=past)


def in_the_middle(endpoint: Endpoint, folder: Path) -> Celery:
    """A worker that has claimed the endpoint and stands still in a step."""
    held = Celery.worker(folder / "first.log", application=HELD, FREEHOLD_TEST_HOLD=str(folder))
    assert hints.send(hints.RECONCILE, str(endpoint.cluster_id))
    until((folder / "reached").exists, "a step")
    return held


def observed(endpoint: Endpoint) -> list[str]:
    return [replica["id"] for replica in again(endpoint).replicas_observed]


def test_what_a_killed_worker_had_begun_is_done_by_another_when_its_lease_is_over(
    tenant: Tenant, tmp_path: Path, redis_client: redis.Redis
) -> None:
    endpoint = make_endpoint(tenant)
    in_the_middle(endpoint, tmp_path).kill()
    left = again(endpoint)
    assert left.lock_token is not None
    assert left.lock_expires_at is not None
    assert left.lock_expires_at - clock.now() <= LEASE

    with Celery.worker(tmp_path / "second.log", application=HELD) as second:
        hints.send(hints.RECONCILE, str(endpoint.cluster_id))
        until(lambda: "succeeded" in second.log, "a pass")
        assert again(endpoint).lock_token == left.lock_token, "nobody touches it while the lease runs"
        lease_runs_out(endpoint)
        hints.send(hints.RECONCILE, str(endpoint.cluster_id))
        until(lambda: again(endpoint).lock_token is None, "the work")
        assert again(endpoint).observed_generation == 1


def test_a_worker_that_wakes_up_after_its_lease_writes_nothing(
    tenant: Tenant, tmp_path: Path, redis_client: redis.Redis
) -> None:
    endpoint = make_endpoint(tenant)
    with in_the_middle(endpoint, tmp_path) as first:
        lease_runs_out(endpoint)
        with Celery.worker(tmp_path / "second.log", application=HELD):
            until(lambda: _done_again(endpoint), "the work of another")
            seen = observed(endpoint)
            (tmp_path / "go").touch()
            until(lambda: "claim_lost" in first.log, "a refusal")
        assert observed(endpoint) == seen


def _done_again(endpoint: Endpoint) -> bool:
    """Whether a second pass has seen what the first one started."""
    hints.send(hints.RECONCILE, str(endpoint.cluster_id))
    with system_scope("test"):
        Endpoint.objects.filter(pk=endpoint.pk, lock_token=None).update(next_reconcile_at=clock.now())
    return bool(observed(endpoint))


# Twice of everything


@pytest.mark.usefixtures("committed_db")
def test_two_beats_and_two_workers_bill_once_and_a_dead_queue_is_called_late(
    tmp_path: Path, redis_client: redis.Redis
) -> None:
    tenant = make_tenant()
    price_book_publish(
        actor=system("test"), name="list", currency="EUR", valid_from=NOON - timedelta(days=1),
        prices=[NewPrice(meter=Meter.PROMPT_TOKENS, nanos=1_000_000_000)],
    )  # fmt: skip
    queues = ",".join(queue.name for queue in QUEUES)
    with Celery.worker(tmp_path / "one.log", queues=queues) as one, Celery.worker(tmp_path / "two.log") as two:
        with Celery.beat(tmp_path / "beat-one.log"), Celery.beat(tmp_path / "beat-two.log"):
            batch = make_batch(1, *(make_record(tenant) for _ in range(20)))
            send(redis_client, batch, batch)
            until(lambda: _events() == 20, "usage")
            for _ in range(4):
                app.send_task("workers.post_ledger")
            until(lambda: _entries() > 0, "the ledger")
            until(lambda: _states() == {QueueState.HEALTHY}, "a heartbeat of every queue")
        until(lambda: redis_client.llen(hints.DEFAULT) == 0, "an end of all that was sent")
    assert (_events(), _entries()) == (20, 1)
    assert "Traceback" not in one.log + two.log

    last = QueueHeartbeat.objects.get(queue=hints.TRANSFERS)
    app.send_task(hints.HEARTBEAT, args=[hints.TRANSFERS, clock.now().isoformat()], queue=hints.TRANSFERS)
    assert QueueHeartbeat.objects.get(queue=hints.TRANSFERS).sent_at == last.sent_at
    later = last.sent_at + timedelta(seconds=max(queue.silence_seconds for queue in QUEUES) + BEAT_SECONDS + 1)
    assert {status.state for status in queues_status(now=later)} == {QueueState.LATE}
    with Celery.worker(tmp_path / "three.log", queues=queues):
        until(lambda: QueueHeartbeat.objects.get(queue=hints.TRANSFERS).sent_at > last.sent_at, "a heartbeat")


def _events() -> int:
    with system_scope("test"):
        return UsageEvent.objects.count()


def _entries() -> int:
    with system_scope("test"):
        return LedgerEntry.objects.count()


def _states() -> set[QueueState]:
    return {status.state for status in queues_status(now=clock.now())}


# Redis comes and goes


@pytest.fixture
def own_redis() -> Iterator[EmbeddedRedis]:
    """A Redis that a test may stop, where the user that it runs as can enter."""
    folder = Path(tempfile.mkdtemp(prefix="freehold-celery-", dir="/var/tmp"))
    folder.chmod(0o755)
    server = EmbeddedRedis(folder / "redis", port=free_port(), password="x" * 16, durable=False)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.usefixtures("committed_db")
def test_a_worker_works_on_after_redis_was_away_and_shows_that_it_lives(
    tmp_path: Path, own_redis: EmbeddedRedis
) -> None:
    alive = tmp_path / "alive"
    with Application("test", broker=own_redis.url, set_as_current=False) as sender:

        def comes_through() -> bool:
            moment = clock.now().isoformat()
            sender.send_task(hints.HEARTBEAT, args=[hints.DEFAULT, moment], queue=hints.DEFAULT, ignore_result=True)
            return QueueHeartbeat.objects.exists() and alive.exists()

        with Celery.worker(
            tmp_path / "worker.log", REDIS_URL=own_redis.url, FREEHOLD_LIVENESS_FILE=str(alive)
        ) as worker:
            until(comes_through, "a heartbeat and a sign of life")
            own_redis.stop()
            until(lambda: "Trying again" in worker.log, "a loss that is noticed")
            QueueHeartbeat.objects.all().delete()
            alive.unlink()
            own_redis.start()
            until(comes_through, "a heartbeat and a sign of life after Redis came back")


def test_a_worker_that_could_not_acknowledge_notices_that_redis_is_away_and_works_on(
    tenant: Tenant, tmp_path: Path, own_redis: EmbeddedRedis
) -> None:
    cluster = str(make_endpoint(tenant).cluster_id)
    with (
        Application("test", broker=own_redis.url, set_as_current=False) as sender,
        Celery.worker(
            tmp_path / "worker.log", application=HELD, REDIS_URL=own_redis.url, FREEHOLD_TEST_HOLD=str(tmp_path)
        ) as worker,
    ):

        def ask() -> bool:
            return bool(sender.send_task(hints.RECONCILE, args=[cluster], queue=hints.DEFAULT, ignore_result=True))

        ask()
        until((tmp_path / "reached").exists, "a step")
        own_redis.stop()
        (tmp_path / "go").touch()
        until(lambda: "Couldn't ack" in worker.log, "an acknowledgement that fails")
        until(lambda: "Trying again" in worker.log, "a loss that is noticed")
        own_redis.start()
        until(lambda: ask() and worker.log.count("succeeded") > 1, "work after Redis came back")


def test_beat_shows_that_it_ticks(tmp_path: Path, redis_client: redis.Redis) -> None:
    alive = tmp_path / "alive"
    with Celery.beat(tmp_path / "beat.log", FREEHOLD_LIVENESS_FILE=str(alive)):
        until(alive.exists, "a first sign")
        alive.unlink()
        until(alive.exists, "another with what it sends")


def test_beat_that_loses_redis_ticks_on(tmp_path: Path, own_redis: EmbeddedRedis) -> None:
    alive = tmp_path / "alive"
    with (
        Celery.beat(tmp_path / "beat.log", FREEHOLD_LIVENESS_FILE=str(alive), REDIS_URL=own_redis.url) as beat,
        redis.Redis.from_url(own_redis.url) as client,
    ):
        until(lambda: client.llen(hints.DEFAULT), "a first task")
        own_redis.stop()
        until(lambda: "Error" in beat.log, "a loss that is noticed")
        alive.unlink()
        until(alive.exists, "a sign with what it tries to send")
        own_redis.start()
        until(lambda: client.llen(hints.DEFAULT), "a task after Redis came back")
