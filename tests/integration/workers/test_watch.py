"""The watcher: changes become hints, and logs that somebody looks at are told."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis

from freehold.common import clock
from freehold.db.rls import system_scope
from freehold.serving.models import Endpoint
from freehold.wire import logs, names
from tests.factories.tenants import make_endpoint, make_fleet, make_revision, make_tenant
from tests.fakes.runtime import MemoryRuntime
from workers.reconcile.loop import reconcile_cluster
from workers.watch.clusters import tell
from workers.watch.local import LocalWatch
from workers.watch.logs import LogTails


@pytest.fixture
def endpoint(committed_db: None) -> Endpoint:
    tenant = make_tenant()
    make_fleet()
    make_revision(tenant)
    return make_endpoint(tenant)


def tick(tails: LogTails) -> None:
    tails._next = 0.0
    tails.tick()


def test_a_replica_that_became_ready_makes_its_endpoint_due_at_once(
    endpoint: Endpoint, redis_client: redis.Redis
) -> None:
    runtime = MemoryRuntime()
    reconcile_cluster(endpoint.cluster_id, runtime)
    watch = LocalWatch(runtime)
    watch.take()
    with system_scope("tests"):
        Endpoint.objects.update(next_reconcile_at=clock.now() + timedelta(hours=1))
    redis_client.delete("default")
    assert watch.take() == set(), "nothing has changed"
    runtime.all_ready()
    tell(watch.take())
    assert redis_client.llen("default") == 1, "a hint for the worker"
    assert reconcile_cluster(endpoint.cluster_id, runtime).claimed == 1


def test_logs_are_told_while_somebody_looks_once_and_again_where_they_were_lost(
    endpoint: Endpoint, redis_client: redis.Redis
) -> None:
    runtime = MemoryRuntime()
    reconcile_cluster(endpoint.cluster_id, runtime)
    watch = LocalWatch(runtime)
    watch.take()
    tails = LogTails(watch)
    tick(tails)
    assert logs.read(redis_client, endpoint.public_id) == []
    logs.want(redis_client, endpoint.public_id)
    tick(tails)
    tick(tails)
    (line,) = logs.read(redis_client, endpoint.public_id)
    assert line.replica in runtime.replicas
    redis_client.delete(names.log_lines(endpoint.public_id))
    tick(tails)
    assert len(logs.read(redis_client, endpoint.public_id)) == 1
