"""The two containers of an engine's pod: one brings the weights and ends, the other serves them.

The pull token is a file of the first and nothing of the second. A mounted Secret follows its changes within about a
minute, an environment variable never: an hour's token can be renewed under a fetch that takes longer.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

from freehold.fleet import quantities
from freehold.fleet.cluster_settings import ClusterSettings
from workers.manifests import vllm
from workers.manifests.kubernetes import durations, names
from workers.manifests.spec import WorkloadSpec

WEIGHTS = "/weights"
SCRATCH = "/tmp"  # noqa: S108 - the container's own
TOKENS = "/run/freehold"
FETCHER = ("python", "-I", "/app/workers/runtimes/fetcher.py")
_TERMINATION_LOG = "/dev/termination-log"

# Set by the LeaderWorkerSet controller in every container, and replaced in arguments by the kubelet.
_GROUP_RANK = "$(LWS_WORKER_INDEX)"
_GROUP_LEADER = "$(LWS_LEADER_ADDRESS)"

_CACHES = {
    "HOME": SCRATCH,
    "USER": "engine",  # the user has no entry in the image's passwd
    "LOGNAME": "engine",
    "TMPDIR": SCRATCH,
    "XDG_CACHE_HOME": f"{SCRATCH}/cache",
    "VLLM_CACHE_ROOT": f"{SCRATCH}/vllm",
    "VLLM_CONFIG_ROOT": f"{SCRATCH}/vllm-config",
    "VLLM_RPC_BASE_PATH": SCRATCH,
    "TRITON_CACHE_DIR": f"{SCRATCH}/triton",
    "TORCHINDUCTOR_CACHE_DIR": f"{SCRATCH}/inductor",
    "CUDA_CACHE_PATH": f"{SCRATCH}/cuda",
    "FLASHINFER_WORKSPACE_BASE": SCRATCH,
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}
_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}


class Role(StrEnum):
    """What a pod is in its replica."""

    ALONE = "alone"
    LEADER = "leader"
    WORKER = "worker"


def fetcher(spec: WorkloadSpec, settings: ClusterSettings) -> dict[str, Any]:
    """The init container: workers/runtimes/fetcher.py of the platform's image."""
    resources = {"cpu": settings.resources.cpu_of_fetcher, "memory": settings.resources.memory_of_fetcher}
    return {
        "name": names.FETCH_CONTAINER,
        "image": settings.images.fetcher,
        "imagePullPolicy": settings.images.pull_policy,
        "command": list(FETCHER),
        "env": _environment(
            {
                "FREEHOLD_FETCH_URL": settings.network.hub_url,
                # Not the name itself: a model that is renamed must not replace the pods that serve it.
                "FREEHOLD_FETCH_REPO_FILE": f"{TOKENS}/{names.REPO_KEY}",
                "FREEHOLD_FETCH_REVISION": spec.weights.commit_id,
                "FREEHOLD_FETCH_DIGEST": spec.weights.digest,
                "FREEHOLD_FETCH_TARGET": weights_path(spec),
                "FREEHOLD_FETCH_TOKEN_FILE": f"{TOKENS}/{names.TOKEN_KEY}",
                "FREEHOLD_TERMINATION_LOG": _TERMINATION_LOG,
            }
        ),
        "resources": {"requests": resources, "limits": resources},
        "securityContext": _SECURITY,
        "terminationMessagePath": _TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "weights", "mountPath": WEIGHTS},
            {"name": "pull-token", "mountPath": TOKENS, "readOnly": True},
        ],
    }


def engine(spec: WorkloadSpec, settings: ClusterSettings, role: Role) -> dict[str, Any]:
    """The engine. What leads a replica answers HTTP and is probed; what follows ends with its leader."""
    container: dict[str, Any] = {
        "name": names.ENGINE_CONTAINER,
        "image": f"{_repository(spec, settings)}@{spec.engine_digest}",
        "imagePullPolicy": settings.images.pull_policy,
        "command": ["python3", *(vllm.SERVER if role is Role.ALONE else vllm.GROUP_SERVER)],
        "args": _arguments(spec, settings, role),
        "env": _engine_environment(spec, settings, role),
        "resources": _resources(spec, settings),
        "securityContext": _SECURITY,
        "terminationMessagePath": _TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "weights", "mountPath": WEIGHTS, "readOnly": True},
            {"name": "scratch", "mountPath": SCRATCH},
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108 - as above
        ],
    }
    if role is not Role.WORKER:
        container["ports"] = [
            {"name": names.ENGINE_PORT, "containerPort": settings.engine_port, "protocol": "TCP"},
        ]
        container.update(_probes(spec, settings))
    if seconds := durations.pause(settings.timing, follows=role is Role.WORKER):
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": seconds}}}
    return container


def weights_path(spec: WorkloadSpec) -> str:
    """Where a revision lies: by its content, so that commits of the same files share it."""
    return f"{WEIGHTS}/{spec.weights.digest}"


