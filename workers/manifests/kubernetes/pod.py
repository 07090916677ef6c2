"""The pod of an engine: within the restricted Pod Security Standard, placed by flavor and operator's settings."""

from __future__ import annotations

from typing import Any

from freehold.fleet.cluster_settings import ClusterSettings
from workers.manifests.kubernetes import containers, durations, names
from workers.manifests.kubernetes.containers import Role
from workers.manifests.spec import WorkloadSpec


def template(spec: WorkloadSpec, settings: ClusterSettings, *, labels: dict[str, str], role: Role) -> dict[str, Any]:
    """A PodTemplateSpec. The operator's labels and annotations stand beside ours and never replace them."""
    return {
        "metadata": {
            "labels": {**settings.scheduling.pod_labels, **labels},
            "annotations": {
                **settings.scheduling.pod_annotations,
                names.MODEL: spec.served_model_name,
                names.TEMPLATE: spec.template_hash,
            },
        },
        "spec": {
            "serviceAccountName": names.SERVICE_ACCOUNT,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": durations.grace(settings.timing),
            "securityContext": _security(settings),
            "initContainers": [containers.fetcher(spec, settings)],
            "containers": [containers.engine(spec, settings, role)],
            "volumes": _volumes(spec, settings),
            **_placement(spec, settings, role),
        },
    }


def _security(settings: ClusterSettings) -> dict[str, Any]:
    context: dict[str, Any] = {
        "runAsNonRoot": True,
        "runAsUser": settings.user_id,
        "runAsGroup": settings.user_id,
        "fsGroup": settings.user_id,
        "fsGroupChangePolicy": "OnRootMismatch",  # a terabyte of weights is not walked at every start
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if settings.supplemental_groups:
        context["supplementalGroups"] = list(settings.supplemental_groups)
    return context


def _volumes(spec: WorkloadSpec, settings: ClusterSettings) -> list[dict[str, Any]]:
    weights: dict[str, Any] = {"emptyDir": {"sizeLimit": containers.weights_size(spec, settings)}}
    if settings.weights_cache.kind == "pvc":
        weights = {"persistentVolumeClaim": {"claimName": names.WEIGHTS_CLAIM}}
    return [
        {"name": "weights", **weights},
        {"name": "scratch", "emptyDir": {"sizeLimit": settings.resources.scratch}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": settings.resources.shared_memory}},
        {"name": "pull-token", "secret": {"secretName": names.token_secret(spec.endpoint), "defaultMode": 0o440}},
    ]


def _placement(spec: WorkloadSpec, settings: ClusterSettings, role: Role) -> dict[str, Any]:
    """Only what is asked for: an absent field is the cluster's own decision."""
    scheduling = settings.scheduling
    placement: dict[str, Any] = {}
    wanted = {**scheduling.node_selector, **spec.flavor.node_labels}
    if wanted:
        expressions = [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(wanted.items())]
        term = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
        placement["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}
    if scheduling.tolerations:
        placement["tolerations"] = list(scheduling.tolerations)
    if scheduling.spread_by and role is not Role.WORKER:
        placement["topologySpreadConstraints"] = [
            {
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "maxSkew": 1,
                "labelSelector": {"matchLabels": {names.ENDPOINT: spec.endpoint}},
            }
            for key in scheduling.spread_by
        ]
    for field, value in (
        ("priorityClassName", scheduling.priority_class),
        ("runtimeClassName", scheduling.runtime_class),
        ("schedulerName", scheduling.scheduler),
    ):
        if value:
            placement[field] = value
    if settings.images.pull_secrets:
        placement["imagePullSecrets"] = [{"name": name} for name in settings.images.pull_secrets]
    return placement
