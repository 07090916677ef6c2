"""GPU nodes as a cloud's cluster has them: NVIDIA's labels, allocatable resources, a Ready condition."""

from __future__ import annotations

from typing import Any

from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.objects import Objects, Writing
from tests.fakes.kubernetes.storage import Stored

Json = dict[str, Any]

GPU = "nvidia.com/gpu"
PRODUCT = "nvidia.com/gpu.product"
GPU_MEMORY = "nvidia.com/gpu.memory"  # MiB of one GPU
ZONE = "topology.kubernetes.io/zone"
REGION = "topology.kubernetes.io/region"
H100 = "NVIDIA-H100-80GB-HBM3"


def node_manifest(
    name: str,
    *,
    gpus: int = 8,
    product: str = H100,
    gpu_memory_mib: int = 81559,
    zone: str = "eu-north1-a",
    cpu: str = "128",
    memory: str = "1Ti",
    labels: dict[str, str] | None = None,
    taints: list[Json] | None = None,
    extended: dict[str, str] | None = None,
    now: str = "2026-01-01T00:00:00Z",
) -> Json:
    """A node that is ready. `extended`: resources besides `nvidia.com/gpu` (MIG profiles, `amd.com/gpu`)."""
    capacity = {"cpu": cpu, "memory": memory, "ephemeral-storage": "4Ti", "pods": "110", **(extended or {})}
    gpu_labels = {}
    if gpus:
        capacity[GPU] = str(gpus)
        gpu_labels = {"nvidia.com/gpu.count": str(gpus), PRODUCT: product, GPU_MEMORY: str(gpu_memory_mib)}
    region = zone.rpartition("-")[0]
    return {
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                ZONE: zone,
                REGION: region,
                **gpu_labels,
                **(labels or {}),
            },
        },
        "spec": {"taints": taints} if taints else {},
        "status": {
            "capacity": capacity,
            "allocatable": dict(capacity),
            "conditions": [ready_condition("True", now)],
            "nodeInfo": {
                "architecture": "amd64",
                "containerRuntimeVersion": "containerd://2.2.0",
                "kernelVersion": "6.12.0",
                "kubeletVersion": "v1.36.2",
                "operatingSystem": "linux",
                "osImage": "Debian GNU/Linux 13",
            },
        },
    }


def ready_condition(status: str, now: str) -> Json:
    """A node's Ready condition: True, False, or Unknown once its kubelet is silent."""
    words = {
        "True": ("KubeletReady", "kubelet is posting ready status"),
        "False": ("KubeletNotReady", "container runtime is down"),
        "Unknown": ("NodeStatusUnknown", "Kubelet stopped posting node status."),
    }
    reason, message = words[status]
    return {
        "type": "Ready",
        "status": status,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }


def add(objects: Objects, name: str, **shape: Any) -> Stored:
    """A new node."""
    manifest = node_manifest(name, now=objects.timestamp(), **shape)
    return objects.create(kinds.NODES, "", manifest, Writing("kubelet")).stored
