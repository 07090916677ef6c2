"""The scheduler: binds pods to nodes with room, or says why there is none, in the real one's words.

Filters, in its order: unschedulable nodes, taints, node selector and required affinity, resources. Of the nodes left,
the one with most of the pod's scarcest resource free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from tests.fakes.kubernetes import admission, quantity
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.controllers.base import Controller, condition_of, event_name, is_finished, key_of, reference
from tests.fakes.kubernetes.objects import Objects, Writing
from tests.fakes.kubernetes.selectors import expression_holds
from tests.fakes.kubernetes.storage import Event, Key, Stored

Json = dict[str, Any]

_SCHEDULER = "kube-scheduler"
_HELPLESS = "Preemption is not helpful for scheduling."
_NO_VICTIMS = "No preemption victims found for incoming pod."
_UNTOLERATED = "node(s) had untolerated taint(s)"
_BOUND_LABELS = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone")  # a pod gets its node's

_Amounts = dict[str, Fraction]


class Scheduler(Controller):
    """Pods without a node → pods with one."""

    watches = (kinds.PODS, kinds.NODES)

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects)
        self.how = Writing(_SCHEDULER, trusted=True)
        self._used: dict[str, _Amounts] = {}  # by node
        self._counted: dict[Key, tuple[str, _Amounts]] = {}
        self._unplaced: set[Key] = set()

    def concerned(self, event: Event) -> Iterable[Key]:
        """The pod; every pod that waits, when a node changed or a pod made room."""
        if event.after.resource is kinds.NODES:
            before = event.before.body if event.before else {"spec": {}, "status": {}, "metadata": {}}
            return list(self._unplaced) if _offer(before) != _offer(event.after.body) else []
        key, body = key_of(event.after), event.after.body
        gone = event.type == "DELETED" or is_finished(body)
        self._count(key, None if gone else body)
        if not gone and not body["spec"].get("nodeName") and "deletionTimestamp" not in body["metadata"]:
            self._unplaced.add(key)
            return [key]
        waited = key in self._unplaced
        self._unplaced.discard(key)
        return list(self._unplaced) if gone and not waited else []

    def _count(self, key: Key, body: Json | None) -> None:
        node = body["spec"].get("nodeName", "") if body else ""
        if key in self._counted:
            if node:
                return
            held, amounts = self._counted.pop(key)
            used = self._used[held]
            for name, amount in amounts.items():
                used[name] -= amount
        elif body is not None and node:
            amounts = {**admission.pod_total(body["spec"], "requests"), "pods": Fraction(1)}
            self._counted[key] = (node, amounts)
            used = self._used.setdefault(node, {})
            for name, amount in amounts.items():
                used[name] = used.get(name, Fraction(0)) + amount

    def sync(self, key: Key) -> None:
        """Tries to place one pod."""
        pod = self.store.get(kinds.PODS, *key)
        if pod is None or pod.body["spec"].get("nodeName") or "deletionTimestamp" in pod.body["metadata"]:
            return
        asked = {**admission.pod_total(pod.body["spec"], "requests"), "pods": Fraction(1)}
        nodes = self.store.all(kinds.NODES)
        reasons: Counter[str] = Counter()
        hopeless = 0
        fitting: list[tuple[Fraction, str, Stored]] = []
        for node in nodes:
            why, final = self._misfits(pod.body, node.body, asked)
            if why:
                reasons.update(why)
                hopeless += final
            else:
                fitting.append((self._room(node.body, asked), node.body["metadata"]["name"], node))
        if fitting:
            self._bind(pod, max(fitting, key=lambda each: (each[0], [-ord(c) for c in each[1]]))[2])
        else:
            self._refuse(pod, _words(len(nodes), reasons, hopeless))

    def _misfits(self, pod: Json, node: Json, asked: _Amounts) -> tuple[list[str], bool]:
        """Why a node will not do, and whether no eviction could change that."""
        spec, offered = pod["spec"], node["spec"]
        tolerations = spec.get("tolerations", ())
        if offered.get("unschedulable") and not _tolerated(
            {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, tolerations
        ):
            return ["node(s) were unschedulable"], True
        for taint in offered.get("taints", ()):
            if taint["effect"] != "PreferNoSchedule" and not _tolerated(taint, tolerations):
                return [_UNTOLERATED], True
        if not _selects(spec, node["metadata"]):
            return ["node(s) didn't match Pod's node affinity/selector"], True
        allocatable = node["status"].get("allocatable", {})
        used = self._used.get(node["metadata"]["name"], {})
        short, final = [], False
        for name, amount in asked.items():
            total = quantity.value(allocatable.get(name, "0"))
            if used.get(name, Fraction(0)) + amount > total:
                short.append("Too many pods" if name == "pods" else f"Insufficient {name}")
                final = final or amount > total
        return short, final

    def _room(self, node: Json, asked: _Amounts) -> Fraction:
        used = self._used.get(node["metadata"]["name"], {})
        shares = []
        for name in asked:
            total = quantity.value(node["status"]["allocatable"].get(name, "0"))
            if total:
                shares.append((total - used.get(name, Fraction(0))) / total)
        return min(shares, default=Fraction(0))

    def _bind(self, pod: Stored, node: Stored) -> None:
        """As the binding subresource does: nobody owns what it sets."""
        meta, status = pod.body["metadata"], pod.body["status"]
        labels = {name: node.body["metadata"].get("labels", {}).get(name) for name in _BOUND_LABELS}
        found = {name: value for name, value in labels.items() if value}
        condition = {
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": self.objects.timestamp(),
        }
        others = [each for each in status.get("conditions", ()) if each["type"] != "PodScheduled"]
        body = {
            **pod.body,
            "metadata": {**meta, "labels": {**meta.get("labels", {}), **found}},
            "spec": {**pod.body["spec"], "nodeName": node.body["metadata"]["name"]},
            "status": {**status, "conditions": [condition, *others]},
        }
        self._count(key_of(pod), body)  # now, not when the event comes: the next pod must see it
        self.store.put(kinds.PODS, body)

    def _refuse(self, pod: Stored, words: str) -> None:
        status = pod.body["status"]
        current = condition_of(status, "PodScheduled")
        if current and current.get("message") == words:
            return
        now = self.objects.timestamp()
        condition = {
            "type": "PodScheduled",
            "observedGeneration": pod.body["metadata"]["generation"],
            "status": "False",
            "lastTransitionTime": current["lastTransitionTime"] if current else now,
            "reason": "Unschedulable",
            "message": words,
        }
        self._record(pod, words)
        others = [each for each in status.get("conditions", ()) if each["type"] != "PodScheduled"]
        self.objects.set_status(pod, {**status, "conditions": [condition, *others]}, _SCHEDULER)

    def _record(self, pod: Stored, words: str) -> None:
        """Through events.k8s.io: its fields have other names there, and so has the owner's entry."""
        meta = pod.body["metadata"]
        now = self.objects.timestamp()
        names = (
            "action",
            "eventTime",
            "note",
            "reason",
            "regarding",
            "reportingController",
            "reportingInstance",
            "type",
        )
        made = self.objects.create(
            kinds.EVENTS,
            meta["namespace"],
            {
                "metadata": {"name": event_name(meta["name"])},
                "involvedObject": reference(pod),
                "reason": "FailedScheduling",
                "message": words,
                "type": "Warning",
                "eventTime": now.replace("Z", ".000000Z"),
                "action": "Scheduling",
                "reportingComponent": "default-scheduler",
                "reportingInstance": "default-scheduler-vm",
            },
            self.how,
        ).stored
        owner = made.body["metadata"]["managedFields"][0]
        owner.update(apiVersion="events.k8s.io/v1", fieldsV1={f"f:{name}": {} for name in names})


