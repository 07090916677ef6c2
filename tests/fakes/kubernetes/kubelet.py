"""The kubelets, as puppets: a test says what became of a pod, and they write the status a real one would write."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from tests.fakes.kubernetes import deletion, pod_status
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.controllers.base import Controller, is_finished, key_of
from tests.fakes.kubernetes.deletion import DeleteOptions
from tests.fakes.kubernetes.logs import Logs
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.pod_status import Scene
from tests.fakes.kubernetes.storage import Event, Key, Stored

Json = dict[str, Any]

_KUBELET = "kubelet"
_KILLED = 137  # 128 + SIGKILL


class Pods:
    """What can become of pods. A pod is named by its name, and by its namespace where that is not enough.

    A name may also be a prefix that fits one living pod alone: `pods.ready("ep-1")`. Raises LookupError otherwise.
    """

    def __init__(self, objects: Objects, logs: Logs) -> None:
        self._objects = objects
        self._logs = logs
        self._numbers = itertools.count(5)

    def find(self, name: str, namespace: str = "") -> Stored:
        """A pod by its name, or by what its name begins with."""
        held = self._objects.store.all(kinds.PODS, namespace)
        exact = [each for each in held if each.body["metadata"]["name"] == name]
        alive = [
            each for each in held if "deletionTimestamp" not in each.body["metadata"] and not is_finished(each.body)
        ]
        found = exact or [each for each in alive if each.body["metadata"]["name"].startswith(f"{name}-")]
        if len(found) != 1:
            names = ", ".join("/".join(key_of(each)) for each in held) or "none"
            raise LookupError(f"{len(found)} pods answer to {name!r}; there are: {names}")
        return found[0]

    def all(self, prefix: str = "", namespace: str = "") -> list[Stored]:
        """Pods that are neither finished nor on their way out, by the beginning of their name."""
        return [
            each
            for each in self._objects.store.all(kinds.PODS, namespace)
            if each.body["metadata"]["name"].startswith(prefix)
            and "deletionTimestamp" not in each.body["metadata"]
            and not is_finished(each.body)
        ]

    def fetching(self, name: str, namespace: str = "") -> Json:
        """Its first init container runs: the weights are on their way."""
        pod, now = self._scene(name, namespace)
        inits = pod_status.containers(pod, "initContainers")
        inits[0] = pod_status.with_state(inits[0], pod_status.running(now), started=True)
        return self._write(pod, inits, pod_status.containers(pod, "containers"), phase="Pending")

    def starting(self, name: str, namespace: str = "") -> Json:
        """The init containers are done, the containers run; the startup probe does not answer yet."""
        pod, now = self._scene(name, namespace)
        mains = [
            pod_status.with_state(each, pod_status.running(now), restarts=int("terminated" in each["state"]))
            for each in pod_status.containers(pod, "containers")
        ]
        return self._write(pod, self._initialized(pod, now), mains, phase="Running", ip=self._address(pod))

    def ready(self, name: str, ip: str = "", namespace: str = "") -> Json:
        """Every container runs and is ready. Without an address the pod gets one of its own."""
        pod, now = self._scene(name, namespace)
        mains = []
        for each in pod_status.containers(pod, "containers"):
            state = each["state"] if "running" in each["state"] else pod_status.running(now)
            again = int(
                "terminated" in each["state"] or ("terminated" in each["lastState"] and "waiting" in each["state"])
            )
            mains.append(pod_status.with_state(each, state, ready=True, restarts=again))
        return self._write(pod, self._initialized(pod, now), mains, phase="Running", ip=ip or self._address(pod))

    def not_ready(self, name: str, namespace: str = "") -> Json:
        """It runs, and its readiness probe fails."""
        pod, _ = self._scene(name, namespace)
        mains = [
            pod_status.with_state(each, each["state"], started=True)
            for each in pod_status.containers(pod, "containers")
        ]
        return self._write(pod, pod_status.containers(pod, "initContainers"), mains, phase="Running")

    def crash(
        self,
        name: str,
        exit_code: int = 1,
        reason: str = "Error",
        message: str = "",
        *,
        namespace: str = "",
        container: str = "",
    ) -> Json:
        """A container ended and has not been started again yet. `reason`: Error, OOMKilled (137), Completed (0)."""
        pod, now = self._scene(name, namespace)
        state = pod_status.terminated(now, exit_code, reason, message)
        mains = self._change(pod, "containers", container, state, started=False)
        return self._write(pod, self._initialized(pod, now), mains, phase="Running", ip=self._address(pod))

    def crash_loop(self, name: str, namespace: str = "", container: str = "") -> Json:
        """It ended again and again (after `crash`, for the same reason) and waits for its back-off."""
        pod, now = self._scene(name, namespace)
        mains = pod_status.containers(pod, "containers")
        at = _index(mains, container)
        if "terminated" not in mains[at]["state"]:
            ended = mains[at]["lastState"] or pod_status.terminated(now, 1, "Error")
            mains[at] = pod_status.with_state(mains[at], ended)
        state = pod_status.back_off(pod, mains[at]["name"])
        mains[at] = pod_status.with_state(mains[at], state, restarts=1)
        return self._write(pod, self._initialized(pod, now), mains, phase="Running", ip=self._address(pod))

    def image_pull_backoff(self, name: str, message: str = "", *, namespace: str = "", container: str = "") -> Json:
        """An image cannot be pulled: of the first init container, unless another container is named."""
        pod, _ = self._scene(name, namespace)
        inits, mains = pod_status.containers(pod, "initContainers"), pod_status.containers(pod, "containers")
        names = [each["name"] for each in mains]
        field = mains if container in names or not inits else inits
        at = _index(field, container)
        words = message or f'Back-off pulling image "{field[at]["image"]}": ErrImagePull: not found'
        field[at] = pod_status.with_state(field[at], pod_status.waiting("ImagePullBackOff", words))
        return self._write(pod, inits, mains, phase="Pending")

    def init_failed(
        self, name: str, exit_code: int = 1, message: str = "", *, namespace: str = "", backing_off: bool = True
    ) -> Json:
        """Its first init container ended with that code; the kubelet will try again (`backing_off`: after a while)."""
        pod, now = self._scene(name, namespace)
        inits = pod_status.containers(pod, "initContainers")
        inits[0] = pod_status.with_state(inits[0], pod_status.terminated(now, exit_code, "Error", message))
        if backing_off:
            inits[0] = pod_status.with_state(inits[0], pod_status.back_off(pod, inits[0]["name"]), restarts=1)
        return self._write(pod, inits, pod_status.containers(pod, "containers"), phase="Pending")

    def evict(self, name: str, message: str = "", namespace: str = "") -> Json:
        """The kubelet ended it because its node ran short. Such a pod stays, Failed, until somebody deletes it."""
        pod, now = self._scene(name, namespace)
        words = message or "The node was low on resource: memory. Threshold quantity: 100Mi, available: 64Mi. "
        ended = pod_status.terminated(now, _KILLED, "Error")
        mains = [pod_status.with_state(each, ended) for each in pod_status.containers(pod, "containers")]
        inits = pod_status.containers(pod, "initContainers")
        status = pod_status.whole(Scene(pod, now), inits, mains, phase="Failed")
        target = {
            "type": "DisruptionTarget",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": now,
            "reason": "TerminationByKubelet",
            "message": words,
        }
        status.update(reason="Evicted", message=words, conditions=[target, *status["conditions"]])
        return self._put(pod, status)

    def set_log(
        self,
        name: str,
        container: str,
        lines: Iterable[str | tuple[datetime, str]],
        previous: bool = False,
        namespace: str = "",
    ) -> None:
        """What a container printed; `previous`: the one before it."""
        found_in, found = key_of(self.find(name, namespace))
        self._logs.put(found_in, found, container, lines, previous=previous)

    def gone(self, name: str, namespace: str = "") -> None:
        """Its kubelet has ended it: a pod that was deleted vanishes."""
        found_in, found = key_of(self.find(name, namespace))
        deletion.delete(self._objects, kinds.PODS, found_in, found, DeleteOptions(grace_seconds=0))

    def _scene(self, name: str, namespace: str) -> tuple[Json, str]:
        found = self.find(name, namespace).body
        if not found["spec"].get("nodeName"):
            raise LookupError(f"{name} is on no node: {found['status'].get('conditions')}")
        return found, self._objects.timestamp()

    def _address(self, pod: Json) -> str:
        number = next(self._numbers)
        return pod["status"].get("podIP") or f"10.42.{number // 250 % 250}.{number % 250 + 1}"

    @staticmethod
    def _initialized(pod: Json, now: str) -> list[Json]:
        done = pod_status.terminated(now, 0, "Completed")
        return [
            each if each["ready"] else pod_status.with_state(each, done, ready=True, started=False)
            for each in pod_status.containers(pod, "initContainers")
        ]

    @staticmethod
    def _change(pod: Json, field: str, container: str, state: Json, *, started: bool) -> list[Json]:
        held = pod_status.containers(pod, field)
        at = _index(held, container)
        held[at] = pod_status.with_state(held[at], state, started=started)
        return held

    def _write(self, pod: Json, inits: list[Json], mains: list[Json], *, phase: str, ip: str = "") -> Json:
        scene = Scene(pod, self._objects.timestamp(), ip)
        return self._put(pod, pod_status.whole(scene, inits, mains, phase=phase))

    def _put(self, pod: Json, status: Json) -> Json:
        with self._objects.store.lock:
            meta = pod["metadata"]
            stored = self._objects.get(kinds.PODS, meta["namespace"], meta["name"])
            return self._objects.set_status(stored, status, _KUBELET).body


def _index(statuses: list[Json], container: str) -> int:
    return next((at for at, each in enumerate(statuses) if each["name"] == container), 0)


class Kubelets(Controller):
    """What kubelets do by themselves: end pods that were deleted; with `auto_ready`, start those they are given."""

    watches = (kinds.PODS,)

    def __init__(self, objects: Objects, pods: Pods) -> None:
        super().__init__(objects)
        self._pods = pods
        self.terminate = True  # otherwise deleted pods stay, Terminating, as on a node nobody reaches
        self.auto_ready = False
        self.lost: set[str] = set()  # nodes whose kubelet is silent

    def concerned(self, event: Event) -> Iterable[Key]:
        """Pods that have a node."""
        has_node = event.type != "DELETED" and event.after.body["spec"].get("nodeName")
        return [key_of(event.after)] if has_node else []

    def sync(self, key: Key) -> None:
        """One pod."""
        pod = self.store.get(kinds.PODS, *key)
        if pod is None or pod.body["spec"]["nodeName"] in self.lost:
            return
        if "deletionTimestamp" in pod.body["metadata"]:
            if self.terminate:
                deletion.delete(self.objects, kinds.PODS, *key, DeleteOptions(grace_seconds=0))
        elif self.auto_ready and pod.body["status"]["phase"] == "Pending":
            self._pods.ready(key[1], namespace=key[0])
