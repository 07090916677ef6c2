"""What stands between a valid object and the store: the namespace's life, limit ranges, Pod Security, quotas.

Quotas count what lives: a pod that is being deleted still counts until it is gone, as on a real cluster.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from tests.fakes.kubernetes import pod_security, quantity
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.errors import Refusal, forbidden, not_found
from tests.fakes.kubernetes.resources import Resource
from tests.fakes.kubernetes.storage import Store

Json = dict[str, Any]

_LEVEL = "pod-security.kubernetes.io/"
_COUNTED = {
    kinds.PODS: "pods",
    kinds.SERVICES: "services",
    kinds.SECRETS: "secrets",
    kinds.CONFIGMAPS: "configmaps",
    kinds.CLAIMS: "persistentvolumeclaims",
}


def namespace_admits(store: Store, resource: Resource, namespace: str, name: str) -> None:
    """Raises for a create in a namespace that does not exist (404) or is going away (403)."""
    found = store.get(kinds.NAMESPACES, "", namespace)
    if found is None:
        raise not_found(kinds.NAMESPACES, namespace)
    if "deletionTimestamp" in found.body["metadata"]:
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {namespace} is being terminated",
            "field": "metadata.namespace",
        }
        words = f"unable to create new content in namespace {namespace} because it is being terminated"
        raise forbidden(resource, name, words, [cause])


def admit(store: Store, resource: Resource, body: Json, *, creating: bool) -> list[str]:
    """Changes the object as admission does, or raises a 403. Gives the warnings of the answer."""
    meta = body["metadata"]
    if resource is kinds.PODS and creating:
        _set_priority(store, body)
        _set_limits(store, body)
        _enforce_security(store, body)
    warnings = _security_warnings(store, resource, body)
    if creating and resource.namespaced:
        _charge(store, resource, body, meta["namespace"])
    return warnings


def _set_priority(store: Store, body: Json) -> None:
    name = body["spec"].get("priorityClassName")
    if not name:
        return
    found = store.get(kinds.PRIORITYCLASSES, "", name)
    if found is None:
        raise forbidden(kinds.PODS, body["metadata"]["name"], f"no PriorityClass with name {name} was found")
    body["spec"]["priority"] = found.body["value"]
    body["spec"]["preemptionPolicy"] = found.body.get("preemptionPolicy", "PreemptLowerPriority")


def _set_limits(store: Store, body: Json) -> None:
    """LimitRanger: containers that say nothing get the namespace's defaults, and the pod an annotation about it."""
    words = []
    for held in store.all(kinds.LIMITRANGES, body["metadata"]["namespace"]):
        for limit in held.body["spec"]["limits"]:
            if limit["type"] == "Container":
                words += _default_limits(body["spec"], limit)
    if words:
        annotations = body["metadata"].setdefault("annotations", {})
        annotations["kubernetes.io/limit-ranger"] = "LimitRanger plugin set: " + "; ".join(words)


def _default_limits(spec: Json, limit: Json) -> list[str]:
    words = []
    for field, kind in (("containers", "container"), ("initContainers", "init container")):
        for container in spec.get(field, ()):
            for name, defaults in (("requests", limit.get("defaultRequest")), ("limits", limit.get("default"))):
                values = container["resources"].setdefault(name, {}) if defaults else {}
                missing = sorted(set(defaults or {}) - set(values))
                for each in missing:
                    values[each] = (defaults or {})[each]
                if missing:
                    words.append(f"{', '.join(missing)} {name[:-1]} for {kind} {container['name']}")
    return words


def _level(store: Store, namespace: str, mode: str) -> tuple[str, str]:
    found = store.get(kinds.NAMESPACES, "", namespace)
    labels = found.body["metadata"].get("labels", {}) if found else {}
    return labels.get(_LEVEL + mode, ""), labels.get(f"{_LEVEL}{mode}-version", "latest")


def _enforce_security(store: Store, body: Json) -> None:
    meta = body["metadata"]
    level, version = _level(store, meta["namespace"], "enforce")
    words = pod_security.violations(level, body["spec"])
    if words:
        raise forbidden(kinds.PODS, meta["name"], f'violates PodSecurity "{level}:{version}": {words}')