def _offer(node: Json) -> Json:
    """What of a node decides whether pods fit."""
    return {
        "labels": node["metadata"].get("labels"),
        "spec": node["spec"],
        "allocatable": node["status"].get("allocatable"),
    }


def _tolerated(taint: Json, tolerations: Iterable[Json]) -> bool:
    return any(
        each.get("effect", taint["effect"]) == taint["effect"]
        and (each.get("key", "") == "" or each["key"] == taint["key"])
        and (each.get("operator", "Equal") == "Exists" or each.get("value", "") == taint.get("value", ""))
        for each in tolerations
    )


def _selects(spec: Json, meta: Json) -> bool:
    labels = meta.get("labels", {})
    if any(labels.get(key) != value for key, value in spec.get("nodeSelector", {}).items()):
        return False
    required = spec.get("affinity", {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    about = {"metadata.name": meta["name"]}
    return any(
        all(expression_holds(each, labels) for each in term.get("matchExpressions", ()))
        and all(expression_holds(each, about) for each in term.get("matchFields", ()))
        and bool(term)
        for term in required.get("nodeSelectorTerms", ())
    )


def _words(nodes: int, reasons: Counter[str], hopeless: int) -> str:
    """framework.FitError: the filters' reasons, then what dynamic resources and preemption have to say."""
    if nodes == 0:
        return "no nodes available to schedule pods"
    counted = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    helpless = [f"{hopeless} {_HELPLESS}"] if hopeless else []
    victims = [f"{nodes - hopeless} {_NO_VICTIMS}"] if nodes > hopeless else []
    preemption = ", ".join(sorted(each.rstrip(".") for each in [*helpless, *victims]))
    return (
        f"0/{nodes} nodes are available: {counted}. no new claims to deallocate, preemption: 0/{nodes} nodes are "
        f"available: {preemption}."
    )
