"""What a cluster says of itself, as plain data: made by a runtime, recorded by fleet. Pure: no Django."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """One node.

    Attributes:
        allocatable: resource name → whole units, extended resources only (`nvidia.com/gpu`, `nvidia.com/mig-1g.10gb`,
            `amd.com/gpu`).
        used_by_others: likewise, what pods that are not ours have asked for on it.
        schedulable: ready, not cordoned, no taint NoSchedule or NoExecute that our pods do not tolerate.
    """

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, int]
    used_by_others: Mapping[str, int] = field(default_factory=dict)
    schedulable: bool = True


@dataclass(frozen=True, kw_only=True)
class ClusterFacts:
    """A cluster as it was found.

    Attributes:
        version: such as `v1.36.2`.
        uid: tells it from every other cluster, by whatever address it is reached; empty where not known.
        has_leader_worker_sets: whether the LeaderWorkerSet resource is there; without it no replica spans nodes.
        forbidden: what our account may not do there and should, in words (`create deployments.apps`); empty if all.
    """

    version: str
    uid: str = ""
    nodes: tuple[NodeFacts, ...]
    has_leader_worker_sets: bool = False
    forbidden: tuple[str, ...] = ()