def _security_warnings(store: Store, resource: Resource, body: Json) -> list[str]:
    if resource not in (kinds.DEPLOYMENTS, kinds.REPLICASETS, kinds.JOBS):
        return []
    level, version = _level(store, body["metadata"]["namespace"], "warn")
    words = pod_security.violations(level, body["spec"]["template"]["spec"])
    return [f'would violate PodSecurity "{level}:{version}": {words}'] if words else []


def _charge(store: Store, resource: Resource, body: Json, namespace: str) -> None:
    for quota in store.all(kinds.QUOTAS, namespace):
        hard = quota.body["spec"].get("hard", {})
        asked = {name: amount for name, amount in usage(resource, body).items() if name in hard}
        if resource is kinds.PODS:
            _must_specify(quota.body, body)
        if not asked:
            continue
        used = used_of(store, namespace, hard)
        over = sorted(name for name in asked if used[name] + asked[name] > quantity.value(hard[name]))
        if over:
            parts = (
                ("requested", {name: quantity.text(asked[name]) for name in over}),
                ("used", {name: quantity.text(used[name]) for name in over}),
                ("limited", {name: hard[name] for name in over}),
            )
            words = ", ".join(f"{what}: {','.join(f'{k}={v}' for k, v in values.items())}" for what, values in parts)
            raise _over(resource, body, f"exceeded quota: {quota.body['metadata']['name']}, {words}")


def _over(resource: Resource, body: Json, words: str) -> Refusal:
    return forbidden(resource, body["metadata"]["name"], words)


def _must_specify(quota: Json, body: Json) -> None:
    """A quota of cpu or memory wants every container to say how much."""
    missing: dict[str, list[str]] = {}
    for name in quota["spec"].get("hard", {}):
        kind, _, resource = name.rpartition(".")
        if kind not in {"requests", "limits", ""} or resource not in {"cpu", "memory"}:
            continue
        for container in body["spec"].get("containers", ()):
            if resource not in container["resources"].get(kind or "requests", {}):
                missing.setdefault(name, []).append(container["name"])
    if missing:
        parts = "; ".join(f"{name} for: {','.join(names)}" for name, names in sorted(missing.items()))
        raise _over(kinds.PODS, body, f"failed quota: {quota['metadata']['name']}: must specify {parts}")


def usage(resource: Resource, body: Json) -> dict[str, Fraction]:
    """What an object takes from a quota, under the quota's names."""
    taken: dict[str, Fraction] = {f"count/{resource.qualified}": Fraction(1)}
    if resource in _COUNTED:
        taken[_COUNTED[resource]] = Fraction(1)
    if resource is kinds.CLAIMS:
        size = body["spec"]["resources"].get("requests", {}).get("storage", "0")
        taken["requests.storage"] = quantity.value(size)
    if resource is kinds.PODS:
        for kind in ("requests", "limits"):
            for name, amount in pod_total(body["spec"], kind).items():
                taken[f"{kind}.{name}"] = amount
                if kind == "requests" and name in {"cpu", "memory"}:
                    taken[name] = amount
    return taken


def pod_total(spec: Json, kind: str) -> dict[str, Fraction]:
    """Requests or limits of a pod: the sum of its containers, or its largest init container where that is more."""
    total: dict[str, Fraction] = {}
    for container in spec.get("containers", ()):
        for name, amount in container["resources"].get(kind, {}).items():
            total[name] = total.get(name, Fraction(0)) + quantity.value(amount)
    for container in spec.get("initContainers", ()):
        for name, amount in container["resources"].get(kind, {}).items():
            total[name] = max(total.get(name, Fraction(0)), quantity.value(amount))
    return total


def used_of(store: Store, namespace: str, hard: Json) -> dict[str, Fraction]:
    """What a namespace uses of a quota's resources. Finished pods count no more."""
    used = dict.fromkeys(hard, Fraction(0))
    counted = [each for each in kinds.BUILT_IN if each.namespaced and _may_count(each, hard)]
    for resource in counted:
        for held in store.all(resource, namespace):
            if held.body.get("status", {}).get("phase") in {"Succeeded", "Failed"} and resource is kinds.PODS:
                continue
            for name, amount in usage(resource, held.body).items():
                if name in used:
                    used[name] += amount
    return used


def _may_count(resource: Resource, hard: Json) -> bool:
    if resource is kinds.PODS:
        return any(not name.startswith("count/") or name == "count/pods" for name in hard)
    names = {f"count/{resource.qualified}", _COUNTED.get(resource, "")}
    return bool(names & set(hard)) or (resource is kinds.CLAIMS and "requests.storage" in hard)
