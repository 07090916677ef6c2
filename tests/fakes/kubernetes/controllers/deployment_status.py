"""A Deployment's status: counts and conditions (k8s.io/kubernetes/pkg/controller/deployment: sync.go, progress.go)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from tests.fakes.kubernetes.controllers.base import condition_of
from tests.fakes.kubernetes.controllers.rollout import Wanted
from tests.fakes.kubernetes.storage import Stored

Json = dict[str, Any]


class Judge:
    """What is said of a Deployment at a moment. `now`: the time as Kubernetes writes it."""

    def __init__(self, now: Callable[[], str]) -> None:
        self._now = now

    def counted(self, deployment: Stored, sets: list[Stored], newest: Stored | None) -> Json:
        """Replicas by what became of them, and whether enough are available."""
        wanted = Wanted.of(deployment.body)
        total = {
            name: sum(each.body["status"].get(name, 0) for each in sets)
            for name in ("replicas", "readyReplicas", "availableReplicas", "terminatingReplicas")
        }
        intended = sum(each.body["spec"]["replicas"] for each in sets)
        status: Json = {
            "observedGeneration": deployment.body["metadata"]["generation"],
            "replicas": total["replicas"],
            "updatedReplicas": newest.body["status"]["replicas"] if newest else 0,
            "readyReplicas": total["readyReplicas"],
            "availableReplicas": total["availableReplicas"],
            "unavailableReplicas": max(0, intended - total["availableReplicas"]),
        }
        status = {name: value for name, value in status.items() if value}
        status["terminatingReplicas"] = total["terminatingReplicas"]
        status["conditions"] = deployment.body.get("status", {}).get("conditions", [])
        if total["availableReplicas"] >= wanted.replicas - wanted.unavailable:
            words = ("MinimumReplicasAvailable", "Deployment has minimum availability.")
            return self.with_condition(status, "Available", "True", *words)
        words = ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        return self.with_condition(status, "Available", "False", *words)

    def progressed(self, deployment: Stored, before: Json, status: Json, newest: Stored) -> Json:
        """How the rollout is getting on: complete, progressing, or stuck past its deadline."""
        name, replicas = newest.body["metadata"]["name"], deployment.body["spec"]["replicas"]
        current = condition_of(status, "Progressing")
        updated, ready, available = (status.get(f"{each}Replicas", 0) for each in ("updated", "ready", "available"))
        total = status.get("replicas", 0)
        if current and current["reason"] == "NewReplicaSetAvailable" and total == updated:
            return status
        if updated == total == available == replicas:
            words = f'ReplicaSet "{name}" has successfully progressed.'
            return self.with_condition(status, "Progressing", "True", "NewReplicaSetAvailable", words)
        progressing = (
            updated > before.get("updatedReplicas", 0)
            or total - updated < before.get("replicas", 0) - before.get("updatedReplicas", 0)
            or ready > before.get("readyReplicas", 0)
            or available > before.get("availableReplicas", 0)
        )
        if progressing:
            words = f'ReplicaSet "{name}" is progressing.'
            return self.with_condition(status, "Progressing", "True", "ReplicaSetUpdated", words, renew=True)
        if current and current["status"] == "True" and self._late(deployment, current):
            words = f'ReplicaSet "{name}" has timed out progressing.'
            return self.with_condition(status, "Progressing", "False", "ProgressDeadlineExceeded", words)
        return status

    def _late(self, deployment: Stored, current: Json) -> bool:
        passed = datetime.fromisoformat(self._now()) - datetime.fromisoformat(current["lastUpdateTime"])
        return passed > timedelta(seconds=deployment.body["spec"]["progressDeadlineSeconds"])

    def failed(self, status: Json, sets: list[Stored], newest: Stored) -> Json:
        """A ReplicaSet's failure becomes the Deployment's, the newest one's first."""
        order = [newest, *(each for each in sets if each is not newest)]
        found = next((each for each in (condition_of(s.body["status"], "ReplicaFailure") for s in order) if each), None)
        if found is None:
            kept = [each for each in status["conditions"] if each["type"] != "ReplicaFailure"]
            return {**status, "conditions": kept}
        return self.with_condition(status, "ReplicaFailure", found["status"], found["reason"], found["message"])

    def with_condition(
        self, status: Json, kind: str, state: str, reason: str, message: str, *, renew: bool = False
    ) -> Json:
        """SetDeploymentCondition: the same state and reason change nothing, unless renewed; a new one goes last."""
        current = condition_of(status, kind)
        if current and (current["status"], current["reason"]) == (state, reason) and not renew:
            return status
        now = self._now()
        changed = current["lastTransitionTime"] if current and current["status"] == state else now
        condition = {
            "type": kind,
            "status": state,
            "lastUpdateTime": now,
            "lastTransitionTime": changed,
            "reason": reason,
            "message": message,
        }
        kept = [each for each in status.get("conditions", []) if each["type"] != kind]
        return {**status, "conditions": [*kept, condition]}
