"""The control plane's numbers for Prometheus, on a private port of the watcher. Computed when they are asked for, and
kept for a few seconds, so that however often somebody asks, PostgreSQL is asked seldom.

Two watchers tell the same: alert rules take the maximum. Labels name queues, clusters and phases; never a tenant, an
endpoint or a model, whose number is not bounded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import redis
from django.db import DatabaseError
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from freehold.common import clock, env, ports
from freehold.common.logging import get_logger
from freehold.db import connections
from freehold.operations.choices import QueueState
from freehold.operations.figures import DatabaseFigures, RedisFigures, database_figures, redis_figures
from freehold.wire import connection

log = get_logger(__name__)

KEPT_SECONDS = 5.0


def metrics_serve() -> Callable[[], None]:
    """Listens on FREEHOLD_METRICS_HOST (default: loopback) and ports.CONTROL_METRICS, in threads of its own. Returns
    what ends it. A port that cannot be had is logged and no error: watching matters more, and Prometheus sees it."""
    registry = CollectorRegistry()
    registry.register(ControlPlane())
    ProcessCollector(registry=registry)
    host = env.text("FREEHOLD_METRICS_HOST", ports.LOOPBACK)
    try:
        server, thread = start_http_server(ports.CONTROL_METRICS, host, registry)
    except OSError as error:
        log.warning("metrics_not_served", host=host, port=ports.CONTROL_METRICS, error=str(error))
        return lambda: None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


class ControlPlane(Collector):
    """What Prometheus' client asks. What cannot be had is left out, and `…_up` says so."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: list[Metric] = []
        self._until = float("-inf")

    def describe(self) -> list[Metric]:
        """Nothing beforehand: registering must not ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The numbers, at most KEPT_SECONDS old."""
        with self._lock:
            if self._monotonic() >= self._until:
                self._kept = [*_of_database(), *_of_redis()]
                self._until = self._monotonic() + KEPT_SECONDS
            kept = self._kept
        yield from kept


def _of_database() -> Iterator[Metric]:
    try:
        figures = database_figures(now=clock.now())
    except DatabaseError as error:
        log.warning("metrics_without_database", error=str(error))
        yield _gauge("database_up", "Whether PostgreSQL answers.", 0)
        return
    finally:
        connections.release()
    yield _gauge("database_up", "Whether PostgreSQL answers.", 1)
    yield from _queues(figures)
    yield from _clusters(figures)
    yield _gauge(
        "reconcile_overdue_seconds",
        "How long the endpoint that waits longest for a worker has been due.",
        figures.reconcile_overdue_seconds,
    )
    if figures.usage_committed_age_seconds is not None:
        yield _gauge(
            "metering_watermark_age_seconds",
            "Since usage of any gateway was last committed.",
            figures.usage_committed_age_seconds,
        )
    yield _gauge("usage_rejects", "Records that could not become usage and were set aside.", figures.usage_rejects)
    yield _gauge(
        "ledger_unposted_hours", "Tenants' hours that could be in the ledger and are not.", figures.unposted_hours
    )


def _queues(figures: DatabaseFigures) -> Iterator[Metric]:
    healthy = _family("queue_healthy", "Whether a queue is worked off.", "queue")
    age = _family("queue_heartbeat_age_seconds", "Since the newest heartbeat that came through was sent.", "queue")
    for status in figures.queues:
        healthy.add_metric([status.queue], status.state is QueueState.HEALTHY)
        if status.age_seconds is not None:
            age.add_metric([status.queue], status.age_seconds)
    yield from (healthy, age)


def _clusters(figures: DatabaseFigures) -> Iterator[Metric]:
    place = ("cluster", "region")
    reachable = _family("cluster_reachable", "Whether a cluster's API answers; -1: nobody has looked yet.", *place)
    age = _family("cluster_observed_age_seconds", "Since a cluster last answered.", *place)
    endpoints = _family("endpoints", "Endpoints by phase, without the deleted.", "phase", "cluster")
    desired = _family("endpoint_replicas_desired", "Replicas that endpoints ask for.", "cluster")
    ready = _family("endpoint_replicas_ready", "Replicas that answer.", "cluster")
    for cluster in figures.clusters:
        reachable.add_metric([cluster.name, cluster.region], cluster.reachable)
        if cluster.observed_age_seconds is not None:
            age.add_metric([cluster.name, cluster.region], cluster.observed_age_seconds)
        for phase, count in sorted(cluster.endpoints.items()):
            endpoints.add_metric([phase, cluster.name], count)
        desired.add_metric([cluster.name], cluster.replicas_desired)
        ready.add_metric([cluster.name], cluster.replicas_ready)
    yield from (reachable, age, endpoints, desired, ready)


def _of_redis() -> Iterator[Metric]:
    figures: RedisFigures | None = None
    try:
        figures = redis_figures(connection.client())
    except redis.RedisError as error:
        log.warning("metrics_without_redis", error=str(error))
    yield _gauge("redis_up", "Whether Redis answers.", figures is not None)
    if figures is None:
        return
    lengths = _family("queue_length", "Messages that wait for a worker.", "queue")
    for queue, length in figures.queue_lengths.items():
        lengths.add_metric([queue], length)
    yield lengths
    yield _gauge("usage_stream_length", "Batches of usage that wait for metering.", figures.usage_stream_length)


def _gauge(name: str, says: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"freehold_{name}", says, value=value)


def _family(name: str, says: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"freehold_{name}", says, labels=labels)
