"""What a cluster says of itself: version, nodes with their accelerators, what is installed, what we may do there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from freehold.fleet.facts import ClusterFacts, NodeFacts
from workers.manifests.kubernetes import names
from workers.runtimes.kubernetes import resources
from workers.runtimes.kubernetes.client import Api, ApiError, Json
from workers.runtimes.kubernetes.resources import Resource

_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_WRITES: Final = ("list", "create", "patch", "delete")
_NEEDED: Final[tuple[tuple[Resource, tuple[str, ...]], ...]] = (
    (resources.NODE, ("list",)),
    (resources.POD, ("list", "watch")),
    (resources.POD_LOG, ("get",)),
    (resources.NAMESPACE, _WRITES),
    (resources.NETWORK_POLICY, _WRITES),
    (resources.QUOTA, _WRITES),
    (resources.LIMITS, _WRITES),
    (resources.SERVICE_ACCOUNT, _WRITES),
    (resources.SECRET, _WRITES),
    (resources.SERVICE, _WRITES),
    (resources.DISRUPTION_BUDGET, _WRITES),
    (resources.DEPLOYMENT, (*_WRITES, "watch")),
)
_EXTENDED: Final = re.compile(r"[^/]+\.[^/]+/.+")  # extended resources have a domain; Kubernetes' own have none
# One that takes connections and says nothing is told from one that is slow before an operator has stopped looking.
_ANSWER_SECONDS: Final = 5.0
_WHOLE: Final = re.compile(r"\d+")


def cluster_facts(api: Api, *, cluster: str, tolerations: Iterable[Mapping[str, Any]]) -> ClusterFacts:
    """Asks for all of it. Raises ApiError, RuntimeUnavailable."""
    version = str(api.get("/version", read_seconds=_ANSWER_SECONDS).get("gitVersion", ""))
    nodes = list(api.list(resources.NODE))
    extended = {name for node in nodes for name in _accelerators((node.get("status") or {}).get("allocatable"))}
    used = _used_by_others(api, cluster) if extended else {}
    taken = list(tolerations)
    return ClusterFacts(
        version=version,
        uid=_uid(api),
        nodes=tuple(_node(node, used.get(node["metadata"]["name"], {}), taken) for node in nodes),
        has_leader_worker_sets=has_leader_worker_sets(api),
        forbidden=forbidden(api),
    )


def _uid(api: Api) -> str:
    """What tells a cluster from every other: the uid of a namespace that each has and none can replace."""
    found = api.list(resources.NAMESPACE, fields="metadata.name=kube-system", metadata=True)
    return next((str(namespace["metadata"]["uid"]) for namespace in found), "")


def has_leader_worker_sets(api: Api) -> bool:
    """Whether the kind is installed. Raises ApiError, RuntimeUnavailable."""
    try:
        found = api.get(f"/apis/{resources.LEADER_WORKER_SET.api_version}")
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return any(kind.get("name") == resources.LEADER_WORKER_SET.plural for kind in found.get("resources") or ())


def forbidden(api: Api) -> tuple[str, ...]:
    """What our account needs there and may not do, such as `create deployments.apps`. Raises ApiError,
    RuntimeUnavailable."""
    missing = []
    for resource, verbs in _NEEDED:
        group = resource.api_version.rpartition("/")[0]
        for verb in verbs:
            plural, _, part = resource.plural.partition("/")
            attributes = {"verb": verb, "group": group, "resource": plural, "subresource": part}
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            }
            if not (api.post(_REVIEWS, review).get("status") or {}).get("allowed"):
                missing.append(f"{verb} {resource.plural}" + (f".{group}" if group else ""))
    return tuple(missing)


def _used_by_others(api: Api, cluster: str) -> dict[str, dict[str, int]]:
    """node → accelerator → what pods that are not ours have asked for."""
    used: dict[str, dict[str, int]] = {}
    over = "status.phase!=Succeeded,status.phase!=Failed"
    for pod in api.list(resources.POD, selector=f"{names.CLUSTER}!={cluster}", fields=over):
        node = (pod.get("spec") or {}).get("nodeName")
        if not node:
            continue
        for name, count in _asked_for(pod["spec"]).items():
            mine = used.setdefault(node, {})
            mine[name] = mine.get(name, 0) + count
    return used


def _asked_for(spec: Json) -> dict[str, int]:
    """A pod's accelerators: its containers together, or the init container that wants more."""
    together: dict[str, int] = {}
    for container in spec.get("containers") or ():
        for name, count in _limits(container).items():
            together[name] = together.get(name, 0) + count
    for container in spec.get("initContainers") or ():
        for name, count in _limits(container).items():
            together[name] = max(together.get(name, 0), count)
    return together


def _limits(container: Json) -> dict[str, int]:
    # Extended resources cannot be overcommitted: request and limit are the same.
    return _accelerators((container.get("resources") or {}).get("limits"))


def _accelerators(quantities: Mapping[str, Any] | None) -> dict[str, int]:
    return {
        name: int(value)
        for name, value in (quantities or {}).items()
        if _EXTENDED.fullmatch(name) and isinstance(value, str) and _WHOLE.fullmatch(value) and int(value)
    }


def _node(node: Json, used: Mapping[str, int], tolerations: list[Mapping[str, Any]]) -> NodeFacts:
    spec, status = node.get("spec") or {}, node.get("status") or {}
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ())
    kept_off = [taint for taint in spec.get("taints") or () if taint.get("effect") in {"NoSchedule", "NoExecute"}]
    return NodeFacts(
        name=node["metadata"]["name"],
        labels=node["metadata"].get("labels") or {},
        allocatable=_accelerators(status.get("allocatable")),
        used_by_others=used,
        schedulable=ready
        and not spec.get("unschedulable")
        and all(any(_tolerates(toleration, taint) for toleration in tolerations) for taint in kept_off),
    )


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/"""
    if toleration.get("effect") not in {None, "", taint.get("effect")}:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in {None, "", taint.get("key")}
    return toleration.get("key") == taint.get("key") and toleration.get("value", "") == taint.get("value", "")
