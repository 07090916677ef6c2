"""What Prometheus reads of the control plane."""

from __future__ import annotations

import socket
from datetime import timedelta

import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from freehold.common import clock, ports
from freehold.db.rls import system_scope
from freehold.fleet.models import Cluster
from freehold.operations import metrics
from freehold.operations.metrics import ControlPlane, metrics_serve
from freehold.operations.services import queue_heartbeat_record
from freehold.serving.models import Endpoint
from freehold.wire import connection as wire
from freehold.wire import hints, names
from tests.factories.ports import free_port
from tests.factories.tenants import make_endpoint, make_fleet, make_revision, make_tenant
from tests.factories.usage import make_batch, make_record, send

pytestmark = pytest.mark.usefixtures("committed_db")

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape() -> Samples:
    """(name, labels) → value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in ControlPlane().collect()
        for sample in family.samples
    }


def one(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"freehold_{name}", tuple(sorted(labels.items()))]


def test_an_empty_installation_has_numbers(redis_client: redis.Redis) -> None:
    found = scrape()
    assert one(found, "database_up") == one(found, "redis_up") == 1
    assert one(found, "queue_healthy", queue="default") == 0
    assert one(found, "reconcile_overdue_seconds") == one(found, "ledger_unposted_hours") == 0


def test_queues_clusters_and_endpoints_are_counted_and_no_tenant_is_named(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    make_fleet()
    make_revision(tenant)
    make_endpoint(tenant, replicas=2)
    now = clock.now()
    with system_scope("test"):
        Endpoint.objects.update(next_reconcile_at=now - timedelta(seconds=90), ready_replicas=1)
    cluster = Cluster.objects.select_related("region").get()
    queue_heartbeat_record(
        queue=hints.TRANSFERS, sent_at=now - timedelta(seconds=7), consumed_at=now, worker="transfers@host"
    )
    redis_client.delete(hints.DEFAULT)  # the endpoint's own hints
    redis_client.rpush(hints.DEFAULT, "a", "b", "c")
    send(redis_client, make_batch(1, make_record(tenant)))

    found = scrape()
    assert one(found, "endpoints", phase="Pending", cluster=cluster.name) == 1
    assert one(found, "endpoint_replicas_desired", cluster=cluster.name) == 2
    assert one(found, "endpoint_replicas_ready", cluster=cluster.name) == 1
    assert one(found, "cluster_reachable", cluster=cluster.name, region=cluster.region.name) == -1
    assert 90 <= one(found, "reconcile_overdue_seconds") < 150
    assert 7 <= one(found, "queue_heartbeat_age_seconds", queue="transfers") < 60
    assert one(found, "queue_healthy", queue="transfers") == 1
    assert one(found, "queue_length", queue="default") == 3
    assert one(found, "usage_stream_length") == redis_client.xlen(names.USAGE) == 1
    assert not [labels for _, labels in found if "acme" in str(labels)]


@pytest.mark.parametrize(("status", "value"), [("True", 1), ("False", 0), ("Unknown", -1)])
def test_a_cluster_says_whether_it_can_be_reached(redis_client: redis.Redis, status: str, value: int) -> None:
    make_fleet()
    Cluster.objects.update(
        conditions=[{"type": "Reachable", "status": status}], observed_at=clock.now() - timedelta(seconds=33)
    )
    cluster = Cluster.objects.select_related("region").get()
    found = scrape()
    place = {"cluster": cluster.name, "region": cluster.region.name}
    assert one(found, "cluster_reachable", **place) == value
    assert 33 <= one(found, "cluster_observed_age_seconds", **place) < 90


def test_without_redis_the_rest_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "client", lambda: redis.Redis.from_url("redis://127.0.0.1:1/0"))
    found = scrape()
    assert (one(found, "redis_up"), one(found, "database_up")) == (0, 1)
    assert ("freehold_usage_stream_length", ()) not in found


def test_however_often_it_is_asked_the_database_is_asked_seldom(redis_client: redis.Redis) -> None:
    moment = [100.0]
    plane = ControlPlane(monotonic=lambda: moment[0])
    before = list(plane.collect())
    moment[0] += metrics.KEPT_SECONDS - 0.1
    assert list(plane.collect()) == before
    moment[0] += 0.2
    assert next(iter(plane.collect())) is not before[0]


def test_prometheus_can_read_it_and_a_second_watcher_goes_without(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "CONTROL_METRICS", free_port())
    end = metrics_serve()
    try:
        answer = httpx.get(f"http://127.0.0.1:{ports.CONTROL_METRICS}/metrics", trust_env=False)
        families = {family.name for family in text_string_to_metric_families(answer.text)}
        assert {"freehold_queue_length", "freehold_cluster_reachable", "process_resident_memory_bytes"} <= families
        metrics_serve()()
    finally:
        end()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", ports.CONTROL_METRICS)) != 0
