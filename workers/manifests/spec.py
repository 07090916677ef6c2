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
    """

    tenant: str
    repo: str
    commit_id: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class FlavorSpec:
    """What a replica gets. `kv_cache_bytes` is for CPU engines, 0 elsewhere."""

    name: str
    accelerator: str
    accelerators: int
    kv_cache_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class WorkloadSpec:
    """One endpoint's desired workload.

    Attributes:
        endpoint: public id (`ep_…`).
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
