"""The operator's machines. Nothing here belongs to a tenant."""

from __future__ import annotations

from django.db import models

from freehold.db.models import BaseModel
from freehold.fleet.choices import RuntimeKind


class Region(BaseModel):
    """A place with laws of its own; a gateway and its Redis serve one region."""

    ID_PREFIX = "reg"

    name = models.SlugField(max_length=40, unique=True)
    display_name = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.name


class Cluster(BaseModel):
    """Machines that one runtime drives.

    `engine_digest` is what new endpoints pin: the digest of the engine's image, or of its lock file on this machine.
    """

    ID_PREFIX = "cls"

    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="clusters")
    name = models.TextField(unique=True)
    runtime = models.TextField(choices=[(kind.value, kind.value) for kind in RuntimeKind])
    engine_digest = models.TextField()
    enabled = models.BooleanField(default=True)

    def __str__(self) -> str:
        return self.name


class GpuFlavor(BaseModel):
    """A kind of GPU node as it is sold, such as `h200-8x`.

    `accelerators` is what one replica occupies and what a GPU-second is multiplied by; a CPU flavor counts as one.
    """

    ID_PREFIX = "flv"

    name = models.SlugField(max_length=40, unique=True)
    accelerator = models.TextField(help_text="product name, or 'cpu'")
    accelerators = models.PositiveIntegerField(default=1)
    memory_bytes = models.BigIntegerField(default=0, help_text="of one accelerator")
    kv_cache_bytes = models.BigIntegerField(default=0, help_text="fixed KV cache of a CPU engine; 0 on GPUs")

    def __str__(self) -> str:
        return self.name


class NodePool(BaseModel):
    """How many replicas of a flavor a cluster can hold."""

    ID_PREFIX = "np"

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="pools")
    flavor = models.ForeignKey(GpuFlavor, on_delete=models.PROTECT, related_name="pools")
    capacity = models.PositiveIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["cluster", "flavor"], name="node_pool_once")]

    def __str__(self) -> str:
        return f"{self.flavor_id} × {self.capacity}"
