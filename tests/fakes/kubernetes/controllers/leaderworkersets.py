"""LeaderWorkerSets: groups of a leader and its workers (leaderworkerset.x-k8s.io). Only what their clients see.

The real controller makes StatefulSets in between; here the pods are made at once, under the same names and labels.
"""

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
    is_ready,
    key_of,
    owner_reference,
)
from tests.fakes.kubernetes.controllers.deployments import template_hash
from tests.fakes.kubernetes.deletion import DeleteOptions
from tests.fakes.kubernetes.errors import Refusal
from tests.fakes.kubernetes.storage import Event, Key, Stored

Json = dict[str, Any]

NAME = "leaderworkerset.sigs.k8s.io/name"
GROUP = "leaderworkerset.sigs.k8s.io/group-index"
WORKER = "leaderworkerset.sigs.k8s.io/worker-index"
TEMPLATE = "leaderworkerset.sigs.k8s.io/template-revision-hash"
SIZE = "leaderworkerset.sigs.k8s.io/size"


class LeaderWorkerSets(Controller):
    """LeaderWorkerSets → Pods."""

    watches = (kinds.LEADERWORKERSETS, kinds.PODS)

    def concerned(self, event: Event) -> Iterable[Key]:
        """The set, or the one of a pod."""
        if event.after.resource is kinds.LEADERWORKERSETS:
            return [key_of(event.after)] if event.type != "DELETED" else []
        key = controller_of(event.after, "LeaderWorkerSet")
        return [key] if key else []

    def sync(self, key: Key) -> None:
        """One pass: outdated and surplus groups go, missing pods come, the status is counted."""
        found = self.store.get(kinds.LEADERWORKERSETS, *key)
        if found is None or "deletionTimestamp" in found.body["metadata"]:
            return
        group = found.body["spec"]["leaderWorkerTemplate"]
        revision = template_hash(group)
        wanted = {
            f"{key[1]}-{index}" + (f"-{worker}" if worker else ""): (index, worker)
            for index in range(found.body["spec"]["replicas"])
            for worker in range(group["size"])
        }
        pods = {key_of(each)[1]: each for each in self.store.owned_by(found.body["metadata"]["uid"])}
        for name, pod in pods.items():
            meta = pod.body["metadata"]
            if "deletionTimestamp" not in meta and (name not in wanted or meta["labels"][TEMPLATE] != revision):
                deletion.delete(self.objects, kinds.PODS, key[0], name, DeleteOptions())
        for name, place in wanted.items():
            if self.store.get(kinds.PODS, key[0], name) is None:
                self._make(found, name, place, revision)
        self._write_status(found, revision)

    def _make(self, found: Stored, name: str, place: tuple[int, int], revision: str) -> None:
        meta, group = found.body["metadata"], found.body["spec"]["leaderWorkerTemplate"]
        index, worker = place
        template = group["workerTemplate"] if worker else group.get("leaderTemplate", group["workerTemplate"])
        inner = template.get("metadata", {})
        leader = f"{meta['name']}-{index}"
        labels = {NAME: meta["name"], GROUP: str(index), WORKER: str(worker), TEMPLATE: revision}
        service = meta["name"]
        address = f"{leader}.{service}.{meta['namespace']}"
        variables = [
            {"name": "LWS_LEADER_ADDRESS", "value": address},
            {"name": "LWS_GROUP_SIZE", "value": str(group["size"])},
            {"name": "LWS_WORKER_INDEX", "value": str(worker)},
        ]
        spec = {
            **template["spec"],
            "hostname": name,
            "subdomain": service,
            "containers": [
                {**each, "env": [*variables, *each.get("env", ())]} for each in template["spec"]["containers"]
            ],
        }
        body = {
            "metadata": {
                "name": name,
                "labels": {**inner.get("labels", {}), **labels},
                "annotations": {**inner.get("annotations", {}), SIZE: str(group["size"])},
                "ownerReferences": [owner_reference(found)],
            },
            "spec": spec,
        }
        try:
            self.objects.create(kinds.PODS, meta["namespace"], body, self.how)
        except Refusal as refusal:
            words = f"Failed to create pod {name}: {refusal.message}"
            if not any(each.body["message"] == words for each in self.store.all(kinds.EVENTS, meta["namespace"])):
                self.record(found, "FailedCreate", words, component="leaderworkerset", warning=True)

    def _write_status(self, found: Stored, revision: str) -> None:
        wanted, size = found.body["spec"]["replicas"], found.body["spec"]["leaderWorkerTemplate"]["size"]
        groups: dict[str, list[Json]] = {}
        for each in self.store.owned_by(found.body["metadata"]["uid"]):
            if "deletionTimestamp" not in each.body["metadata"]:
                groups.setdefault(each.body["metadata"]["labels"][GROUP], []).append(each.body)
        full = [pods for pods in groups.values() if len(pods) == size]
        ready = sum(1 for pods in full if all(is_ready(pod) for pod in pods))
        updated = sum(1 for pods in full if all(p["metadata"]["labels"][TEMPLATE] == revision for p in pods))
        before = found.body.get("status", {})
        available = ready == wanted
        state = ("True", "AllGroupsReady", "All replicas are ready") if available else (
            "False", "GroupsProgressing", "Replicas are progressing"
        )  # fmt: skip
        status: Json = {
            "replicas": len(groups),
            "readyReplicas": ready,
            "updatedReplicas": updated,
            "hpaPodSelector": f"{NAME}={found.body['metadata']['name']},{WORKER}=0",
            "conditions": [self._condition(before, "Available", *state)],
            "observedGeneration": found.body["metadata"]["generation"],
        }
        self.objects.set_status(found, status, MANAGER)

    def _condition(self, before: Json, kind: str, state: str, reason: str, message: str) -> Json:
        current = condition_of(before, kind)
        same = current is not None and current["status"] == state
        at = current["lastTransitionTime"] if current and same else self.objects.timestamp()
        return {"type": kind, "status": state, "lastTransitionTime": at, "reason": reason, "message": message}
