"""A real cluster, named by FREEHOLD_TEST_KUBECONFIG: whatever API server, scheduler and controllers it has, no kubelet.

That kubeconfig is the workers'. What the watcher and the tests themselves do, edits by hand and a look at the result,
may have accounts of their own, FREEHOLD_TEST_WATCHER_KUBECONFIG and FREEHOLD_TEST_ADMIN_KUBECONFIG, so that the rights
that the chart gives are really tested.

Everything is in namespaces with a prefix of this run, which are removed afterwards. PostgreSQL and Redis are the
session's own; workers' code runs in the test.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from freehold.fleet import services as fleet
from freehold.fleet.choices import RuntimeKind
from freehold.fleet.kubeconfig import parse
from freehold.serving.models import Endpoint
from tests.factories.reconciled import Reconciled
from tests.factories.tenants import SYSTEM, make_revision, make_tenant
from workers.reconcile.clusters import cluster_check
from workers.runtimes.kubernetes import resources
from workers.runtimes.kubernetes.client import Api, ApiError
from workers.runtimes.kubernetes.resources import Resource

VARIABLE = "FREEHOLD_TEST_KUBECONFIG"
WATCHER = "FREEHOLD_TEST_WATCHER_KUBECONFIG"
ADMIN = "FREEHOLD_TEST_ADMIN_KUBECONFIG"
IMAGE = "registry.example/freehold@sha256:" + "a" * 64
ENGINE = "sha256:" + "b" * 64
_REMOVED_SECONDS = 90
_PATIENCE_SECONDS = 30.0


@dataclass
class World(Reconciled):
    """A registered cluster with a tenant that has a model. `api` is the test's own way there."""

    api: Api

    def deploy(self, name: str = "chat", *, flavor: str | None = "test-1x", **options: Any) -> Endpoint:
        """On the flavor that every cluster has here, unless told otherwise."""
        return super().deploy(name, flavor=flavor, **options)

    def get(self, resource: Resource, name: str) -> dict[str, Any]:
        return self.api.get(resource.path(self.namespace, name))

    def exists(self, resource: Resource, name: str) -> bool:
        try:
            self.api.get(resource.path(self.namespace if resource.namespaced else "", name))
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True

    def eventually(self, holds: Callable[[], bool], what: str, *, pause: float = 0.3) -> None:
        """Other processes have a say: asks until it holds."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < deadline, f"not within {_PATIENCE_SECONDS:.0f} s: {what}"
            time.sleep(pause)


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    path = os.environ.get(VARIABLE)
    if not path:
        pytest.skip(f"{VARIABLE} names no cluster")
    return Path(path).read_text()


def _account(variable: str, otherwise: str) -> str:
    path = os.environ.get(variable)
    return Path(path).read_text() if path else otherwise


@pytest.fixture(scope="session")
def watcher_kubeconfig(kubeconfig: str) -> str:
    return _account(WATCHER, kubeconfig)


@pytest.fixture
def api(kubeconfig: str) -> Iterator[Api]:
    api = Api.of_access(parse(_account(ADMIN, kubeconfig)))
    yield api
    api.close()


@pytest.fixture
def world(committed_db: None, api: Api, kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("FREEHOLD_PUBLIC_URL", "https://freehold.example")
    prefix = f"fh-test-{uuid.uuid4().hex[:8]}-"
    region = fleet.region_create(actor=SYSTEM, name="test")
    settings = {"namespace_prefix": prefix, "images": {"fetcher": IMAGE}, "timing": {"drain": 0, "orphan_grace": 0}}
    cluster = fleet.cluster_register(
        actor=SYSTEM,
        region=region,
        name="test",
        runtime=RuntimeKind.KUBERNETES,
        engine_digest=ENGINE,
        kubeconfig=kubeconfig,
        settings=settings,
    )
    flavor = fleet.flavor_create(
        actor=SYSTEM, name="test-1x", accelerator="test", memory_bytes=80 * 1024**3, resource="nvidia.com/gpu"
    )
    pair = fleet.flavor_create(
        actor=SYSTEM,
        name="test-2n",
        accelerator="test",
        accelerators=16,
        nodes=2,
        memory_bytes=80 * 1024**3,
        resource="nvidia.com/gpu",
    )
    cluster_check(cluster.pk)
    for wanted in (flavor, pair):
        fleet.node_pool_set(actor=SYSTEM, cluster=cluster, flavor=wanted, capacity=100)
    tenant = make_tenant()
    make_revision(tenant)
    cluster.refresh_from_db()
    yield World(cluster, tenant, prefix, api)
    _remove(api, prefix)


def _remove(api: Api, prefix: str) -> None:
    """Namespaces of this run, and the pods in them: without a kubelet nobody else ends those."""
    deadline = time.monotonic() + _REMOVED_SECONDS
    while left := [n for n in api.list(resources.NAMESPACE) if n["metadata"]["name"].startswith(prefix)]:
        assert time.monotonic() < deadline, "the namespaces of this run are still there"
        for namespace in left:
            name, uid = namespace["metadata"]["name"], namespace["metadata"]["uid"]
            api.delete(resources.NAMESPACE, "", name, uid=uid)
            end_pods(api, name)
        time.sleep(0.5)


def end_pods(api: Api, namespace: str) -> None:
    """What a kubelet would do: confirms the end of pods that are being deleted."""
    for pod in api.list(resources.POD, namespace=namespace):
        if pod["metadata"].get("deletionTimestamp"):
            path = resources.POD.path(namespace, pod["metadata"]["name"])
            with contextlib.suppress(ApiError):
                api._ask("DELETE", path, {"gracePeriodSeconds": 0})
