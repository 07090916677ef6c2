"""What a cluster has of ours: one list per kind, turned into Observed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

import msgspec

from freehold.common import clock
from freehold.common.logging import get_logger
from workers.manifests.kubernetes import names
from workers.runtimes.base import (
    Belonging,
    Blocker,
    ObjectKey,
    Observed,
    ObservedObject,
    ObservedReplica,
    RuntimeUnavailable,
    Scope,
)
from workers.runtimes.kubernetes import resources
from workers.runtimes.kubernetes.client import Api, Json
from workers.runtimes.kubernetes.pods import blocker_of, replica_of
from workers.runtimes.kubernetes.resources import Resource

log = get_logger(__name__)

LOOK_SECONDS = 40.0  # less than a claim lasts
ASKED_BY_NAME = 50  # so many endpoints are selected by label; for more, everything of ours is listed


class Observation:
    """One look at a cluster. Raises ApiError, RuntimeUnavailable.

    Attributes:
        prefix: of tenants' namespaces. Labels can be copied by whoever may create something somewhere; a namespace's
            name cannot: what is elsewhere than its labels say is a stranger's.
        claims, groups: whether volumes and LeaderWorkerSets are looked for.
        port: on which engines listen.
    """

    def __init__(self, api: Api, cluster: str, *, prefix: str, claims: bool, groups: bool, port: int) -> None:
        self._api = api
        self._cluster = cluster
        self._prefix = prefix
        self._claims = claims
        self._groups = groups
        self._port = port

    def look(self, scope: Scope | None) -> Observed:
        """Everything of the scope's endpoints and tenants; of ours at all where the scope is wide or absent."""
        of_tenants = of_endpoints = names.selector(self._cluster)
        if scope is not None and len(scope.endpoints) <= ASKED_BY_NAME:
            of_tenants += _among(names.TENANT, scope.tenants)
            of_endpoints += _among(names.ENDPOINT, scope.endpoints)
        give_up_at = time.monotonic() + LOOK_SECONDS
        at = clock.now()
        found = _Found(self._prefix, scope)
        # Workloads before pods: a pod that is seen was made from a workload that we have seen too, or a newer one.
        for kinds, selector in ((resources.OF_TENANTS, of_tenants), (resources.OF_ENDPOINTS, of_endpoints)):
            for resource in _kinds(kinds, claims=self._claims, groups=self._groups):
                documents: list[msgspec.Raw] = []
                for page in self._api.pages(resource, selector=selector, metadata=resource is resources.SECRET):
                    if page.first:
                        documents.clear()
                    documents += page.items
                for document in documents:
                    found.add(resource, document)
                if time.monotonic() > give_up_at:
                    raise RuntimeUnavailable(f"The cluster takes more than {LOOK_SECONDS:.0f} s to be read.")
        return Observed(
            at=at,
            replicas=self._replicas(of_endpoints, found),
            objects=found.objects,
            tenant_objects=found.shared,
            blockers=found.blockers,
        )

    def _replicas(self, selector: str, found: _Found) -> dict[str, tuple[ObservedReplica, ...]]:
        replicas: dict[str, list[ObservedReplica]] = {}
        for item in self._api.list(resources.POD, selector=selector):
            metadata = msgspec.convert(item["metadata"], _Metadata)
            # A pod that nobody's controller made is not from a workload of ours.
            if not (metadata.ownerReferences and found.is_ours(resources.POD, metadata)):
                continue
            try:
                replica = replica_of(item, port=self._port)
            except (KeyError, TypeError, ValueError):  # not a pod as we know them; the others are
                log.exception("pod_unreadable", pod=metadata.name, namespace=metadata.namespace)
                continue
            if replica is not None:
                replicas.setdefault(replica.endpoint, []).append(replica)
        return {
            endpoint: tuple(sorted(of_it, key=lambda replica: (replica.created_at, replica.id)))
            for endpoint, of_it in replicas.items()
        }


