"""Writes of the fleet by workers: what a cluster says of itself, or that it says nothing. services.py has operators'.

Nobody is asked and nothing audited: it is a status, like an endpoint's. A cluster that cannot be reached keeps its
pools; what changes is that nothing new is placed there and that workers leave it alone for a while.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.fernet import InvalidToken
from django.db import transaction

from freehold.common import clock
from freehold.common.conditions import Condition, merge
from freehold.common.errors import InvalidInput, NotFound
from freehold.common.logging import get_logger
from freehold.fleet import cluster_settings, discovery, kubeconfig
from freehold.fleet.choices import ClusterAccess, ClusterConditionType, RuntimeKind
from freehold.fleet.cluster_settings import ClusterSettings
from freehold.fleet.facts import ClusterFacts
from freehold.fleet.models import Cluster, ClusterCredential, GpuFlavor, NodePool
from freehold.fleet.naming import flavor_name

log = get_logger(__name__)

RETRY_LEAST: Final = timedelta(seconds=5)
RETRY_MOST: Final = timedelta(seconds=60)
_MESSAGE_MOST: Final = 1000
_FORBIDDEN_SHOWN: Final = 12

_LEADER_WORKER_SETS = {
    True: Condition(ClusterConditionType.LEADER_WORKER_SETS, "True", "Installed"),
    False: Condition(
        ClusterConditionType.LEADER_WORKER_SETS,
        "False",
        "NotInstalled",
        "Replicas that span nodes cannot run: install LeaderWorkerSet (https://lws.sigs.k8s.io).",
    ),
}


@dataclass(frozen=True, kw_only=True)
class WorkCluster:
    """A cluster as a worker needs it.

    Attributes:
        access: how to get there; `credentials` where that is by kubeconfig.
        retry_at: before then it is left alone; None: no need to.
        has_leader_worker_sets: as last seen.
    """

    id: uuid.UUID
    public_id: str
    name: str
    region: str
    runtime: RuntimeKind
    access: ClusterAccess
    credentials: kubeconfig.Access | None = field(repr=False)
    settings: ClusterSettings
    engine_digest: str
    version: str
    retry_at: datetime | None
    has_leader_worker_sets: bool


def cluster_get_for_work(*, cluster_id: uuid.UUID) -> WorkCluster:
    """A cluster with its credentials, also one that is disabled: nothing new is placed there, what runs is kept up.

    Raises NotFound where there is none, InvalidInput for a kubeconfig or settings that are no longer taken.
    """
    cluster = Cluster.objects.select_related("region").filter(pk=cluster_id).first()
    if cluster is None:
        raise NotFound("There is no such cluster.")
    access = ClusterAccess(cluster.access)
    credentials = None
    if access is ClusterAccess.KUBECONFIG:
        credentials = kubeconfig.parse(_kubeconfig_of(cluster))
    return WorkCluster(
        id=cluster.pk,
        public_id=cluster.public_id,
        name=cluster.name,
        region=cluster.region.name,
        runtime=RuntimeKind(cluster.runtime),
        access=access,
        credentials=credentials,
        settings=cluster_settings.parse(cluster.settings),
        engine_digest=cluster.engine_digest,
        version=cluster.version,
        retry_at=cluster.retry_at,
        has_leader_worker_sets=cluster.has_leader_worker_sets,
    )


def _kubeconfig_of(cluster: Cluster) -> str:
    try:
        return ClusterCredential.objects.get(cluster=cluster).kubeconfig
    except ClusterCredential.DoesNotExist:
        raise InvalidInput("The cluster has no kubeconfig. Give it one.", field="kubeconfig") from None
    except InvalidToken:
        raise InvalidInput(
            "The cluster's kubeconfig cannot be decrypted: none of FREEHOLD_ENCRYPTION_KEYS fits. Give the old key "
            "back, or the cluster its kubeconfig again.",
            field="kubeconfig",
        ) from None


def cluster_record_facts(*, cluster_id: uuid.UUID, facts: ClusterFacts, at: datetime | None = None) -> bool:
    """Writes down what was found: conditions, version, flavors that are new, and the room in every pool.

    A cluster that is registered a second time under another name is recorded as one that must be left alone: each
    would take the other's objects for its own. Returns whether it may be worked on. Raises NotFound where it is gone.
    """
    moment = at or clock.now()
    found = discovery.discover(facts.nodes)
    first = Cluster.objects.filter(uid=facts.uid).exclude(pk=cluster_id).first() if facts.uid else None
    if first is not None:
        message = f"This is the cluster {first.name!r} by another address. Remove one of the two."
        cluster_record_unreachable(cluster_id=cluster_id, message=message, reason="AlreadyRegistered", at=moment)
        return False
    with transaction.atomic():
        cluster = _locked(cluster_id)
        cluster.uid = facts.uid or cluster.uid
        flavors_discover(found=found)
        for flavor in GpuFlavor.objects.exclude(resource="").order_by("name"):
            _pool_record(cluster, flavor, facts, moment)
        conditions = (
            Condition(ClusterConditionType.REACHABLE, "True", "Answers", f"Kubernetes {facts.version} answers."),
            _permitted(facts.forbidden),
            _LEADER_WORKER_SETS[facts.has_leader_worker_sets],
            _accelerators(found, facts),
        )
        cluster.conditions = merge(cluster.conditions, conditions, at=moment, keep=True)
        cluster.version = facts.version
        cluster.observed_at = moment
        cluster.unreachable_since = cluster.retry_at = None
        cluster.save(update_fields=["conditions", "version", "uid", "observed_at", "unreachable_since", "retry_at"])
    return True


def cluster_record_orphans(*, cluster_id: uuid.UUID, left: int, at: datetime | None = None) -> None:
    """Writes down that what belongs to `left` endpoints that nobody knows was found and left alone; 0 that nothing was.

    Raises NotFound where the cluster is gone.
    """
    moment = at or clock.now()
    condition = Condition(ClusterConditionType.ORPHANS, "False", "NoneLeft")
    if left:
        message = (
            f"Objects of {left} endpoints that this installation does not know were found and left alone. An older "
            "database may have been restored, or two installations share one. If they are to go, set "
            "timing.orphans_at_once in the cluster's settings to at least that many."
        )
        condition = Condition(ClusterConditionType.ORPHANS, "True", "ManyFound", message)
    with transaction.atomic():
        cluster = _locked(cluster_id)
        known = cluster.condition(ClusterConditionType.ORPHANS)
        if (known or {}).get("message", "") != condition.message:
            cluster.conditions = merge(cluster.conditions, [condition], at=moment, keep=True)
            cluster.save(update_fields=["conditions"])


def cluster_record_unreachable(
    *, cluster_id: uuid.UUID, message: str, reason: str = "NoAnswer", at: datetime | None = None
) -> datetime:
    """Writes down that a cluster does not answer, and why. Returns when to try again: after 5 seconds at first, then
    after as long again as it has been away, at most a minute. Saying so twice at once changes nothing.

    Raises NotFound where the cluster is gone.
    """
    moment = at or clock.now()
    with transaction.atomic():
        cluster = _locked(cluster_id)
        since = cluster.unreachable_since or moment
        cluster.unreachable_since = since
        cluster.retry_at = moment + min(max(moment - since, RETRY_LEAST), RETRY_MOST)
        condition = Condition(ClusterConditionType.REACHABLE, "False", reason, message[:_MESSAGE_MOST])
        cluster.conditions = merge(cluster.conditions, [condition], at=moment, keep=True)
        cluster.save(update_fields=["conditions", "unreachable_since", "retry_at"])
        return cluster.retry_at


def flavors_discover(*, found: discovery.Found) -> None:
    """Makes the flavors that are missing. One that matches (resource, labels, number) is left as it is, disabled ones
    as well: endpoints are billed by it."""
    for kind in found.kinds:
        there = set(
            GpuFlavor.objects.filter(resource=kind.resource, node_labels=kind.node_labels, nodes=1).values_list(
                "accelerators", flat=True
            )
        )
        for count in kind.counts:
            if count in there:
                continue
            made = _flavor_make(kind, count)
            log.info("flavor_discovered", flavor=made.name, resource=kind.resource, product=kind.product)


def _flavor_make(kind: discovery.Kind, count: int) -> GpuFlavor:
    """A name that is taken by something else gets a suffix, always the same for the same thing."""
    facts: dict[str, Any] = {
        "accelerator": kind.product,
        "accelerators": count,
        "memory_bytes": kind.memory_bytes,
        "resource": kind.resource,
        "node_labels": dict(kind.node_labels),
    }
    flavor, made = GpuFlavor.objects.get_or_create(name=kind.name(count), defaults=facts)
    if made or _is(flavor, facts):
        return flavor
    distinguish = f"{kind.resource}/{sorted(kind.node_labels.items())}"
    name = flavor_name(kind.product, count, distinguish=distinguish)
    flavor, _ = GpuFlavor.objects.get_or_create(name=name, defaults=facts)
    return flavor


def _is(flavor: GpuFlavor, facts: Mapping[str, Any]) -> bool:
    """Whether it is the same thing, made by another cluster's discovery a moment ago."""
    return flavor.nodes == 1 and all(
        getattr(flavor, name) == facts[name] for name in ("accelerators", "resource", "node_labels")
    )


