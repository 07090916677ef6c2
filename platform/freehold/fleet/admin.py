"""The fleet in the operator's admin. What endpoints pin or are billed by cannot be changed once it is there."""

from __future__ import annotations

from django.contrib import admin

from freehold.fleet import services
from freehold.fleet.choices import RuntimeKind
from freehold.fleet.models import Cluster, GpuFlavor, NodePool, Region
from freehold.tenancy.actors import Actor
from freehold.tenancy.admin import AuditedAdmin


@admin.register(Region)
class RegionAdmin(AuditedAdmin):
    noun = "region"
    fixed = ("name",)
    list_display = ("name", "display_name", "created_at")
    search_fields = ("name", "display_name")
    ordering = ("name",)

    def create(self, actor: Actor, obj: Region) -> Region:
        """Through the service."""
        return services.region_create(actor=actor, name=obj.name, display_name=obj.display_name)


@admin.register(Cluster)
class ClusterAdmin(AuditedAdmin):
    """A new engine digest is what endpoints made from now on pin; not enabled: nothing new is placed there."""

    noun = "cluster"
    fixed = ("region", "name", "runtime")
    list_display = ("name", "region", "runtime", "engine_digest", "enabled", "created_at")
    list_filter = ("region", "runtime", "enabled")
    list_select_related = ("region",)
    search_fields = ("name", "engine_digest")
    ordering = ("name",)

    def get_exclude(self, request: object, obj: object = None) -> tuple[str, ...]:
        """A new cluster is enabled."""
        return ("enabled",) if obj is None else ()

    def create(self, actor: Actor, obj: Cluster) -> Cluster:
        """Through the service."""
        return services.cluster_register(
            actor=actor,
            region=obj.region,
            name=obj.name,
            runtime=RuntimeKind(obj.runtime),
            engine_digest=obj.engine_digest,
        )


@admin.register(GpuFlavor)
class GpuFlavorAdmin(AuditedAdmin):
    noun = "flavor"
    fixed = ("name", "accelerator", "accelerators", "memory_bytes", "kv_cache_bytes")
    list_display = ("name", "accelerator", "accelerators", "memory_bytes", "kv_cache_bytes")
    list_filter = ("accelerator",)
    search_fields = ("name", "accelerator")
    ordering = ("name",)

    def create(self, actor: Actor, obj: GpuFlavor) -> GpuFlavor:
        """Through the service."""
        return services.flavor_create(
            actor=actor,
            name=obj.name,
            accelerator=obj.accelerator,
            accelerators=obj.accelerators,
            memory_bytes=obj.memory_bytes,
            kv_cache_bytes=obj.kv_cache_bytes,
        )


@admin.register(NodePool)
class NodePoolAdmin(AuditedAdmin):
    noun = "node_pool"
    fixed = ("cluster", "flavor")
    list_display = ("cluster", "flavor", "capacity")
    list_filter = ("cluster", "flavor")
    list_select_related = ("cluster", "flavor")
    search_fields = ("cluster__name", "flavor__name")
    ordering = ("cluster", "flavor")

    def create(self, actor: Actor, obj: NodePool) -> NodePool:
        """Through the service."""
        return services.node_pool_set(actor=actor, cluster=obj.cluster, flavor=obj.flavor, capacity=obj.capacity)
