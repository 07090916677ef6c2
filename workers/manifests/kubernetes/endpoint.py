"""What an endpoint has in its tenant's namespace: a pull token, a name, a budget for disruptions and the workload."""

from __future__ import annotations

from typing import Any

from freehold.fleet.cluster_settings import ClusterSettings
from workers.manifests.kubernetes import durations, manifest, names, network, pod
from workers.manifests.kubernetes.containers import Role
from workers.manifests.kubernetes.manifest import Manifest
from workers.manifests.spec import WorkloadSpec

GROUP_API_VERSION = "leaderworkerset.x-k8s.io/v1"
_EXCLUSIVE_TOPOLOGY = "leaderworkerset.sigs.k8s.io/exclusive-topology"


def endpoint_objects(spec: WorkloadSpec, settings: ClusterSettings) -> tuple[Manifest, ...]:
    """Everything of one endpoint, in the order to apply. A Deployment, or a LeaderWorkerSet for what spans nodes.

    The Secret comes without data: whoever applies it adds `stringData` with names.TOKEN_KEY and the annotation
    names.TOKEN_EXPIRES. An empty `settings.network.hub_url` is to be filled in before.
    """
    name = names.of(spec.endpoint)
    tenant = spec.weights.tenant
    namespace = names.namespace(settings.namespace_prefix, tenant)
    labels = manifest.labels(cluster=spec.cluster, tenant=tenant, component=names.ENGINE, endpoint=spec.endpoint)
    selector = {names.ENDPOINT: spec.endpoint}  # immutable in a workload: never more than this
    common: dict[str, Any] = {
        "labels": labels,
        "namespace": namespace,
        "annotations": {names.MODEL: spec.served_model_name},
    }
    several = spec.flavor.nodes > 1
    objects = [
        manifest.of("Secret", "v1", names.token_secret(spec.endpoint), **common, type="Opaque"),
        manifest.of("Service", "v1", name, **common, spec=_service(settings, selector, several=several)),
        manifest.of(
            "PodDisruptionBudget", "policy/v1", name, **common,
            spec={
                "maxUnavailable": settings.rollout.max_disrupted,
                "selector": {"matchLabels": selector},
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        ),
    ]  # fmt: skip
    if several:
        objects.append(network.group_policy(name=name, labels=labels, namespace=namespace, selector=selector))
        group = _group(spec, settings, labels)
        common["annotations"] = {**common["annotations"], **_group_annotations(settings)}
        objects.append(manifest.of("LeaderWorkerSet", GROUP_API_VERSION, name, **common, spec=group))
    else:
        deployment = _deployment(spec, settings, labels, selector)
        objects.append(manifest.of("Deployment", "apps/v1", name, **common, spec=deployment))
    return tuple(objects)


def _service(settings: ClusterSettings, selector: dict[str, str], *, several: bool) -> dict[str, Any]:
    """Headless: gateways pick replicas themselves. Nodes of a replica find their leader by it before that is ready."""
    port = settings.engine_port
    return {
        "clusterIP": "None",
        "publishNotReadyAddresses": several,
        "selector": selector,
        "ports": [{"name": names.ENGINE_PORT, "port": port, "targetPort": port, "protocol": "TCP"}],
    }


def _deployment(
    spec: WorkloadSpec, settings: ClusterSettings, labels: dict[str, str], selector: dict[str, str]
) -> dict[str, Any]:
    rollout = settings.rollout
    return {
        "replicas": spec.replicas,
        "selector": {"matchLabels": selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _rolling(settings)},
        "minReadySeconds": rollout.min_ready,
        "progressDeadlineSeconds": durations.rollout(settings.timing, spec.weights.bytes, min_ready=rollout.min_ready),
        "revisionHistoryLimit": rollout.history,
        "template": pod.template(spec, settings, labels=labels, role=Role.ALONE),
    }


def _group(spec: WorkloadSpec, settings: ClusterSettings, labels: dict[str, str]) -> dict[str, Any]:
    """All nodes fetch and load at the same time. With one pod gone the process group is broken: all start again."""
    return {
        "replicas": spec.replicas,
        "startupPolicy": "LeaderCreated",
        "rolloutStrategy": {"type": "RollingUpdate", "rollingUpdateConfiguration": _rolling(settings)},
        "leaderWorkerTemplate": {
            "size": spec.flavor.nodes,
            "restartPolicy": "RecreateGroupOnPodRestart",
            "leaderTemplate": pod.template(spec, settings, labels=labels, role=Role.LEADER),
            "workerTemplate": pod.template(spec, settings, labels=labels, role=Role.WORKER),
        },
    }


def _group_annotations(settings: ClusterSettings) -> dict[str, str]:
    topology = settings.scheduling.group_topology
    return {_EXCLUSIVE_TOPOLOGY: topology} if topology else {}


def _rolling(settings: ClusterSettings) -> dict[str, int]:
    surge = settings.rollout.strategy == "surge"
    return {"maxUnavailable": 0 if surge else 1, "maxSurge": 1 if surge else 0}
