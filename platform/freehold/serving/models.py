"""Endpoint: a served model. Its spec is immutable per generation; its status is what workers last observed."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q

from freehold.db.models import BaseModel, TenantOwned
from freehold.serving.choices import BillingMode, EndpointKind, Phase
from freehold.tenancy.limits import Limited, limit_field

ENDPOINT_NAME_MAX = 60


class Endpoint(Limited, TenantOwned):
    """Desired state by generation, observed state, and the lock under which a worker works on it.

    Attributes:
        generation: of the newest EndpointSpec.
        observed_generation: the generation that the status speaks of.
        conditions: a list of {type, status, reason, message, last_transition_at}.
        replicas_observed: a list of {id, state, host, port, since}.
        lock_token, lock_expires_at: who works on it; a status is written only under its own token.
        next_reconcile_at: when a worker should look again.
        deletion_requested_at: set once; the endpoint is finalized, then `deleted_at`.
        default_max_tokens: what a request that names no maximum may generate; null: what the context leaves. Like the
            limits (of all callers together) it is the gateways' business: changing it makes no new generation.
    """

    ID_PREFIX = "ep"

    name = models.TextField()
    kind = models.TextField(
        choices=[(kind.value, kind.value) for kind in EndpointKind], default=EndpointKind.DEDICATED.value
    )
    billing_mode = models.TextField(choices=[(mode.value, mode.value) for mode in BillingMode])
    cluster = models.ForeignKey("fleet.Cluster", on_delete=models.PROTECT, related_name="endpoints")
    generation = models.PositiveIntegerField(default=1)

    observed_generation = models.PositiveIntegerField(default=0)
    phase = models.TextField(choices=[(phase.value, phase.value) for phase in Phase], default=Phase.PENDING.value)
    conditions = models.JSONField(default=list)
    replicas_observed = models.JSONField(default=list)
    ready_replicas = models.PositiveIntegerField(default=0)

    lock_token = models.UUIDField(null=True)
    lock_expires_at = models.DateTimeField(null=True)
    next_reconcile_at = models.DateTimeField()
    deletion_requested_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)

    default_max_tokens = limit_field("completion tokens of a request that names no maximum; empty: the context's rest")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name"], condition=Q(deleted_at=None), name="endpoint_name_once_per_tenant"
            ),
        ]
        indexes = [
            models.Index(fields=["cluster", "next_reconcile_at"], condition=Q(deleted_at=None), name="endpoint_due"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def model_name(self) -> str:
        """The public model name: what applications send as `model`."""
        return f"{self.tenant.slug}/{self.name}"

    @property
    def spec(self) -> EndpointSpec:
        """The spec of the current generation. Use prefetched `specs` where there are many endpoints."""
        return next(spec for spec in self.specs.all() if spec.generation == self.generation)

    def condition(self, kind: str) -> dict[str, Any] | None:
        """The condition of that type, if it was ever set."""
        return next((condition for condition in self.conditions if condition["type"] == kind), None)


class EndpointSpec(TenantOwned):
    """What the owner asked for in one generation. Never changed, only followed by the next."""

    ID_PREFIX = "eps"

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="specs")
    generation = models.PositiveIntegerField()
    revision = models.ForeignKey("registry.Revision", on_delete=models.PROTECT, related_name="+")
    flavor = models.ForeignKey("fleet.GpuFlavor", on_delete=models.PROTECT, related_name="+")
    replicas = models.PositiveIntegerField()
    arguments = models.JSONField(default=dict)
    engine_digest = models.TextField()
    created_by = models.TextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "generation"], name="endpoint_spec_once"),
        ]

    def __str__(self) -> str:
        return f"{self.endpoint_id} generation {self.generation}"


class EndpointEvent(TenantOwned):
    """Something that happened to an endpoint: a step of a worker with its reason, or a condition that changed.

    What happens again within a while is counted instead of written again, as Kubernetes does with its events.

    Attributes:
        type: `Normal` or `Warning`.
        reason: one CamelCase word for programs.
        count, at: how often, and when last; `created_at` is when first.
        generation: of the spec that the worker looked at.
    """

    ID_PREFIX = "eve"

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="events")
    type = models.TextField()
    reason = models.TextField()
    message = models.TextField()
    count = models.PositiveIntegerField(default=1)
    at = models.DateTimeField()
    generation = models.PositiveIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["endpoint", "-at"], name="endpoint_event_newest"),
            models.Index(fields=["at"], name="endpoint_event_age"),
        ]

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class CatalogModel(BaseModel):
    """An open-weight model that the operator offers: one entry of the catalog file, loaded by catalog_load.

    It belongs to no tenant: everybody may read it, only the operator's load writes it.

    Attributes:
        upstream_id: `organization/name`; what an import fetches, and the public model name where it is served to all.
        position: in the file.
        document: the whole entry (catalog/schema.json); `kind`, `family` and `title` are copies to filter by.
        enabled: whether the file still has it. The row stays, because imports and endpoints may name it.
        updated_at: when the entry last changed.
    """

    ID_PREFIX = "cat"

    upstream_id = models.TextField(unique=True)
    title = models.TextField()
    family = models.TextField()
    kind = models.TextField()
    position = models.PositiveIntegerField()
    document = models.JSONField()
    enabled = models.BooleanField(default=True)
    updated_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.upstream_id