def cpus(spec: WorkloadSpec, settings: ClusterSettings) -> str:
    """Of one pod, as a quantity."""
    return quantities.times(settings.resources.cpu_per_accelerator, max(1, spec.flavor.accelerators_per_node))


def _repository(spec: WorkloadSpec, settings: ClusterSettings) -> str:
    return settings.images.engine_by_resource.get(spec.flavor.resource or "cpu", settings.images.engine)


def _arguments(spec: WorkloadSpec, settings: ClusterSettings, role: Role) -> list[str]:
    flavor = spec.flavor
    flags = vllm.arguments(
        spec,
        model_path=weights_path(spec),
        host=settings.engine_host,
        port=settings.engine_port,
        shutdown_seconds=settings.timing.shutdown,
    )
    flags = [flag.replace("$(", "$$(") for flag in flags]  # a customer's words are never replaced by the kubelet
    if role is not Role.ALONE:
        flags.remove("--model")
    if flavor.resource:
        flags += vllm.parallel_arguments(tensor=flavor.accelerators_per_node, pipeline=flavor.nodes)
    elif role is Role.ALONE:
        flags += ["--distributed-executor-backend", "uni"]  # as cpu_environment wants it
    if role is not Role.ALONE:
        headless = role is Role.WORKER
        flags += vllm.group_arguments(nodes=flavor.nodes, rank=_GROUP_RANK, leader=_GROUP_LEADER, headless=headless)
    return [*flags, *settings.engine_arguments]


def _engine_environment(spec: WorkloadSpec, settings: ClusterSettings, role: Role) -> list[dict[str, Any]]:
    values = {**_CACHES, **settings.engine_environment, **vllm.offline_environment()}
    if not spec.flavor.resource:
        threads = max(1, math.floor(quantities.parse(cpus(spec, settings))))
        values = {**vllm.cpu_environment(spec, threads=threads), **values}
    environment = _environment(values)
    if role is not Role.ALONE:  # what vLLM finds by itself may be another network's address
        field = {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}
        environment.append({"name": "VLLM_HOST_IP", "valueFrom": field})
    return environment


def _environment(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _resources(spec: WorkloadSpec, settings: ClusterSettings) -> dict[str, dict[str, str]]:
    """Limits are the requests, so that a pod is Guaranteed: it is not the first to go when its node is short."""
    flavor, wanted = spec.flavor, settings.resources
    memory = quantities.times(wanted.memory_per_accelerator, max(1, flavor.accelerators_per_node))
    if not flavor.resource:  # weights and KV cache lie in the pod's own memory
        memory = quantities.mebibytes(quantities.parse(memory) + spec.weights.bytes + flavor.kv_cache_bytes)
    limits = {"cpu": cpus(spec, settings), "memory": memory, **wanted.others}
    if flavor.resource:
        limits[flavor.resource] = str(flavor.accelerators_per_node)
    requests = dict(limits)
    if wanted.reserve_storage:
        requests["ephemeral-storage"] = node_disk(spec, settings)
    return {"requests": requests, "limits": limits}


def node_disk(spec: WorkloadSpec, settings: ClusterSettings) -> str:
    """What a pod may fill of its node's disk, as far as it is known."""
    needed = quantities.parse(settings.resources.scratch)
    if settings.weights_cache.kind == "emptyDir" and spec.weights.bytes:
        needed += quantities.parse(weights_size(spec, settings))
    return quantities.mebibytes(needed)


def weights_size(spec: WorkloadSpec, settings: ClusterSettings) -> str:
    """Room for one revision and its manifest; the cache's whole size where the revision's is not known."""
    if not spec.weights.bytes:
        return settings.weights_cache.size
    return quantities.mebibytes(spec.weights.bytes + spec.weights.bytes // 50 + 64 * 1024**2)


def _probes(spec: WorkloadSpec, settings: ClusterSettings) -> dict[str, Any]:
    """/health answers while the engine's loop turns, also in the middle of a long prefill; liveness is patient still.

    The other two begin once the startup probe has succeeded.
    """
    timing = settings.timing
    ask = {"httpGet": {"path": "/health", "port": names.ENGINE_PORT, "scheme": "HTTP"}}
    start = durations.start(timing, spec.weights.bytes)
    return {
        "startupProbe": {
            **ask,
            "periodSeconds": durations.STARTUP_PERIOD,
            "timeoutSeconds": 5,
            "failureThreshold": durations.periods(start, durations.STARTUP_PERIOD),
        },
        "readinessProbe": {**ask, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 2},
        "livenessProbe": {
            **ask,
            "periodSeconds": durations.LIVENESS_PERIOD,
            "timeoutSeconds": 10,
            "failureThreshold": durations.periods(timing.unresponsive, durations.LIVENESS_PERIOD),
        },
    }
