"""WorkloadSpec: everything a runtime must know to run one endpoint, as frozen data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec


@dataclass(frozen=True, kw_only=True)
class WeightsRef:
    """Which weights: one revision of one repo, immutable.

    Attributes:
        tenant: id of the tenant that owns them; caches are kept apart by it.
        repo: `tenant/name` at the hub.
        commit_id: 40 hex digits.
        digest: SHA-256 over the revision's files.
        bytes: of all files; 0 where not known.
    """

    tenant: str
    repo: str
    commit_id: str
    digest: str
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class FlavorSpec:
    """What a replica gets.

    Attributes:
        accelerators: of one replica, over all its nodes.
        nodes: a replica spans; more than one wants a LeaderWorkerSet.
        kv_cache_bytes: for CPU engines, 0 elsewhere.
        resource: Kubernetes' name of the accelerator (`nvidia.com/gpu`, `nvidia.com/mig-1g.10gb`, `amd.com/gpu`); empty
            for a CPU.
        node_labels: labels that a node must have (`nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3`).
    """

    name: str
    accelerator: str
    accelerators: int
    nodes: int = 1
    kv_cache_bytes: int = 0
    resource: str = ""
    node_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def accelerators_per_node(self) -> int:
        """What one pod of a replica asks for."""
        return self.accelerators // self.nodes


@dataclass(frozen=True, kw_only=True)
class WorkloadSpec:
    """One endpoint's desired workload.

    Attributes:
        endpoint: public id (`ep_…`).
        cluster: public id of the cluster (`cls_…`); names the installation too, since it is unique.
        replicas: how many; 0 for none.
        task: `generate` or `embed`.
        arguments: vLLM flags with underscores, already validated.
    """

    endpoint: str
    generation: int
    replicas: int
    served_model_name: str
    task: str
    weights: WeightsRef
    flavor: FlavorSpec
    engine_digest: str
    cluster: str = ""
    arguments: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def template_hash(self) -> str:
        """Changes exactly when a running replica no longer is what is asked for: not with replicas or generation."""
        template = {
            "served_model_name": self.served_model_name,
            "task": self.task,
            "weights": [self.weights.tenant, self.weights.commit_id, self.weights.digest],  # not the name: it changes
            "flavor": [self.flavor.name, self.flavor.accelerators, self.flavor.kv_cache_bytes],
            "engine_digest": self.engine_digest,
            "arguments": sorted(self.arguments.items()),
        }
        return hashlib.sha256(msgspec.json.encode(template, order="sorted")).hexdigest()[:16]
