"""What the server fills in: per kind, on create and on every later write. Values as the recordings have them.

After k8s.io/kubernetes/pkg/apis/*/v1/defaults.go and the strategies of the registry. Each function changes the fresh
copy it is given.
"""

from __future__ import annotations

import base64
import itertools
import uuid
from collections.abc import Callable
from typing import Any

from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.empty import NODE_INFO
from tests.fakes.kubernetes.pod_defaults import pod_admitted, pod_defaults, pod_spec_defaults
from tests.fakes.kubernetes.resources import Resource

Json = dict[str, Any]


def _template(spec: Json, name: str = "template") -> None:
    template = spec.setdefault(name, {})
    template.setdefault("metadata", {})
    pod_spec_defaults(template.setdefault("spec", {}))


def _namespace(body: Json, old: Json | None) -> None:
    name = body["metadata"].get("name")
    if name:
        body["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name
    body.setdefault("spec", {})
    body.setdefault("status", {})


def _namespace_admitted(body: Json, old: Json | None) -> None:
    if old is None:
        body["spec"]["finalizers"] = ["kubernetes"]
    body["status"].setdefault("phase", "Active")


def _node(body: Json, old: Json | None) -> None:
    body.setdefault("spec", {})
    status = body.setdefault("status", {})
    status.setdefault("daemonEndpoints", {}).setdefault("kubeletEndpoint", {}).setdefault("Port", 0)
    for name in NODE_INFO:
        status.setdefault("nodeInfo", {}).setdefault(name, "")
    for name in ("capacity", "allocatable"):
        other = "allocatable" if name == "capacity" else "capacity"
        if name not in status and other in status:
            status[name] = dict(status[other])


def _secret(body: Json, old: Json | None) -> None:
    plain = body.pop("stringData", None)
    if plain:
        data = body.setdefault("data", {})
        for name, value in plain.items():
            data[name] = base64.b64encode(value.encode()).decode()
    body.setdefault("type", "Opaque")


_addresses = itertools.count(1)


def _service(body: Json, old: Json | None) -> None:
    spec = body.setdefault("spec", {})
    kind = spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    for port in spec.get("ports", ()):
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port["port"])
    body.setdefault("status", {}).setdefault("loadBalancer", {})
    if kind == "ExternalName":
        return
    spec.setdefault("internalTrafficPolicy", "Cluster")
    if kind in {"NodePort", "LoadBalancer"}:
        spec.setdefault("externalTrafficPolicy", "Cluster")
        if kind == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)


def _service_admitted(body: Json, old: Json | None) -> None:
    spec = body["spec"]
    if spec["type"] == "ExternalName":
        return
    if "clusterIP" not in spec:
        number = next(_addresses)
        spec["clusterIP"] = old["spec"]["clusterIP"] if old else f"10.96.{number // 250 % 256}.{number % 250 + 1}"
    spec.setdefault("clusterIPs", [spec["clusterIP"]])
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")


def _claim(body: Json, old: Json | None) -> None:
    spec = body.setdefault("spec", {})
    spec.setdefault("volumeMode", "Filesystem")
    spec.setdefault("resources", {})
    body.setdefault("status", {})


def _claim_admitted(body: Json, old: Json | None) -> None:
    body["status"].setdefault("phase", "Pending")
    if old is None:
        body["metadata"].setdefault("finalizers", []).append("kubernetes.io/pvc-protection")


def _quota(body: Json, old: Json | None) -> None:
    body.setdefault("spec", {})
    body.setdefault("status", {})


def _limit_range(body: Json, old: Json | None) -> None:
    for limit in body.setdefault("spec", {}).setdefault("limits", []):
        if limit.get("type") != "Container":
            continue
        default = limit.setdefault("default", {})
        for name, value in limit.get("max", {}).items():
            default.setdefault(name, value)
        requests = limit.setdefault("defaultRequest", {})
        for name, value in {**limit.get("min", {}), **default}.items():
            requests.setdefault(name, value)
        for empty in ("default", "defaultRequest"):
            if not limit[empty]:
                del limit[empty]


def _event(body: Json, old: Json | None) -> None:
    body.setdefault("involvedObject", {})
    body.setdefault("source", {})
    for name in ("firstTimestamp", "lastTimestamp", "eventTime"):
        body.setdefault(name, None)
    for name in ("reportingComponent", "reportingInstance"):
        body.setdefault(name, "")


