"""The operator's machines. Nothing here belongs to a tenant."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Value

from freehold.db.fields import EncryptedTextField
from freehold.db.models import BaseModel
from freehold.fleet.choices import ClusterAccess, ClusterConditionType, RuntimeKind


def _object() -> Value:
    return Value({}, output_field=models.JSONField())


def _list() -> Value:
    return Value([], output_field=models.JSONField())


class Region(BaseModel):
    """A place with laws of its own; a gateway and its Redis serve one region."""

    ID_PREFIX = "reg"

    name = models.SlugField(max_length=40, unique=True)
    display_name = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.name


class Cluster(BaseModel):
    """Machines that one runtime drives. What workers last saw of it stands beside what the operator decided.

    Attributes:
        engine_digest: what new endpoints pin: the digest of the engine's image, or of its lock file on this machine.
        settings: fleet.cluster_settings; for Kubernetes.
        conditions: a list of {type, status, reason, message, last_transition_at}.
        version: Kubernetes' own, such as `v1.36.2`.
        uid: of the cluster itself, by whatever address it is reached; empty until it has answered.
        observed_at: when it last answered.
        unreachable_since: since when it has not; None while it does.
        retry_at: before then workers leave it alone; None: whenever they like.
    """

    ID_PREFIX = "cls"

    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="clusters")
    name = models.TextField(unique=True)
    runtime = models.TextField(choices=[(kind.value, kind.value) for kind in RuntimeKind])
    access = models.TextField(
        choices=[(access.value, access.value) for access in ClusterAccess],
        default=ClusterAccess.LOCAL.value,
        db_default=ClusterAccess.LOCAL.value,
    )
    engine_digest = models.TextField()
    enabled = models.BooleanField(default=True)
    settings = models.JSONField(default=dict, db_default=_object(), blank=True)

    conditions = models.JSONField(default=list, db_default=_list(), editable=False)
    version = models.TextField(blank=True, default="", db_default="", editable=False)
    uid = models.TextField(blank=True, default="", db_default="", editable=False)
    observed_at = models.DateTimeField(null=True, editable=False)
    unreachable_since = models.DateTimeField(null=True, editable=False)
    retry_at = models.DateTimeField(null=True, editable=False)

    def __str__(self) -> str:
        return self.name

    def condition(self, kind: ClusterConditionType) -> dict[str, Any] | None:
        """The condition of that type, if it was ever set."""
        return next((condition for condition in self.conditions if condition["type"] == kind.value), None)

    @property
    def is_reachable(self) -> bool:
        """Unless it was tried in vain: a cluster that nobody has looked at yet is given the benefit of the doubt."""
        condition = self.condition(ClusterConditionType.REACHABLE)
        return condition is None or condition["status"] != "False"

    @property
    def has_leader_worker_sets(self) -> bool:
        """Whether replicas may span nodes there."""
        condition = self.condition(ClusterConditionType.LEADER_WORKER_SETS)
        return condition is not None and condition["status"] == "True"


class ClusterCredential(BaseModel):
    """A cluster's kubeconfig, encrypted. A table of its own, so that reading clusters never reads secrets."""

    ID_PREFIX = "ccr"

    cluster = models.OneToOneField(Cluster, on_delete=models.CASCADE, related_name="credential")
    kubeconfig = EncryptedTextField()

    def __str__(self) -> str:
        return f"of {self.cluster_id}"


class GpuFlavor(BaseModel):
    """A kind of GPU node as it is sold, such as `h200-8x`. Endpoints are billed by it, so what it is never changes.

    Attributes:
        accelerators: what one replica occupies over all its nodes, and what a GPU-second is multiplied by; a CPU
            flavor counts as one.
        nodes: that one replica spans; more than one wants LeaderWorkerSets.
        resource: Kubernetes' name of the accelerator (`nvidia.com/gpu`); empty for a CPU.
        node_labels: that a node must have.
        enabled: whether it is offered. A discovered flavor that is not wanted is disabled: deleted, it would be found
            again.
    """

    ID_PREFIX = "flv"

    name = models.SlugField(max_length=40, unique=True)
    accelerator = models.TextField(help_text="product name, or 'cpu'")
    accelerators = models.PositiveIntegerField(default=1)
    nodes = models.PositiveIntegerField(default=1, db_default=1, help_text="that one replica spans")
    memory_bytes = models.BigIntegerField(default=0, help_text="of one accelerator")
    kv_cache_bytes = models.BigIntegerField(default=0, help_text="fixed KV cache of a CPU engine; 0 on GPUs")
    resource = models.TextField(blank=True, default="", db_default="", help_text="such as nvidia.com/gpu")
    node_labels = models.JSONField(default=dict, db_default=_object(), blank=True)
    enabled = models.BooleanField(default=True, db_default=True, help_text="offered to customers")

    def __str__(self) -> str:
        return self.name

    @property
    def accelerators_per_node(self) -> int:
        """What one pod of a replica asks for."""
        return self.accelerators // self.nodes


class NodePool(BaseModel):
    """How many replicas of a flavor a cluster can hold, what our own endpoints use included.

    Attributes:
        capacity: replicas, as the operator said, or as the nodes that were found can hold beside others' pods.
        discovered: kept up by workers; otherwise the operator's word stands.
        nodes: that have the accelerator.
        accelerators_allocatable, accelerators_used_by_others: over all its nodes.
        accelerators_by_node: what each node has for us (allocatable − used by others), largest first.
        cost_nanos_per_accelerator_hour: what it costs the operator, in the price book's currency; None: not said.
    """

    ID_PREFIX = "np"

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="pools")
    flavor = models.ForeignKey(GpuFlavor, on_delete=models.PROTECT, related_name="pools")
    capacity = models.PositiveIntegerField()
    cost_nanos_per_accelerator_hour = models.PositiveBigIntegerField(null=True, blank=True)
    discovered = models.BooleanField(default=False, db_default=False, help_text="workers keep the capacity up")
    nodes = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    accelerators_allocatable = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    accelerators_used_by_others = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    accelerators_by_node = models.JSONField(default=list, db_default=_list(), editable=False)
    observed_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["cluster", "flavor"], name="node_pool_once")]

    def __str__(self) -> str:
        return f"{self.capacity} × {self.flavor_id} in {self.cluster_id}"


class Reservation(BaseModel):
    """Room that an endpoint has in a cluster, from its creation until its last replica is gone.

    Written in the transaction that writes the endpoint's spec. It names no tenant: how much room is left concerns all.
    """

    ID_PREFIX = "res"

    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="reservations")
    flavor = models.ForeignKey(GpuFlavor, on_delete=models.PROTECT, related_name="reservations")
    holder = models.TextField(unique=True, help_text="the endpoint's id")
    replicas = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"{self.replicas} for {self.holder}"
