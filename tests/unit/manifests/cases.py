"""What golden files are made of: a cluster's settings and an endpoint's spec, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from freehold.fleet.cluster_settings import ClusterSettings, parse
from tests.factories.workloads import workload
from workers.manifests.kubernetes.endpoint import endpoint_objects
from workers.manifests.kubernetes.manifest import Manifest
from workers.manifests.kubernetes.tenant import tenant_objects
from workers.manifests.spec import FlavorSpec, WeightsRef, WorkloadSpec

TENANT = "tnt_01j9zv2q8e4d3f5g6h7j8k9m0n"
ENDPOINT = "ep_01j9zv3r9f5e4g6h7j8k9m0npq"
CLUSTER = "cls_01j9zv1p7d3c2e4f5g6h7j8k9m"
GB = 10**9
H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
BASE: dict[str, Any] = {
    "images": {"fetcher": f"registry.example.com/freehold@sha256:{'f' * 64}"},
    "network": {"hub_url": "http://freehold-web.freehold.svc:8400"},
}


@dataclass(frozen=True)
class Case:
    """One cluster with one tenant and one endpoint."""

    settings: ClusterSettings
    spec: WorkloadSpec

    def objects(self) -> tuple[Manifest, ...]:
        """Everything, in the order to apply."""
        return (*self.tenant(), *endpoint_objects(self.spec, self.settings))

    def tenant(self) -> tuple[Manifest, ...]:
        """What does not belong to the endpoint."""
        return tenant_objects(tenant=TENANT, slug="acme", cluster=CLUSTER, settings=self.settings)


def flavor(**changes: Any) -> FlavorSpec:
    """One H100."""
    values: dict[str, Any] = {
        "name": "h100-1x",
        "accelerator": "NVIDIA H100 80GB",
        "accelerators": 1,
        "resource": "nvidia.com/gpu",
        "node_labels": H100,
    }
    return FlavorSpec(**(values | changes))


def spec(**changes: Any) -> WorkloadSpec:
    """A chat endpoint of 16 GB on one H100."""
    values: dict[str, Any] = {
        "endpoint": ENDPOINT,
        "cluster": CLUSTER,
        "generation": 3,
        "weights": weights(16 * GB),
        "flavor": flavor(),
        "engine_digest": f"sha256:{'e' * 64}",
        "arguments": {"max_model_len": 32768},
    }
    return workload(**(values | changes))


def weights(size: int) -> WeightsRef:
    """A revision of `size` bytes."""
    return WeightsRef(tenant=TENANT, repo="acme/qwen3-8b", commit_id="c" * 40, digest="d" * 64, bytes=size)


def settings(**changes: Any) -> ClusterSettings:
    """A cluster whose fetcher and hub are named, with these changes."""
    document = dict(BASE)
    for name, value in changes.items():
        document[name] = {**document.get(name, {}), **value} if isinstance(value, dict) else value
    return parse(document)


PRODUCTION_NETWORK = {
    "hub_url": "https://hub.example.com",
    "hub": [{"ipBlock": {"cidr": "203.0.113.0/24"}}],
    "hub_ports": [{"port": 443}],
    "object_store": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}, {"ipBlock": {"cidr": "::/0"}}],
    "metrics": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
}

CASES = {
    "chat": Case(settings(), spec()),
    "tensor-parallel-pvc": Case(
        settings(
            weights_cache={"kind": "pvc", "size": "4Ti", "storage_class": "shared-fs"},
            network=PRODUCTION_NETWORK,
            images={"pull_secrets": ["registry"]},
            resources={"memory_per_accelerator": "100Gi", "cpu_per_accelerator": "7500m", "shared_memory": "64Gi"},
        ),
        spec(flavor=flavor(name="h100-8x", accelerators=8), weights=weights(700 * GB), replicas=2),
    ),
    "two-nodes": Case(
        settings(
            scheduling={"group_topology": "example.com/rail"},
            rollout={"strategy": "in-place"},
            resources={"others": {"rdma/hca_shared_devices": "1"}},
        ),
        spec(flavor=flavor(name="h100-16x", accelerators=16, nodes=2), weights=weights(1300 * GB)),
    ),
    "mig-slice": Case(
        settings(),
        spec(
            flavor=flavor(
                name="h100-1g", resource="nvidia.com/mig-1g.10gb", node_labels={"nvidia.com/mig.config": "all-1g.10gb"}
            )
        ),
    ),
    "amd": Case(
        settings(
            images={"engine_by_resource": {"amd.com/gpu": "docker.io/vllm/vllm-openai-rocm"}},
            scheduling={"tolerations": [{"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]},
            supplemental_groups=[44, 109],
        ),
        spec(
            flavor=flavor(
                name="mi300x",
                accelerator="AMD MI300X",
                resource="amd.com/gpu",
                node_labels={"amd.com/gpu.family": "AI"},
            )
        ),
    ),
    "cpu": Case(
        settings(
            images={"engine_by_resource": {"cpu": "docker.io/vllm/vllm-openai-cpu"}},
            scheduling={"tolerations": [], "spread_by": []},
            resources={"cpu_per_accelerator": "8", "memory_per_accelerator": "4Gi", "shared_memory": "1Gi"},
        ),
        spec(
            flavor=FlavorSpec(name="cpu", accelerator="cpu", accelerators=1, kv_cache_bytes=4 * 1024**3),
            weights=weights(1 * GB),
        ),
    ),
    "embed": Case(settings(), spec(task="embed", served_model_name="acme/embeddings", arguments={"dtype": "float16"})),
    "gvisor-priority-spread": Case(
        settings(
            scheduling={
                "runtime_class": "gvisor",
                "priority_class": "inference",
                "scheduler": "kueue",
                "node_selector": {"example.com/pool": "tenants"},
                "spread_by": ["topology.kubernetes.io/zone", "kubernetes.io/hostname"],
                "pod_labels": {"example.com/cost-centre": "inference"},
                "pod_annotations": {"example.com/note": "untrusted weights"},
            },
            engine_arguments=["--gpu-memory-utilization", "0.95"],
            engine_environment={"NCCL_DEBUG": "WARN"},
        ),
        spec(replicas=3),
    ),
    "no-replicas": Case(settings(), spec(replicas=0)),
}
