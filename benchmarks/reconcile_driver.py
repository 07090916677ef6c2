"""Seeds a fleet, runs one worker against the emulated cluster and measures it. Run by benchmarks.reconcile, with the
environment of an installation; prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from statistics import median, quantiles
from typing import Any

import django

django.setup(set_prefix=False)

import httpx  # noqa: E402 - Django must be set up first
import psutil  # noqa: E402
from django.db.models import Count  # noqa: E402

from freehold.common import clock  # noqa: E402
from freehold.db.rls import system_scope  # noqa: E402
from freehold.fleet import services as fleet  # noqa: E402
from freehold.fleet.choices import RuntimeKind  # noqa: E402
from freehold.onebox.layout import ROOT  # noqa: E402
from freehold.serving.models import Endpoint  # noqa: E402
from freehold.serving.services import endpoint_create  # noqa: E402
from freehold.tenancy.models import Tenant  # noqa: E402
from freehold.wire import connection, hints  # noqa: E402
from tests.factories.tenants import SYSTEM, actor_in, make_revision, make_tenant  # noqa: E402

NEW = 40
_PATIENCE_SECONDS = 240.0
_TENANT_KINDS = {"namespaces", "networkpolicies", "resourcequotas", "limitranges", "serviceaccounts"}
_DIGEST = "sha256:" + "e" * 64
_FETCHER = "registry.example/freehold@sha256:" + "f" * 64


class Meter:
    """The worker's CPU seconds and memory, and the cluster's counters."""

    def __init__(self, worker: psutil.Process, url: str) -> None:
        self._worker = worker
        self._client = httpx.Client(base_url=url, timeout=30)

    def cpu(self) -> float:
        """Of parent and children, those that ended included."""
        processes = [self._worker, *self._worker.children(recursive=True)]
        total = sum(sum(process.cpu_times()[:2]) for process in processes)
        ended = self._worker.cpu_times()
        return float(total + ended.children_user + ended.children_system)

    def rss(self) -> tuple[int, int]:
        """(now, highest) of the process that runs tasks, in bytes."""
        child = max(self._worker.children(recursive=True), key=lambda process: process.memory_info().rss)
        with open(f"/proc/{child.pid}/status") as file:  # noqa: PTH123
            peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
        return child.memory_info().rss, peak

    def counters(self) -> dict[str, int]:
        """`verb resource` → requests since they were reset."""
        found = self._client.get("/_control/counters").json()["requests"]
        return {f"{one['verb']} {one['resource']}": int(one["count"]) for one in found}

    def reset(self) -> None:
        """Counters to zero."""
        self._client.post("/_control/reset", json={}).raise_for_status()

    def has(self, path: str) -> bool:
        """Whether an object is there."""
        return self._client.get(path).status_code == 200


def main() -> None:
    """Arguments: the cluster's address, tenants, endpoints of each."""
    url, tenants, each = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    cluster = _fleet(url)
    made = [_tenant(number, each) for number in range(tenants)]
    connection.client().delete("default")
    with _worker() as worker:
        meter = Meter(worker, url)
        hints.send("workers.publish_all")  # imports what a worker imports, before anything is measured
        _until(lambda: connection.client().llen("default") == 0 and bool(worker.children()), "the worker's start")
        time.sleep(3)
        found = _converge(meter, cluster, tenants * each)
        found |= _resync(meter, cluster)
        found |= _hint_to_apply(meter, made)
        found["rss"], found["rss_peak"] = meter.rss()
    sys.stdout.write(json.dumps(found) + "\n")


def _fleet(url: str) -> uuid.UUID:
    region = fleet.region_create(actor=SYSTEM, name="bench")
    kubeconfig = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "bench"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    cluster = fleet.cluster_register(
        actor=SYSTEM,
        region=region,
        name="bench",
        runtime=RuntimeKind.KUBERNETES,
        engine_digest=_DIGEST,
        kubeconfig=json.dumps(kubeconfig),
        settings={"images": {"fetcher": _FETCHER}},
    )
    flavor = fleet.flavor_create(
        actor=SYSTEM, name="h100-1x", accelerator="H100", memory_bytes=80 * 1024**3, resource="nvidia.com/gpu"
    )
    fleet.node_pool_set(actor=SYSTEM, cluster=cluster, flavor=flavor, capacity=100_000)
    return cluster.pk


