"""A region with an emulated cluster that workers reconcile: real HTTP, PostgreSQL and Redis; kubelets are played."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import redis

from freehold.db.rls import system_scope
from freehold.fleet import services as fleet
from freehold.fleet.models import Cluster
from freehold.fleet.observations import cluster_get_for_work
from freehold.metering.models import ReplicaInterval
from freehold.serving.models import Endpoint
from freehold.tenancy.models import Tenant
from freehold.wire import names as wire_names
from freehold.wire.publish import split
from freehold.wire.records import RouteRecord, decode
from tests.factories.clusters import make_cluster
from tests.factories.reconciled import Reconciled
from tests.factories.tenants import SYSTEM, make_revision, make_tenant
from tests.fakes.kubernetes import Emulator
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.objects import Writing
from tests.fakes.kubernetes.resources import Resource
from tests.fakes.kubernetes.storage import Stored
from tests.integration.api.client import api_of
from workers.manifests.kubernetes import names
from workers.reconcile.clusters import cluster_check
from workers.runtimes.registry import api_of as connections_to
from workers.runtimes.registry import target_of
from workers.watch.kubernetes import ClusterWatch

Json = dict[str, Any]

PREFIX = "fh-test-"
IMAGE = "registry.example/freehold@sha256:" + "a" * 64
ONE = "h100-80gb-hbm3-1x"  # flavors as they are discovered on the emulator's nodes
EIGHT = "h100-80gb-hbm3-8x"
TENANT_KINDS = (
    kinds.NAMESPACES,
    kinds.NETWORKPOLICIES,
    kinds.QUOTAS,
    kinds.LIMITRANGES,
    kinds.SERVICEACCOUNTS,
)
ENDPOINT_KINDS = (kinds.SECRETS, kinds.SERVICES, kinds.BUDGETS, kinds.DEPLOYMENTS)
EDITOR = Writing("kubectl-edit")


@dataclass
class World(Reconciled):
    """Passes over an emulated cluster; between them its controllers and kubelets do what there is to do."""

    api: Emulator
    redis: redis.Redis = field(repr=False)

    def elsewhere(self) -> None:
        self.api.cluster.settle()

    def step(self) -> None:
        """The controllers, then a pass."""
        self.elsewhere()
        self.reconcile()

    def ready(self, name: str = "chat", **options: Any) -> Endpoint:
        """An endpoint that answers."""
        endpoint = self.deploy(name, **options)
        self.settle()
        self.all_ready(endpoint)
        return self.again(endpoint)

    def all_ready(self, endpoint: Endpoint) -> None:
        """Its engines answer."""
        self.elsewhere()
        for pod in self.pods(endpoint):
            self.api.cluster.pods.ready(pod)
        self.step()

    def pods(self, endpoint: Endpoint) -> list[str]:
        """Names of its living pods."""
        found = self.api.cluster.pods.all(f"{names.of(endpoint.public_id)}-")
        return sorted(each.body["metadata"]["name"] for each in found)

    def pod(self, endpoint: Endpoint) -> str:
        """The one pod it has."""
        (name,) = self.pods(endpoint)
        return name

    # What is in the cluster

    def ours(self, resource: Resource) -> list[Stored]:
        """Everything of a kind under our label, but for what controllers made."""
        return [
            each
            for each in self.api.store.all(resource)
            if each.body["metadata"].get("labels", {}).get(names.CLUSTER) == self.cluster.public_id
            and not each.body["metadata"].get("ownerReferences")
        ]

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Json | None:
        """One object's content, or None."""
        where = "" if resource is kinds.NAMESPACES else self.namespace if namespace is None else namespace
        found = self.api.store.get(resource, where, name)
        return found.body if found is not None else None

    def edit(self, resource: Resource, name: str, patch: Json) -> None:
        """By hand, by another field manager."""
        where = "" if resource is kinds.NAMESPACES else self.namespace
        self.api.objects.merge(resource, where, name, patch, EDITOR)

    # What people see

    def route(self, name: str = "acme/chat") -> RouteRecord | None:
        """What gateways know; None where it was withdrawn."""
        value = self.redis.hget(wire_names.section(wire_names.Section.ROUTES), name)
        assert isinstance(value, bytes)
        data = split(value)[1]
        return decode(data, RouteRecord) if data else None

    def addresses(self, name: str = "acme/chat") -> set[str]:
        """host:port of every replica that requests may go to."""
        route = self.route(name)
        return set() if route is None else {f"{each.host}:{each.port}" for each in route.replicas}

    def events(self, endpoint: Endpoint) -> list[tuple[str, str, str]]:
        """Type, reason and message as the REST API answers them."""
        answer = api_of(endpoint.tenant).get(f"/endpoints/{endpoint.public_id}/events", limit=100)
        assert answer.status == 200, answer.body
        return [(event["type"], event["reason"], event["message"]) for event in answer.body["data"]]

    def intervals(self, endpoint: Endpoint) -> list[tuple[str, str, bool]]:
        """Replica, state and whether it still lasts, of what GPU-seconds are billed from."""
        with system_scope("tests"):
            rows = ReplicaInterval.objects.filter(endpoint_id=endpoint.pk).order_by("started_at", "replica_id")
            return [(row.replica_id, row.state, row.ended_at is None) for row in rows]

    def watch(self) -> ClusterWatch:
        """A watch of the cluster that has not begun."""
        cluster = cluster_get_for_work(cluster_id=self.cluster.pk)
        target = target_of(cluster)
        return ClusterWatch(
            connections_to(cluster),
            cluster=cluster.public_id,
            name=cluster.name,
            groups=target.groups,
            port=target.settings.engine_port,
        )


def settings(**changes: Any) -> Json:
    """Cluster settings for tests: nothing waits."""
    document: Json = {
        "namespace_prefix": PREFIX,
        "images": {"fetcher": IMAGE},
        "timing": {"drain": 0, "orphan_grace": 0},
    }
    return document | changes


def register(api: Emulator, name: str, region: str, **fields: Any) -> Cluster:
    """The emulator as a cluster of the fleet, looked at once."""
    api.options.token = api.options.token or f"of-{name}"
    cluster = make_cluster(name, region=region, kubeconfig=api.kubeconfig(), **{"settings": settings(), **fields})
    cluster_check(cluster.pk)
    cluster.refresh_from_db()
    return cluster


def rotate(cluster: Cluster, kubeconfig: str) -> None:
    """The operator gives the cluster another kubeconfig."""
    fleet.cluster_update(actor=SYSTEM, cluster=cluster, kubeconfig=kubeconfig)


def make_world(api: Emulator, client: redis.Redis, *, tenant: Tenant | None = None, **fields: Any) -> World:
    """Registers `api` as fra-1 in eu-central, with the tenant acme and its model."""
    cluster = register(api, fields.pop("name", "fra-1"), fields.pop("region", "eu-central"), **fields)
    if tenant is None:
        tenant = make_tenant()
        make_revision(tenant)
    return World(cluster, tenant, PREFIX, api, client)


def eventually(holds: Callable[[], Any], what: str, *, seconds: float = 8.0) -> Any:
    """Threads have a say: asks until it holds; what held is returned."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.01)
    return found


def verbs(api: Emulator, *wanted: str) -> list[tuple[str, str]]:
    """Verb and resource of the writes so far, in order."""
    seen: Collection[str] = wanted
    return [(write.verb, write.resource) for write in api.counters.writes if not seen or write.verb in seen]
