"""The ReplicaSet controller: as many pods as wanted, and the reason where there cannot be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.fakes.kubernetes import deletion
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.controllers.base import (
    MANAGER,
    Controller,
    condition_of,
    controller_of,
    is_active,
    is_finished,
    is_ready,
    key_of,
    owner_reference,
)
from tests.fakes.kubernetes.deletion import DeleteOptions
from tests.fakes.kubernetes.errors import Refusal
from tests.fakes.kubernetes.storage import Event, Key, Stored

Json = dict[str, Any]

_COMPONENT = "replicaset-controller"


class ReplicaSets(Controller):
    """ReplicaSets → Pods."""

    watches = (kinds.REPLICASETS, kinds.PODS, kinds.QUOTAS)

    def concerned(self, event: Event) -> Iterable[Key]:
        """The ReplicaSet itself, the one of a pod, and those that wait for room in a quota."""
        if event.after.resource is kinds.REPLICASETS:
            return [key_of(event.after)] if event.type != "DELETED" else []
        found = []
        if event.after.resource is kinds.PODS:
            key = controller_of(event.after, "ReplicaSet")
            found = [key] if key else []
            if event.type != "DELETED" and not is_finished(event.after.body):
                return found
        elif event.before is not None and event.before.body["spec"] == event.after.body["spec"]:
            return []
        namespace = event.after.body["metadata"]["namespace"]
        waiting = (each for each in self.store.all(kinds.REPLICASETS, namespace) if _failure(each))
        return [*found, *(key_of(each) for each in waiting)]

    def sync(self, key: Key) -> None:
        """One pass."""
        found = self.store.get(kinds.REPLICASETS, *key)
        if found is None:
            return
        pods = self._pods(found)
        error: str | None = _message(found)
        if "deletionTimestamp" not in found.body["metadata"]:
            error = self._adjust(found, [each for each in pods if is_active(each.body)])
        self._write_status(found, self._pods(found), error)

    def _pods(self, found: Stored) -> list[Stored]:
        return [each for each in self.store.owned_by(found.body["metadata"]["uid"]) if each.resource is kinds.PODS]

    def _adjust(self, found: Stored, active: list[Stored]) -> str | None:
        """Makes or deletes pods. Gives the first refusal, if any."""
        meta, spec = found.body["metadata"], found.body["spec"]
        missing = spec["replicas"] - len(active)
        for _ in range(missing):
            name = f"{meta['name']}-{self.objects.suffix()}"
            template = spec["template"]
            body = {
                "metadata": {
                    **template["metadata"],
                    "name": name,
                    "generateName": f"{meta['name']}-",
                    "ownerReferences": [owner_reference(found)],
                },
                "spec": template["spec"],
            }
            try:
                self.objects.create(kinds.PODS, meta["namespace"], body, self.how)
            except Refusal as refusal:
                if not _failure(found):
                    words = f"Error creating: {refusal.message}"
                    self.record(found, "FailedCreate", words, component=_COMPONENT, warning=True)
                return refusal.message
            self.record(found, "SuccessfulCreate", f"Created pod: {name}", component=_COMPONENT)
        for each in sorted(active, key=_worth)[: max(0, -missing)]:
            namespace, name = key_of(each)
            deletion.delete(self.objects, kinds.PODS, namespace, name, DeleteOptions())
            self.record(found, "SuccessfulDelete", f"Deleted pod: {name}", component=_COMPONENT)
        return None

    def _write_status(self, found: Stored, pods: list[Stored], error: str | None) -> None:
        active = [each.body for each in pods if is_active(each.body)]
        ready = sum(1 for each in active if is_ready(each))
        before = found.body["status"]
        status: Json = {
            "replicas": len(active),
            "fullyLabeledReplicas": len(active),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "observedGeneration": found.body["metadata"]["generation"],
        }
        status = {name: value for name, value in status.items() if value or name == "replicas"}
        status["terminatingReplicas"] = sum(
            1 for each in pods if "deletionTimestamp" in each.body["metadata"] and not is_finished(each.body)
        )
        kept = [each for each in before.get("conditions", []) if each["type"] != "ReplicaFailure"]
        failure = condition_of(before, "ReplicaFailure")
        if error is not None:
            kept.append(failure or self._condition(error))
        if kept:
            status["conditions"] = kept
        self.objects.set_status(found, status, MANAGER)

    def _condition(self, message: str) -> Json:
        return {
            "type": "ReplicaFailure",
            "status": "True",
            "lastTransitionTime": self.objects.timestamp(),
            "reason": "FailedCreate",
            "message": message,
        }


def _failure(found: Stored) -> Json | None:
    return condition_of(found.body["status"], "ReplicaFailure")


def _message(found: Stored) -> str | None:
    failure = _failure(found)
    return failure["message"] if failure else None


def _worth(pod: Stored) -> tuple[bool, int, bool, int]:
    """What goes first: not scheduled, then not running, then not ready, then the youngest."""
    body = pod.body
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}
    scheduled = bool(body["spec"].get("nodeName"))
    return (scheduled, phases.get(body["status"]["phase"], 0), is_ready(body), -pod.version)
