"""Defaults of pods and pod templates (k8s.io/kubernetes/pkg/apis/core/v1/defaults.go)."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_MODE = 420  # 0o644
_NOT_READY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_BURSTABLE = ("cpu", "memory")


def pod_spec_defaults(spec: Json) -> None:
    """Of every pod spec, in a template too."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    if "serviceAccountName" in spec:
        spec["serviceAccount"] = spec["serviceAccountName"]  # its deprecated alias, which the server keeps in step
    elif "serviceAccount" in spec:
        spec["serviceAccountName"] = spec["serviceAccount"]
    for volume in spec.get("volumes", ()):
        _volume(volume)
    for container in [*spec.get("containers", ()), *spec.get("initContainers", ())]:
        _container(container, host_network=bool(spec.get("hostNetwork")))


def pod_defaults(body: Json, old: Json | None) -> None:
    """Of pods themselves."""
    spec = body.setdefault("spec", {})
    pod_spec_defaults(spec)
    spec.setdefault("enableServiceLinks", True)
    for container in [*spec.get("containers", ()), *spec.get("initContainers", ())]:
        resources = container["resources"]
        if resources.get("limits"):
            resources["requests"] = {**resources["limits"], **resources.get("requests", {})}
    status = body.setdefault("status", {})
    for condition in status.get("conditions", ()):
        condition.setdefault("lastProbeTime", None)
    for name in ("containerStatuses", "initContainerStatuses"):
        for container in status.get(name, ()):
            container.setdefault("state", {})
            container.setdefault("lastState", {})


def pod_admitted(body: Json, old: Json | None) -> None:
    """What nobody owns: admission adds it (DefaultTolerationSeconds, Priority), or the registry."""
    spec = body["spec"]
    if old is None:
        tolerations = spec.setdefault("tolerations", [])
        for key in _NOT_READY:
            if not any(_tolerates(each, key) for each in tolerations):
                tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    status = body.setdefault("status", {})
    status.setdefault("phase", "Pending")
    status["qosClass"] = _quality(spec)


def _tolerates(toleration: Json, key: str) -> bool:
    return (toleration.get("effect", "NoExecute"), toleration.get("key", key)) == ("NoExecute", key)


def _container(container: Json, *, host_network: bool) -> None:
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("imagePullPolicy", "Always" if _floats(container.get("image", "")) else "IfNotPresent")
    for port in container.get("ports", ()):
        port.setdefault("protocol", "TCP")
        if host_network:
            port.setdefault("hostPort", port["containerPort"])
    for variable in container.get("env", ()):
        reference = variable.get("valueFrom", {}).get("fieldRef")
        if reference is not None:
            reference.setdefault("apiVersion", "v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container:
            _probe(container[name])
    for action in container.get("lifecycle", {}).values():
        if isinstance(action, dict) and "httpGet" in action:
            _http_get(action["httpGet"])


def _floats(image: str) -> bool:
    """Whether a pull may bring something else tomorrow: no digest, and no tag or `latest`."""
    if "@" in image:
        return False
    tag = image.rpartition("/")[2].partition(":")[2]
    return tag in {"", "latest"}


def _http_get(action: Json) -> None:
    action.setdefault("path", "/")
    action.setdefault("scheme", "HTTP")


def _probe(probe: Json) -> None:
    if "httpGet" in probe:
        _http_get(probe["httpGet"])
    if "grpc" in probe:
        probe["grpc"].setdefault("service", "")
    for name, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        probe.setdefault(name, value)


def _volume(volume: Json) -> None:
    if len(volume) == 1:  # a name and no source
        volume["emptyDir"] = {}
    for source in ("secret", "configMap", "downwardAPI", "projected"):
        if source in volume:
            volume[source].setdefault("defaultMode", _MODE)
    for item in volume.get("downwardAPI", {}).get("items", ()):
        item.get("fieldRef", {}).setdefault("apiVersion", "v1")
    for source in volume.get("projected", {}).get("sources", ()):
        if "serviceAccountToken" in source:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
        for item in source.get("downwardAPI", {}).get("items", ()):
            item.get("fieldRef", {}).setdefault("apiVersion", "v1")
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    claim = volume.get("ephemeral", {}).get("volumeClaimTemplate")
    if claim is not None:
        claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")


def _quality(spec: Json) -> str:
    """QoS class (pkg/apis/core/v1/helper/qos)."""
    guaranteed, anything = True, False
    for container in [*spec.get("containers", ()), *spec.get("initContainers", ())]:
        requests = container["resources"].get("requests", {})
        limits = container["resources"].get("limits", {})
        for name in _BURSTABLE:
            anything = anything or name in requests or name in limits
            if name not in limits or requests.get(name, limits[name]) != limits[name]:
                guaranteed = False
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