def inventory(api: Api, cluster: str, *, prefix: str, claims: bool, groups: bool) -> Iterator[Belonging]:
    """Whose everything of ours is, without its content. Raises ApiError, RuntimeUnavailable."""
    everywhere = _Found(prefix, None)
    for resource in _kinds((*resources.OF_ENDPOINTS, *resources.OF_TENANTS), claims=claims, groups=groups):
        for item in api.list(resource, selector=names.selector(cluster), metadata=True):
            metadata = item["metadata"]
            labels = metadata.get("labels") or {}
            if metadata.get("ownerReferences") or metadata.get("deletionTimestamp"):
                continue
            if not everywhere.is_ours(resource, msgspec.convert(metadata, _Metadata)):
                continue
            yield Belonging(
                key=ObjectKey(resource.kind, metadata.get("namespace", ""), metadata["name"]),
                uid=metadata["uid"],
                endpoint=labels.get(names.ENDPOINT, ""),
                tenant=labels.get(names.TENANT, ""),
                created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
            )


def _kinds(kinds: Collection[Resource], *, claims: bool, groups: bool) -> list[Resource]:
    absent = set()
    if not claims:
        absent.add(resources.CLAIM)
    if not groups:
        absent.add(resources.LEADER_WORKER_SET)
    return [resource for resource in kinds if resource not in absent]


class _Metadata(msgspec.Struct):
    """What of an object's metadata is read while sorting; the rest is skipped without being made."""

    name: str
    uid: str
    namespace: str = ""
    labels: dict[str, str] | None = None
    deletionTimestamp: str | None = None  # noqa: N815 - Kubernetes' words
    ownerReferences: list[Any] | None = None  # noqa: N815


class _Object(msgspec.Struct):
    metadata: _Metadata


class _Workload(msgspec.Struct):
    status: dict[str, Any] | None = None

    def as_json(self) -> Json:
        return {"status": self.status}


class _Found:
    """What a look has found, filed under its endpoint or tenant."""

    def __init__(self, prefix: str, scope: Scope | None) -> None:
        self._prefix = prefix
        self._scope = scope
        self.objects: dict[str, dict[ObjectKey, ObservedObject]] = {}
        self.shared: dict[str, dict[ObjectKey, ObservedObject]] = {}
        self.blockers: dict[str, Blocker] = {}

    def add(self, resource: Resource, document: msgspec.Raw) -> None:
        """Files an object of ours. One that a controller made from something of ours is not ours to keep."""
        metadata = msgspec.json.decode(document, type=_Object).metadata
        if metadata.ownerReferences or not self.is_ours(resource, metadata):
            return
        labels = metadata.labels or {}
        found = ObservedObject(
            key=ObjectKey(resource.kind, metadata.namespace, metadata.name),
            uid=metadata.uid,
            document=bytes(document),
            deleting=metadata.deletionTimestamp is not None,
        )
        endpoint = labels.get(names.ENDPOINT, "")
        if not endpoint:
            self.shared.setdefault(labels.get(names.TENANT, ""), {})[found.key] = found
            return
        self.objects.setdefault(endpoint, {})[found.key] = found
        if resource is resources.DEPLOYMENT:
            blocker = blocker_of(msgspec.json.decode(document, type=_Workload).as_json())
            if blocker is not None:
                self.blockers[endpoint] = blocker

    def is_ours(self, resource: Resource, metadata: _Metadata) -> bool:
        """Whether it lies where its labels say that it belongs, and its endpoint is its tenant's."""
        labels = metadata.labels or {}
        tenant, endpoint = labels.get(names.TENANT, ""), labels.get(names.ENDPOINT, "")
        place = metadata.namespace if resource.namespaced else metadata.name
        if not tenant or place != names.namespace(self._prefix, tenant):
            return False
        return self._scope is None or not endpoint or self._scope.endpoints.get(endpoint, tenant) == tenant


def _among(label: str, values: Collection[str]) -> str:
    return f",{label} in ({','.join(sorted(values))})"
