"""Writes of the fleet by operators: regions, clusters, flavors and pools. Workers' are in observations.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from django.db import IntegrityError, transaction

from freehold.common.errors import Conflict, InvalidInput
from freehold.db.rls import system_scope
from freehold.fleet import cluster_settings
from freehold.fleet.choices import ClusterAccess, RuntimeKind
from freehold.fleet.kubeconfig import parse as parse_kubeconfig
from freehold.fleet.models import Cluster, ClusterCredential, GpuFlavor, NodePool, Region
from freehold.tenancy.actors import Actor
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.services import audit_record
from freehold.wire import hints

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
# Kubernetes: IsExtendedResourceName, and the grammar of labels.
_RESOURCE: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL: Final = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_WHY = "the fleet belongs to no tenant; its audit trail is the platform's"


def region_create(*, actor: Actor, name: str, display_name: str = "") -> Region:
    """Raises Conflict where the name is taken."""
    require(actor, Operation.FLEET_MANAGE, tenant_id=None)
    with system_scope(_WHY):
        try:
            with transaction.atomic():
                region = Region.objects.create(name=name, display_name=display_name)
        except IntegrityError:
            raise Conflict(f"There is already a region {name!r}.", field="name") from None
        audit_record(actor=actor, tenant_id=None, action="region.create", object_id=region.public_id)
    return region


def cluster_register(
    *,
    actor: Actor,
    region: Region,
    name: str,
    runtime: RuntimeKind,
    engine_digest: str,
    access: ClusterAccess | None = None,
    kubeconfig: str = "",
    settings: Mapping[str, Any] | None = None,
) -> Cluster:
    """A new cluster; workers look soon whether it answers.

    `access` is what the runtime has, by kubeconfig unless told otherwise. Raises Conflict where the name is taken,
    InvalidInput for a kubeconfig, settings or digest that cannot be taken.
    """
    require(actor, Operation.FLEET_MANAGE, tenant_id=None)
    access = _access(runtime, access)
    _check_engine(runtime, engine_digest)
    _check_kubeconfig(access, kubeconfig)
    cluster_settings.parse(settings or {})
    if not name.strip():
        raise InvalidInput("Give the cluster a name.", field="name")
    with system_scope(_WHY):
        try:
            with transaction.atomic():
                cluster = Cluster.objects.create(
                    region=region,
                    name=name.strip(),
                    runtime=runtime.value,
                    access=access.value,
                    engine_digest=engine_digest,
                    settings=dict(settings or {}),
                )
        except IntegrityError:
            raise Conflict(f"There is already a cluster {name!r}.", field="name") from None
        if kubeconfig:
            ClusterCredential.objects.create(cluster=cluster, kubeconfig=kubeconfig)
        audit_record(
            actor=actor,
            tenant_id=None,
            action="cluster.register",
            object_id=cluster.public_id,
            detail={"name": cluster.name, "region": region.name, "runtime": runtime.value, "access": access.value},
        )
        _hint(cluster)
    return cluster


def cluster_update(
    *,
    actor: Actor,
    cluster: Cluster,
    kubeconfig: str | None = None,
    settings: Mapping[str, Any] | None = None,
    enabled: bool | None = None,
    engine_digest: str | None = None,
) -> Cluster:
    """Changes what is given and nothing else. A new kubeconfig replaces the old one; workers try again at once. Where
    it is not enabled nothing new is placed, and what runs there is kept up.

    Raises InvalidInput naming the field.
    """
    require(actor, Operation.FLEET_MANAGE, tenant_id=None)
    changed: dict[str, object] = {}
    with system_scope(_WHY):
        cluster = Cluster.objects.select_for_update(no_key=True).select_related("region").get(pk=cluster.pk)
        if kubeconfig is not None:
            _check_kubeconfig(ClusterAccess(cluster.access), kubeconfig)
            ClusterCredential.objects.update_or_create(cluster=cluster, defaults={"kubeconfig": kubeconfig})
            changed["kubeconfig"] = "replaced"
        if settings is not None and dict(settings) != cluster.settings:
            wanted = cluster_settings.parse(settings)
            before = cluster_settings.parse(cluster.settings).namespace_prefix
            if wanted.namespace_prefix != before and cluster.reservations.exists():
                raise InvalidInput(
                    f"The cluster has endpoints in namespaces that begin with {before!r}, and namespaces cannot be "
                    "renamed: changing namespace_prefix would end all of them at once. Delete the endpoints first.",
                    field="settings",
                )
            cluster.settings = dict(settings)
            changed["settings"] = "changed"  # what is in them (environments, addresses) is not for the trail
        if enabled is not None and enabled != cluster.enabled:
            cluster.enabled = changed["enabled"] = enabled
        if engine_digest is not None and engine_digest != cluster.engine_digest:
            _check_engine(RuntimeKind(cluster.runtime), engine_digest)
            cluster.engine_digest = changed["engine_digest"] = engine_digest
        if changed:
            cluster.retry_at = None  # what is in the way may be gone
            cluster.save(update_fields=["settings", "enabled", "engine_digest", "retry_at"])
            audit_record(
                actor=actor, tenant_id=None, action="cluster.update", object_id=cluster.public_id, detail=changed
            )
            _hint(cluster)
    return cluster


def cluster_engine_set(*, actor: Actor, cluster: Cluster, engine_digest: str) -> Cluster:
    """What endpoints created from now on pin; those that exist keep their engine (invariant 4)."""
    require(actor, Operation.FLEET_MANAGE, tenant_id=None)
    _check_engine(RuntimeKind(cluster.runtime), engine_digest)
    with system_scope(_WHY):
        cluster.engine_digest = engine_digest
        cluster.save(update_fields=["engine_digest"])
        audit_record(
            actor=actor,
            tenant_id=None,
            action="cluster.engine_set",
            object_id=cluster.public_id,
            detail={"engine_digest": engine_digest},
        )
    return cluster


def flavor_create(
    *,
    actor: Actor,
    name: str,
    accelerator: str,
    accelerators: int = 1,
    memory_bytes: int = 0,
    kv_cache_bytes: int = 0,
    nodes: int = 1,
    resource: str = "",
    node_labels: Mapping[str, str] | None = None,
) -> GpuFlavor:
    """Raises Conflict where the name is taken, InvalidInput for numbers, a resource or labels that cannot be."""
    require(actor, Operation.FLEET_MANAGE, tenant_id=None)
    labels = dict(node_labels or {})
    _check_flavor(accelerators, nodes, resource, labels)
    with system_scope(_WHY):
        try:
            with transaction.atomic():
                flavor = GpuFlavor.objects.create(
                    name=name,
                    accelerator=accelerator,
                    accelerators=accelerators,
                    nodes=nodes,
                    memory_bytes=memory_bytes,
                    kv_cache_bytes=kv_cache_bytes,
                    resource=resource,
                    node_labels=labels,
                )
        except IntegrityError:
            raise Conflict(f"There is already a flavor {name!r}.", field="name") from None
        audit_record(
            actor=actor, tenant_id=None, action="flavor.create", object_id=flavor.public_id, detail={"name": name}
        )
        if resource:
            for cluster in Cluster.objects.filter(runtime=RuntimeKind.KUBERNETES.value):
                _hint(cluster)
    return flavor


def node_pool_set(
    *,
    actor: Actor,
    cluster: Cluster,
    flavor: GpuFlavor,
    capacity: int,
    cost_nanos_per_accelerator_hour: int | None = None,
) -> NodePool:
    """How many replicas of `flavor` the cluster holds, whatever is discovered; and what an accelerator-hour costs."""
    require(actor, Operation.FLEET_MANAGE, tenant_id=None)
    values = {"capacity": capacity, "discovered": False}
    if cost_nanos_per_accelerator_hour is not None:
        values["cost_nanos_per_accelerator_hour"] = cost_nanos_per_accelerator_hour
    with system_scope(_WHY):
        pool, _ = NodePool.objects.update_or_create(cluster=cluster, flavor=flavor, defaults=values)
        audit_record(
            actor=actor,
            tenant_id=None,
            action="node_pool.set",
            object_id=pool.public_id,
            detail={"cluster": cluster.name, "flavor": flavor.name, **values},
        )
    return pool


def _access(runtime: RuntimeKind, access: ClusterAccess | None) -> ClusterAccess:
    if runtime is RuntimeKind.LOCAL:
        if access not in (None, ClusterAccess.LOCAL):
            raise InvalidInput("A cluster with the local runtime is this machine: its access is local.", field="access")
        return ClusterAccess.LOCAL
    if access is ClusterAccess.LOCAL:
        raise InvalidInput("Kubernetes is reached by kubeconfig or in_cluster.", field="access")
    return access or ClusterAccess.KUBECONFIG


def _check_engine(runtime: RuntimeKind, engine_digest: str) -> None:
    if not engine_digest:
        raise InvalidInput("An endpoint pins its engine: give the digest of the engine's image.", field="engine_digest")
    if runtime is RuntimeKind.KUBERNETES and not _DIGEST.fullmatch(engine_digest):
        raise InvalidInput(
            "The engine's image is pinned by its digest: sha256: and 64 hex digits "
            "(crane digest docker.io/vllm/vllm-openai:…).",
            field="engine_digest",
        )


def _check_kubeconfig(access: ClusterAccess, kubeconfig: str) -> None:
    if access is ClusterAccess.KUBECONFIG:
        parse_kubeconfig(kubeconfig)
    elif kubeconfig:
        raise InvalidInput(f"A cluster that is reached by {access.value} has no kubeconfig.", field="kubeconfig")


def _check_flavor(accelerators: int, nodes: int, resource: str, node_labels: Mapping[str, Any]) -> None:
    if accelerators < 1:
        raise InvalidInput("A replica occupies at least one accelerator (a CPU counts as one).", field="accelerators")
    if nodes < 1 or accelerators % nodes:
        raise InvalidInput(
            f"A replica's accelerators are spread evenly: {accelerators} cannot be over {nodes} nodes.", field="nodes"
        )
    if resource and not _RESOURCE.fullmatch(resource):
        raise InvalidInput(
            f"{resource!r} is not the name of an extended resource, such as nvidia.com/gpu.", field="resource"
        )
    for key, value in node_labels.items():
        if not (isinstance(value, str) and _LABEL.fullmatch(key) and _LABEL_VALUE.fullmatch(value)):
            raise InvalidInput(f"{key!r}: {value!r} is not a label that a node can have.", field="node_labels")


def _hint(cluster: Cluster) -> None:
    if cluster.runtime == RuntimeKind.KUBERNETES:
        transaction.on_commit(partial(hints.send, hints.CHECK_CLUSTER, str(cluster.pk)))