def _tenant(number: int, each: int) -> Tenant:
    tenant = make_tenant(f"tenant-{number:03}")
    make_revision(tenant)
    for index in range(each):
        _endpoint(tenant, f"model-{index}")
    return tenant


def _endpoint(tenant: Tenant, name: str) -> Endpoint:
    return endpoint_create(
        actor=actor_in(tenant), tenant_id=tenant.pk, name=name, model=f"{tenant.slug}/tiny", flavor="h100-1x"
    )


@contextmanager
def _worker() -> Iterator[psutil.Process]:
    """As onebox.supervisor starts it, with one process for tasks."""
    command = [
        sys.executable, "-m", "celery", "-A", "workers.app", "worker", "--concurrency", "1", "--queues", "default",
        "--without-gossip", "--without-mingle", "--loglevel", "WARNING",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr, env=dict(os.environ)) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def _converge(meter: Meter, cluster: uuid.UUID, count: int) -> dict[str, Any]:
    """From nothing to every endpoint Ready. What is due is asked for every 2 s, as beat does."""
    meter.reset()
    cpu, began = meter.cpu(), time.monotonic()
    while _phases() != {"Ready": count}:
        assert time.monotonic() - began < _PATIENCE_SECONDS, f"not converged: {_phases()}"
        hints.send("workers.reconcile_due")
        time.sleep(2)
    took = time.monotonic() - began
    spent = meter.cpu() - cpu
    writes = {name.split()[1]: n for name, n in meter.counters().items() if name.split()[0] == "apply"}
    of_tenants = sum(n for resource, n in writes.items() if resource in _TENANT_KINDS)
    return {
        "converge_cpu": spent,
        "converge_seconds": took,
        "writes_tenant": of_tenants,
        "writes_endpoint": sum(writes.values()) - of_tenants,
    }


def _resync(meter: Meter, cluster: uuid.UUID) -> dict[str, Any]:
    """Everything is due at once and nothing is to be done; the middle of five."""
    rounds = []
    for _ in range(5):
        _until(lambda: connection.client().llen("default") == 0, "a quiet queue")
        time.sleep(1)
        meter.reset()
        with system_scope("benchmark"):
            moment = clock.now()
            Endpoint.objects.update(next_reconcile_at=moment)
        cpu, began = meter.cpu(), time.monotonic()
        hints.send(hints.RECONCILE, str(cluster))
        _until(partial(_settled, moment), "a resync")
        took = time.monotonic() - began
        time.sleep(0.5)
        rounds.append((meter.cpu() - cpu, took, meter.counters()))
    cpu_seconds, seconds, counters = sorted(rounds, key=lambda one: one[0])[len(rounds) // 2]
    return {
        "resync_cpu": cpu_seconds,
        "resync_seconds": seconds,
        "resync_writes": sum(n for name, n in counters.items() if name.split()[0] not in {"list", "get", "watch"}),
        "resync_reads": sum(n for name, n in counters.items() if name.split()[0] == "get"),
        "resync_lists": {name.split()[1]: n for name, n in counters.items() if name.split()[0] == "list"},
    }


def _hint_to_apply(meter: Meter, tenants: list[Tenant]) -> dict[str, Any]:
    """New endpoints one by one, while all others are there. From the creation's return (its hint is sent then) to
    the first object of the endpoint."""
    times = []
    for number in range(NEW):
        tenant = tenants[number]
        endpoint = _endpoint(tenant, "new")
        began = time.monotonic()
        name = endpoint.public_id.replace("_", "-")
        path = f"/api/v1/namespaces/fh-{tenant.public_id.replace('_', '-')}/secrets/{name}-pull"
        _until(partial(meter.has, path), "the first apply", pause=0.01)
        times.append(time.monotonic() - began)
    return {"first_apply_p50": median(times), "first_apply_p95": quantiles(times, n=20)[-1]}


def _phases() -> dict[str, int]:
    with system_scope("benchmark"):
        return dict(Endpoint.objects.values_list("phase").annotate(count=Count("pk")))


def _settled(moment: datetime) -> bool:
    """Whether nothing that was due at `moment` is due, or being worked on."""
    with system_scope("benchmark"):
        rows = Endpoint.objects.filter(next_reconcile_at__lte=moment) | Endpoint.objects.exclude(lock_token=None)
        return not rows.exists()


def _until(holds: Callable[[], bool], what: str, *, pause: float = 0.05) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(pause)


if __name__ == "__main__":
    main()
