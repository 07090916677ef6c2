"""What Kubernetes would say of a manifest, without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes_validate

from freehold.fleet import kubernetes_syntax as syntax
from freehold.fleet import quantities
from tests.factories.pod_security import violations
from workers.manifests.kubernetes.manifest import Manifest

VERSIONS = [f"1.{minor}" for minor in range(31, 38)]


def check(manifest: Manifest, *versions: str) -> None:
    """Against the schemas of Kubernetes, strictly; and what schemas do not say. All versions unless some are named."""
    for version in versions or VERSIONS:
        if manifest["kind"] == "LeaderWorkerSet":
            _check_group(manifest)
        else:
            kubernetes_validate.validate(manifest, version, strict=True)
        for template in templates(manifest):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", **template["metadata"]}}
            kubernetes_validate.validate({**pod, "spec": template["spec"]}, version, strict=True)
    _check_names(manifest)
    for template in templates(manifest):
        assert violations(template["spec"], template["metadata"]) == []
        _check_pod(template["spec"])


def templates(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Every pod template of an object."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Deployment":
        yield spec["template"]
    if manifest["kind"] == "LeaderWorkerSet":
        yield spec["leaderWorkerTemplate"]["leaderTemplate"]
        yield spec["leaderWorkerTemplate"]["workerTemplate"]


def pod_of(objects: tuple[Manifest, ...], index: int = 0) -> dict[str, Any]:
    """The spec of an endpoint's pods; of a group, 0 leads and 1 follows."""
    pod: dict[str, Any] = list(templates(objects[-1]))[index]["spec"]
    return pod


def _check_group(manifest: Manifest) -> None:
    """As the custom resource's own schema has it: leaderworkerset.x-k8s.io/v1, fields and choices."""
    spec = manifest["spec"]
    assert spec.keys() <= {"replicas", "leaderWorkerTemplate", "rolloutStrategy", "startupPolicy", "networkConfig"}
    assert spec["startupPolicy"] in {"LeaderCreated", "LeaderReady"}
    assert spec["rolloutStrategy"]["type"] == "RollingUpdate"
    rolling = spec["rolloutStrategy"]["rollingUpdateConfiguration"]
    assert rolling.keys() <= {"partition", "maxUnavailable", "maxSurge"}
    assert rolling["maxUnavailable"] + rolling["maxSurge"] > 0
    group = spec["leaderWorkerTemplate"]
    assert group.keys() <= {"leaderTemplate", "workerTemplate", "size", "restartPolicy", "subGroupPolicy"}
    assert group["size"] > 1
    assert group["restartPolicy"] == "RecreateGroupOnPodRestart"


def _check_names(manifest: Manifest) -> None:
    metadata = manifest["metadata"]
    syntax.object_name(metadata["name"], field="name")
    if manifest["kind"] in {"Namespace", "Service", "LeaderWorkerSet"}:
        syntax.dns_label(metadata["name"], field="name")
    if manifest["kind"] != "Namespace":
        syntax.dns_label(metadata["namespace"], field="namespace")
    syntax.labels(metadata["labels"], field="labels")
    syntax.annotation_keys(metadata["annotations"], field="annotations")


def _check_pod(pod: dict[str, Any]) -> None:
    """What only the API server's validation would say."""
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in (*pod["initContainers"], *pod["containers"]):
        resources = container["resources"]
        for name, limit in resources["limits"].items():
            assert quantities.parse(resources["requests"][name]) == quantities.parse(limit)
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert len(paths) == len(set(paths))
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        variables = [variable["name"] for variable in container["env"]]
        assert len(variables) == len(set(variables))
        hook = container.get("lifecycle")
        if hook:
            assert 0 < hook["preStop"]["sleep"]["seconds"] < pod["terminationGracePeriodSeconds"]
