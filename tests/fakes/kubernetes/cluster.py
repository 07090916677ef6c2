"""The cluster behind the API, for tests to play: its nodes, its controllers, its kubelets.

`settle()` lets the controllers work until nothing changes any more; `run_controllers()` lets them work all the time.
`pods` plays the kubelets: `cluster.pods.ready("ep-1", "10.0.0.5")`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.fakes.kubernetes import deletion, nodes
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.controllers.base import Controller
from tests.fakes.kubernetes.controllers.claims import Claims
from tests.fakes.kubernetes.controllers.deployments import Deployments
from tests.fakes.kubernetes.controllers.endpointslices import EndpointSlices
from tests.fakes.kubernetes.controllers.garbage import Garbage
from tests.fakes.kubernetes.controllers.leaderworkersets import LeaderWorkerSets
from tests.fakes.kubernetes.controllers.loop import Loop
from tests.fakes.kubernetes.controllers.namespaces import Namespaces
from tests.fakes.kubernetes.controllers.quotas import Quotas
from tests.fakes.kubernetes.controllers.replicasets import ReplicaSets
from tests.fakes.kubernetes.controllers.scheduler import Scheduler
from tests.fakes.kubernetes.deletion import DeleteOptions
from tests.fakes.kubernetes.kubelet import Kubelets, Pods
from tests.fakes.kubernetes.logs import Logs
from tests.fakes.kubernetes.nodes import ready_condition
from tests.fakes.kubernetes.objects import Objects, Writing
from tests.fakes.kubernetes.storage import Stored

Json = dict[str, Any]

_NODE_CONTROLLER = Writing("kube-controller-manager")
_UNREACHABLE = "node.kubernetes.io/unreachable"


class Cluster:
    """What a test does to the cluster from behind. Thread-safe."""

    def __init__(self, objects: Objects, logs: Logs) -> None:
        self.objects = objects
        self.pods = Pods(objects, logs)
        self.kubelets = Kubelets(objects, self.pods)
        controllers: list[Controller] = [
            Namespaces(objects),
            Deployments(objects),
            ReplicaSets(objects),
            LeaderWorkerSets(objects),
            Scheduler(objects),
            self.kubelets,
            Claims(objects),
            Quotas(objects),
            EndpointSlices(objects),
            Garbage(objects),
        ]
        self._loop = Loop(objects.store, controllers)

    def settle(self, *, resync: bool = False) -> None:
        """Lets the controllers work until there is nothing left to do. `resync`: they look at everything again, also at
        what did not change, for a deadline may have passed."""
        if resync:
            self._loop.resync()
        self._loop.settle()

    @contextmanager
    def run_controllers(self) -> Iterator[None]:
        """The controllers work in a thread for as long as the block lasts."""
        self.start_controllers()
        try:
            yield
        finally:
            self.stop_controllers()

    def start_controllers(self) -> None:
        """From now on the controllers follow every change."""
        self._loop.start()

    def stop_controllers(self) -> None:
        """Nothing happens by itself any more."""
        self._loop.stop()

    def add_node(self, name: str, **shape: Any) -> Stored:
        """A node that is ready; see `nodes.node_manifest` for its shape."""
        return nodes.add(self.objects, name, **shape)

    def remove_node(self, name: str) -> None:
        """A node that is taken out of the cluster, with its pods."""
        with self.objects.store.lock:
            for each in self._on(name):
                meta = each.body["metadata"]
                options = DeleteOptions(grace_seconds=0)
                deletion.delete(self.objects, kinds.PODS, meta["namespace"], meta["name"], options)
            deletion.delete(self.objects, kinds.NODES, "", name, DeleteOptions())

    def node_lost(self, name: str, *, evicted: bool = False) -> None:
        """Its kubelet is silent: the node is not ready, nor are its pods.

        `evicted`: the five minutes of grace are over, its pods are being deleted, which nobody there can confirm.
        """
        with self.objects.store.lock:
            self.kubelets.lost.add(name)
            self._node_ready(name, "Unknown", [{"key": _UNREACHABLE, "effect": e} for e in ("NoSchedule", "NoExecute")])
            for pod in self._on(name):
                self._pod_unready(pod)
                if evicted:
                    meta = pod.body["metadata"]
                    deletion.delete(self.objects, kinds.PODS, meta["namespace"], meta["name"], DeleteOptions())

    def node_back(self, name: str) -> None:
        """Its kubelet speaks again."""
        with self.objects.store.lock:
            self.kubelets.lost.discard(name)
            self._node_ready(name, "True", [])
            for pod in self._on(name):  # so that the kubelet looks at them again
                self.objects.store.put(kinds.PODS, {**pod.body, "metadata": dict(pod.body["metadata"])})

    def _on(self, node: str) -> list[Stored]:
        return [each for each in self.objects.store.all(kinds.PODS) if each.body["spec"].get("nodeName") == node]

    def _node_ready(self, name: str, status: str, taints: list[Json]) -> None:
        node = self.objects.get(kinds.NODES, "", name)
        kept = [each for each in node.body["spec"].get("taints", ()) if each["key"] != _UNREACHABLE]
        self.objects.merge(kinds.NODES, "", name, {"spec": {"taints": [*kept, *taints]}}, _NODE_CONTROLLER)
        node = self.objects.get(kinds.NODES, "", name)
        others = [each for each in node.body["status"].get("conditions", ()) if each["type"] != "Ready"]
        condition = ready_condition(status, self.objects.timestamp())
        self.objects.set_status(
            node, {**node.body["status"], "conditions": [*others, condition]}, _NODE_CONTROLLER.manager
        )

    def _pod_unready(self, pod: Stored) -> None:
        status = pod.body["status"]
        conditions = [
            {**each, "status": "False", "lastTransitionTime": self.objects.timestamp()}
            if each["type"] == "Ready"
            else each
            for each in status.get("conditions", ())
        ]
        self.objects.set_status(pod, {**status, "conditions": conditions}, _NODE_CONTROLLER.manager)