def _deployment(body: Json, old: Json | None) -> None:
    spec = body.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    _template(spec)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    body.setdefault("status", {})


def _replica_set(body: Json, old: Json | None) -> None:
    spec = body.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    _template(spec)
    body.setdefault("status", {}).setdefault("replicas", 0)


def _job(body: Json, old: Json | None) -> None:
    spec = body.setdefault("spec", {})
    for name, value in (("parallelism", 1), ("completions", 1), ("backoffLimit", 6)):
        spec.setdefault(name, value)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("podReplacementPolicy", "TerminatingOrFailed")
    _template(spec)
    if old is None:
        uid = body["metadata"].get("uid") or str(uuid.uuid4())
        own = {"batch.kubernetes.io/controller-uid": uid}
        spec.setdefault("selector", {"matchLabels": own})
        name = body["metadata"].get("name", "")
        labels = spec["template"]["metadata"].setdefault("labels", {})
        labels.update({**own, "batch.kubernetes.io/job-name": name, "controller-uid": uid, "job-name": name})
    body.setdefault("status", {})


def _network_policy(body: Json, old: Json | None) -> None:
    spec = body.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    if "policyTypes" not in spec:
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    for rule in [*spec.get("ingress", ()), *spec.get("egress", ())]:
        for port in rule.get("ports", ()):
            port.setdefault("protocol", "TCP")


def _budget(body: Json, old: Json | None) -> None:
    body.setdefault("spec", {})
    status = body.setdefault("status", {})
    for name in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        status.setdefault(name, 0)


def _endpoint_slice(body: Json, old: Json | None) -> None:
    body.setdefault("endpoints", [])
    for port in body.setdefault("ports", []):
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def _priority_class(body: Json, old: Json | None) -> None:
    body.setdefault("value", 0)
    body.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _leader_worker_set(body: Json, old: Json | None) -> None:
    spec = body.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("startupPolicy", "LeaderCreated")
    group = spec.setdefault("leaderWorkerTemplate", {})
    group.setdefault("size", 1)
    group.setdefault("restartPolicy", "RecreateGroupOnPodRestart")
    strategy = spec.setdefault("rolloutStrategy", {})
    strategy.setdefault("type", "RollingUpdate")
    rolling = strategy.setdefault("rollingUpdateConfiguration", {})
    for name, value in (("partition", 0), ("maxUnavailable", 1), ("maxSurge", 0)):
        rolling.setdefault(name, value)
    spec.setdefault("networkConfig", {}).setdefault("subdomainPolicy", "Shared")


_DEFAULTS: dict[Resource, Callable[[Json, Json | None], None]] = {
    kinds.NAMESPACES: _namespace,
    kinds.NODES: _node,
    kinds.PODS: pod_defaults,
    kinds.SECRETS: _secret,
    kinds.SERVICES: _service,
    kinds.CLAIMS: _claim,
    kinds.QUOTAS: _quota,
    kinds.LIMITRANGES: _limit_range,
    kinds.EVENTS: _event,
    kinds.DEPLOYMENTS: _deployment,
    kinds.REPLICASETS: _replica_set,
    kinds.JOBS: _job,
    kinds.NETWORKPOLICIES: _network_policy,
    kinds.BUDGETS: _budget,
    kinds.ENDPOINTSLICES: _endpoint_slice,
    kinds.PRIORITYCLASSES: _priority_class,
    kinds.LEADERWORKERSETS: _leader_worker_set,
}

_ADMITTED: dict[Resource, Callable[[Json, Json | None], None]] = {
    kinds.NAMESPACES: _namespace_admitted,
    kinds.PODS: pod_admitted,
    kinds.SERVICES: _service_admitted,
    kinds.CLAIMS: _claim_admitted,
}


def fill(resource: Resource, body: Json, old: Json | None) -> None:
    """Sets what is missing. `old`: the object before the write, None on create."""
    give = _DEFAULTS.get(resource)
    if give is not None:
        give(body, old)


def allocate(resource: Resource, body: Json, old: Json | None) -> None:
    """Sets what the server adds after it has noted who owns what: addresses, finalizers, a phase. Nobody owns those."""
    give = _ADMITTED.get(resource)
    if give is not None:
        give(body, old)
