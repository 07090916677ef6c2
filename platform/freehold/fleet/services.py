"""Writes of the fleet: the operator registers regions, clusters, flavors and pools."""

from __future__ import annotations

from django.db import IntegrityError, transaction

from freehold.common.errors import Conflict, InvalidInput
from freehold.db.rls import system_scope
from freehold.fleet.choices import RuntimeKind
from freehold.fleet.models import Cluster, GpuFlavor, NodePool, Region
from freehold.tenancy.actors import Actor
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.services import audit_record

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


def cluster_register(*, actor: Actor, region: Region, name: str, runtime: RuntimeKind, engine_digest: str) -> Cluster:
    """Raises Conflict where the name is taken."""
    require(actor, Operation.FLEET_MANAGE, tenant_id=None)
    if not engine_digest:
        raise InvalidInput("An endpoint pins its engine: give the digest of the engine's image.", field="engine_digest")
    with system_scope(_WHY):
        try:
            with transaction.atomic():
                cluster = Cluster.objects.create(
                    region=region, name=name, runtime=runtime.value, engine_digest=engine_digest
                )
        except IntegrityError:
            raise Conflict(f"There is already a cluster {name!r}.", field="name") from None
        audit_record(actor=actor, tenant_id=None, action="cluster.register", object_id=cluster.public_id)
    return cluster


def cluster_engine_set(*, actor: Actor, cluster: Cluster, engine_digest: str) -> Cluster:
    """What endpoints created from now on pin; those that exist keep their engine (invariant 4)."""
    require(actor, Operation.FLEET_MANAGE, tenant_id=None)
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
) -> GpuFlavor:
    """Raises Conflict where the name is taken, InvalidInput for less than one accelerator."""
    require(actor, Operation.FLEET_MANAGE, tenant_id=None)
    if accelerators < 1:
        raise InvalidInput("A replica occupies at least one accelerator (a CPU counts as one).", field="accelerators")
    with system_scope(_WHY):
        try:
            with transaction.atomic():
                flavor = GpuFlavor.objects.create(
                    name=name,
                    accelerator=accelerator,
                    accelerators=accelerators,
                    memory_bytes=memory_bytes,
                    kv_cache_bytes=kv_cache_bytes,
                )
        except IntegrityError:
            raise Conflict(f"There is already a flavor {name!r}.", field="name") from None
        audit_record(actor=actor, tenant_id=None, action="flavor.create", object_id=flavor.public_id)
    return flavor


def node_pool_set(*, actor: Actor, cluster: Cluster, flavor: GpuFlavor, capacity: int) -> NodePool:
    """How many replicas of `flavor` the cluster holds."""
    require(actor, Operation.FLEET_MANAGE, tenant_id=None)
    with system_scope(_WHY):
        pool, _ = NodePool.objects.update_or_create(cluster=cluster, flavor=flavor, defaults={"capacity": capacity})
        audit_record(
            actor=actor,
            tenant_id=None,
            action="node_pool.set",
            object_id=pool.public_id,
            detail={"cluster": cluster.name, "flavor": flavor.name, "capacity": capacity},
        )
    return pool
