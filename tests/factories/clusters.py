"""Kubernetes clusters as an operator registers them and as workers find them."""

from __future__ import annotations

from typing import Any

from freehold.fleet import observations
from freehold.fleet import services as fleet
from freehold.fleet.choices import RuntimeKind
from freehold.fleet.facts import ClusterFacts, NodeFacts
from freehold.fleet.models import Cluster, Region
from tests.factories.tenants import SYSTEM

DIGEST = "sha256:" + "e" * 64
GPU = "nvidia.com/gpu"
H100 = "NVIDIA-H100-80GB-HBM3"
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: main
contexts: [{name: main, context: {cluster: main, user: freehold}}]
clusters: [{name: main, cluster: {server: "https://10.0.0.1:6443"}}]
users: [{name: freehold, user: {token: a-very-secret-token}}]
"""


def make_cluster(name: str = "fra-1", *, region: str = "eu-central", **fields: Any) -> Cluster:
    """A registered Kubernetes cluster that nobody has looked at yet."""
    there = Region.objects.filter(name=region).first() or fleet.region_create(actor=SYSTEM, name=region)
    values: dict[str, Any] = {"engine_digest": DIGEST, "kubeconfig": KUBECONFIG, **fields}
    return fleet.cluster_register(actor=SYSTEM, region=there, name=name, runtime=RuntimeKind.KUBERNETES, **values)


def gpu_node(
    name: str, accelerators: int = 8, *, product: str = H100, others: int = 0, schedulable: bool = True
) -> NodeFacts:
    """A node with NVIDIA accelerators, `others` of which are in use."""
    return NodeFacts(
        name=name,
        labels={"nvidia.com/gpu.product": product, "nvidia.com/gpu.memory": "81559"},
        allocatable={GPU: accelerators},
        used_by_others={GPU: others} if others else {},
        schedulable=schedulable,
    )


def observe(cluster: Cluster, *nodes: NodeFacts, **facts: Any) -> Cluster:
    """Records that the cluster answered, with these nodes."""
    found = ClusterFacts(**{"version": "v1.36.2", "nodes": nodes, **facts})
    observations.cluster_record_facts(cluster_id=cluster.pk, facts=found)
    cluster.refresh_from_db()
    return cluster
