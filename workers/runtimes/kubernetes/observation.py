"""What a cluster has of ours: one list per kind, turned into Observed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

import msgspec

from freehold.common import clock
from workers.manifests.kubernetes import names
from workers.runtimes.base import Belonging, Blocker, ObjectKey, Observed, ObservedObject, ObservedReplica, Scope
from workers.runtimes.kubernetes import resources
from workers.runtimes.kubernetes.client import Api, Json
from workers.runtimes.kubernetes.pods import blocker_of, replica_of
from workers.runtimes.kubernetes.resources import Resource

ASKED_BY_NAME = 50  # so many endpoints are selected by label; for more, everything of ours is listed


class Observation:
    """One look at a cluster. Raises ApiError, RuntimeUnavailable.

    Attributes:
        claims, groups: whether volumes and LeaderWorkerSets are looked for.
        port: on which engines listen.
    """

    def __init__(self, api: Api, cluster: str, *, claims: bool, groups: bool, port: int) -> None:
        self._api = api
        self._cluster = cluster
        self._claims = claims
        self._groups = groups
        self._port = port

    def look(self, scope: Scope | None) -> Observed:
        """Everything of the scope's endpoints and tenants; of ours at all where the scope is wide or absent."""
        of_tenants = of_endpoints = names.selector(self._cluster)
        if scope is not None and len(scope.endpoints) <= ASKED_BY_NAME:
            of_tenants += _among(names.TENANT, scope.tenants)
            of_endpoints += _among(names.ENDPOINT, scope.endpoints)
        at = clock.now()
        # Workloads before pods: a pod that is seen was made from a workload that we have seen too, or a newer one.
        objects: dict[str, dict[ObjectKey, ObservedObject]] = {}
        shared: dict[str, dict[ObjectKey, ObservedObject]] = {}
        blockers: dict[str, Blocker] = {}
        for resource in _kinds(resources.OF_TENANTS, claims=self._claims, groups=self._groups):
            for document in self._documents(resource, of_tenants):
                _sort(resource, document, objects, shared)
        for resource in _kinds(resources.OF_ENDPOINTS, claims=self._claims, groups=self._groups):
            for document in self._documents(resource, of_endpoints):
                endpoint = _sort(resource, document, objects, shared)
                if endpoint and resource is resources.DEPLOYMENT:
                    blocker = blocker_of(msgspec.json.decode(document, type=_Workload).as_json())
                    if blocker is not None:
                        blockers[endpoint] = blocker
        return Observed(
            at=at,
            replicas=self._replicas(of_endpoints),
            objects=objects,
            tenant_objects=shared,
            blockers=blockers,
        )

    def _documents(self, resource: Resource, selector: str) -> Iterator[msgspec.Raw]:
        for page in self._api.pages(resource, selector=selector, metadata=resource is resources.SECRET):
            yield from page.items

    def _replicas(self, selector: str) -> dict[str, tuple[ObservedReplica, ...]]:
        replicas: dict[str, list[ObservedReplica]] = {}
        for item in self._api.list(resources.POD, selector=selector):
            found = replica_of(item, port=self._port)
            if found is not None:
                replicas.setdefault(found.endpoint, []).append(found)
        return {
            endpoint: tuple(sorted(found, key=lambda replica: (replica.created_at, replica.id)))
            for endpoint, found in replicas.items()
        }


def inventory(api: Api, cluster: str, *, claims: bool, groups: bool) -> Iterator[Belonging]:
    """Whose everything of ours is, without its content. Raises ApiError, RuntimeUnavailable."""
    for resource in _kinds((*resources.OF_ENDPOINTS, *resources.OF_TENANTS), claims=claims, groups=groups):
        for item in api.list(resource, selector=names.selector(cluster), metadata=True):
            metadata = item["metadata"]
            labels = metadata.get("labels") or {}
            if metadata.get("ownerReferences") or metadata.get("deletionTimestamp"):
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
    ownerReferences: list[msgspec.Raw] | None = None  # noqa: N815


class _Object(msgspec.Struct):
    metadata: _Metadata


class _Workload(msgspec.Struct):
    status: dict[str, Any] | None = None

    def as_json(self) -> Json:
        return {"status": self.status}


def _sort(
    resource: Resource,
    document: msgspec.Raw,
    objects: dict[str, dict[ObjectKey, ObservedObject]],
    shared: dict[str, dict[ObjectKey, ObservedObject]],
) -> str:
    """Files an object under its endpoint or tenant; returns the endpoint, if it is one's."""
    metadata = msgspec.json.decode(document, type=_Object).metadata
    if metadata.ownerReferences:
        return ""  # made by a controller from something of ours; it is not ours to keep
    labels = metadata.labels or {}
    found = ObservedObject(
        key=ObjectKey(resource.kind, metadata.namespace, metadata.name),
        uid=metadata.uid,
        document=bytes(document),
        deleting=metadata.deletionTimestamp is not None,
    )
    endpoint = labels.get(names.ENDPOINT, "")
    place = objects.setdefault(endpoint, {}) if endpoint else shared.setdefault(labels.get(names.TENANT, ""), {})
    place[found.key] = found
    return endpoint


def _among(label: str, values: Collection[str]) -> str:
    return f",{label} in ({','.join(sorted(values))})"