def _pool_record(cluster: Cluster, flavor: GpuFlavor, facts: ClusterFacts, moment: datetime) -> None:
    """A pool that the operator set stays as they said; one whose nodes are gone holds nothing, and keeps its cost."""
    room = discovery.room(facts.nodes, resource=flavor.resource, node_labels=flavor.node_labels)
    spans = flavor.nodes > 1
    values = {
        "capacity": 0
        if spans and not facts.has_leader_worker_sets
        else room.capacity(per_node=flavor.accelerators_per_node, nodes=flavor.nodes),
        "nodes": room.nodes,
        "accelerators_allocatable": room.allocatable,
        "accelerators_used_by_others": room.used_by_others,
        "accelerators_by_node": list(room.by_node),
        "observed_at": moment,
    }
    pools = NodePool.objects.filter(cluster=cluster, flavor=flavor)
    if pools.filter(discovered=True).update(**values) or pools.exists() or not room.nodes:
        return
    NodePool.objects.get_or_create(cluster=cluster, flavor=flavor, defaults={**values, "discovered": True})


def _permitted(forbidden: tuple[str, ...]) -> Condition:
    if not forbidden:
        return Condition(ClusterConditionType.PERMITTED, "True", "Allowed")
    more = f" and {len(forbidden) - _FORBIDDEN_SHOWN} more" if len(forbidden) > _FORBIDDEN_SHOWN else ""
    missing = ", ".join(forbidden[:_FORBIDDEN_SHOWN]) + more
    return Condition(
        ClusterConditionType.PERMITTED,
        "False",
        "Forbidden",
        f"Our account there may not: {missing}. Grant it these (docs/fleet.md).",
    )


def _accelerators(found: discovery.Found, facts: ClusterFacts) -> Condition:
    status, reason = ("True", "Found") if found.kinds else ("False", "NoneFound")
    message = discovery.kinds_summary(found, facts.nodes)[:_MESSAGE_MOST]
    return Condition(ClusterConditionType.ACCELERATORS, status, reason, message)


def _locked(cluster_id: uuid.UUID) -> Cluster:
    """FOR NO KEY UPDATE: rows that refer to the cluster can be added meanwhile."""
    cluster = Cluster.objects.select_for_update(no_key=True).filter(pk=cluster_id).first()
    if cluster is None:
        raise NotFound("There is no such cluster.")
    return cluster
