"""The fleet in the operator's admin. What endpoints pin or are billed by cannot be changed once it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from freehold.db.admin import ReadOnlyAdmin
from freehold.fleet import services
from freehold.fleet.choices import ClusterAccess, RuntimeKind
from freehold.fleet.forms import ClusterForm, FlavorForm
from freehold.fleet.models import Cluster, GpuFlavor, NodePool, Region, Reservation
from freehold.tenancy.actors import Actor
from freehold.tenancy.admin import AuditedAdmin, operator_of

if TYPE_CHECKING:
    from django.forms import ModelForm
    from django.http import HttpRequest


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
    form = ClusterForm
    fixed = ("region", "name", "runtime", "access")
    readonly_fields = ("state", "version", "observed_at", "unreachable_since", "retry_at")
    list_display = ("name", "region", "runtime", "is_reachable", "version", "enabled", "observed_at")
    list_filter = ("region", "runtime", "enabled")
    list_select_related = ("region",)
    search_fields = ("name", "engine_digest")
    ordering = ("name",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """A new cluster is enabled, and nothing is known of it."""
        asked = ("region", "name", "runtime", "access", "engine_digest", "kubeconfig", "settings")
        return asked if obj is None else (*asked, "enabled", *self.readonly_fields)

    def create(self, actor: Actor, obj: Cluster) -> Cluster:
        """Not used: `save_model` has the kubeconfig too, which no Cluster carries."""
        raise NotImplementedError

    def save_model(self, request: HttpRequest, obj: Cluster, form: ModelForm[Any], change: bool) -> None:
        """Through the services. Raises FreeholdError, which changeform_view shows."""
        actor = operator_of(request)
        kubeconfig: str = form.cleaned_data["kubeconfig"]
        if change:
            services.cluster_update(
                actor=actor,
                cluster=obj,
                kubeconfig=kubeconfig or None,
                settings=obj.settings,
                enabled=obj.enabled,
                engine_digest=obj.engine_digest,
            )
            return
        made = services.cluster_register(
            actor=actor,
            region=obj.region,
            name=obj.name,
            runtime=RuntimeKind(obj.runtime),
            engine_digest=obj.engine_digest,
            access=ClusterAccess(obj.access) if form.cleaned_data["access"] else None,
            kubeconfig=kubeconfig,
            settings=obj.settings,
        )
        obj.pk, obj._state.adding = made.pk, False

    @admin.display(description="conditions")
    def state(self, obj: Cluster) -> SafeString:
        """One line a condition."""
        rows = (
            (each["type"], each["status"], each["reason"], each["message"], each["last_transition_at"])
            for each in obj.conditions
        )
        lines = format_html_join("", "<li><b>{}</b>: {} ({}) {} <small>since {}</small></li>", rows)
        return format_html("<ul>{}</ul>", lines) if lines else format_html("{}", "Nobody has looked at it yet.")


@admin.register(GpuFlavor)
class GpuFlavorAdmin(AuditedAdmin):
    """Disable what is not to be offered: a discovered flavor that is deleted is found again."""

    noun = "flavor"
    form = FlavorForm
    fixed = (
        "name", "accelerator", "accelerators", "nodes", "memory_bytes", "kv_cache_bytes", "resource", "node_labels",
    )  # fmt: skip
    list_display = ("name", "accelerator", "accelerators", "nodes", "memory_bytes", "resource", "enabled")
    list_filter = ("enabled", "accelerator", "resource")
    search_fields = ("name", "accelerator", "resource")
    ordering = ("name",)

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """A new flavor is offered."""
        return ("enabled",) if obj is None else ()

    def create(self, actor: Actor, obj: GpuFlavor) -> GpuFlavor:
        """Through the service."""
        return services.flavor_create(
            actor=actor,
            name=obj.name,
            accelerator=obj.accelerator,
            accelerators=obj.accelerators,
            nodes=obj.nodes,
            memory_bytes=obj.memory_bytes,
            kv_cache_bytes=obj.kv_cache_bytes,
            resource=obj.resource,
            node_labels=obj.node_labels,
        )


@admin.register(NodePool)
class NodePoolAdmin(AuditedAdmin):
    """A capacity that the operator sets stays; with `discovered` workers keep it up (again)."""

    noun = "node_pool"
    fixed = ("cluster", "flavor")
    readonly_fields = ("nodes", "accelerators_allocatable", "accelerators_used_by_others", "observed_at")
    list_display = (
        "cluster", "flavor", "capacity", "discovered", "nodes", "accelerators_allocatable",
        "accelerators_used_by_others", "cost_nanos_per_accelerator_hour",
    )  # fmt: skip
    list_filter = ("cluster", "flavor", "discovered")
    list_select_related = ("cluster", "flavor")
    search_fields = ("cluster__name", "flavor__name")
    ordering = ("cluster", "flavor")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """What was discovered can only be looked at."""
        asked = ("cluster", "flavor", "capacity", "cost_nanos_per_accelerator_hour")
        return asked if obj is None else (*asked, "discovered", *self.readonly_fields)

    def create(self, actor: Actor, obj: NodePool) -> NodePool:
        """Through the service."""
        return services.node_pool_set(
            actor=actor,
            cluster=obj.cluster,
            flavor=obj.flavor,
            capacity=obj.capacity,
            cost_nanos_per_accelerator_hour=obj.cost_nanos_per_accelerator_hour,
        )

    def save_model(self, request: HttpRequest, obj: NodePool, form: ModelForm[Any], change: bool) -> None:
        """Another capacity is the operator's word from now on."""
        if change and "capacity" in form.changed_data:
            obj.discovered = False
        super().save_model(request, obj, form, change)


@admin.register(Reservation)
class ReservationAdmin(ReadOnlyAdmin):
    list_display = ("holder", "cluster", "flavor", "replicas", "created_at")
    list_filter = ("cluster", "flavor")
    list_select_related = ("cluster", "flavor")
    search_fields = ("holder", "cluster__name", "flavor__name")
    ordering = ("-id",)
