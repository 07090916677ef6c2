"""The status a kubelet writes, in each state of a pod's life. Pure: pod and previous status in, status out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

_NOT_INITIALIZED = "containers with incomplete status: [{}]"
_NOT_READY = "containers with unready status: [{}]"
RESTART_SECONDS = 40  # the back-off that is told


@dataclass(frozen=True, slots=True)
class Scene:
    """What a status is written from."""

    pod: Json
    now: str
    ip: str = ""
    host_ip: str = "10.1.0.1"


def running(at: str) -> Json:
    """A container's state."""
    return {"running": {"startedAt": at}}


def waiting(reason: str, message: str = "") -> Json:
    """A container's state."""
    return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}


def terminated(at: str, code: int, reason: str, message: str = "", *, started: str = "") -> Json:
    """A container's state. `message`: what it wrote to its termination log, or its last lines."""
    ended: Json = {"exitCode": code, "reason": reason}
    if message:
        ended["message"] = message
    return {"terminated": {**ended, "startedAt": started or at, "finishedAt": at, "containerID": "containerd://0"}}


def back_off(pod: Json, container: str) -> Json:
    """What a container that keeps failing waits for, in the kubelet's words."""
    meta = pod["metadata"]
    where = f"pod={meta['name']}_{meta['namespace']}({meta['uid']})"
    return waiting("CrashLoopBackOff", f"back-off {RESTART_SECONDS}s restarting failed container={container} {where}")


def containers(pod: Json, field: str) -> list[Json]:
    """The statuses so far of `containers` or `initContainers`, or those of containers that never started."""
    name = "containerStatuses" if field == "containers" else "initContainerStatuses"
    held = {each["name"]: each for each in pod["status"].get(name, ())}
    return [held.get(each["name"]) or _created(each) for each in pod["spec"].get(field, ())]


def _created(container: Json) -> Json:
    return {
        "name": container["name"],
        "state": waiting("PodInitializing"),
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "image": container["image"],
        "imageID": "",
        "started": False,
    }


def with_state(
    status: Json, state: Json, *, ready: bool = False, started: bool | None = None, restarts: int = 0
) -> Json:
    """A container's status after it changed: what it was becomes its last state if it was an end."""
    before = status["state"]
    last = before if "terminated" in before and "terminated" not in state else status["lastState"]
    return {
        **status,
        "state": state,
        "lastState": last,
        "ready": ready,
        "started": ready if started is None else started,
        "restartCount": status["restartCount"] + restarts,
        "imageID": status["imageID"] or (status["image"] if "running" in state or "terminated" in state else ""),
    }


def whole(scene: Scene, inits: list[Json], mains: list[Json], *, phase: str) -> Json:
    """A pod's whole status: phase, conditions, addresses, containers."""
    before = scene.pod["status"]
    generation = scene.pod["metadata"].get("generation", 1)
    incomplete = [each["name"] for each in inits if not each["ready"]]
    unready = [each["name"] for each in mains if not each["ready"]]
    lacking = ("ContainersNotReady", _NOT_READY.format(" ".join(unready))) if unready else ("", "")
    lacking_init = (
        ("ContainersNotInitialized", _NOT_INITIALIZED.format(" ".join(incomplete))) if incomplete else ("", "")
    )
    conditions = [
        ("PodReadyToStartContainers", True, ("", "")),
        ("Initialized", not incomplete, lacking_init),
        ("Ready", not unready and not incomplete, lacking),
        ("ContainersReady", not unready and not incomplete, lacking),
        ("PodScheduled", True, ("", "")),
    ]
    status: Json = {
        **{name: value for name, value in before.items() if name in {"qosClass", "nominatedNodeName"}},
        "observedGeneration": generation,
        "phase": phase,
        "conditions": [_condition(before, generation, scene.now, *each) for each in conditions],
        "hostIP": scene.host_ip,
        "hostIPs": [{"ip": scene.host_ip}],
        "startTime": before.get("startTime", scene.now),
        "containerStatuses": mains,
    }
    ip = scene.ip or before.get("podIP", "")
    if ip:
        status.update(podIP=ip, podIPs=[{"ip": ip}])
    if inits:
        status["initContainerStatuses"] = inits
    return status


def _condition(before: Json, generation: int, now: str, kind: str, state: bool, why: tuple[str, str]) -> Json:
    wanted = "True" if state else "False"
    held = next((each for each in before.get("conditions", ()) if each["type"] == kind), None)
    at = held["lastTransitionTime"] if held and held["status"] == wanted else now
    condition: Json = {
        "type": kind,
        "observedGeneration": generation,
        "status": wanted,
        "lastProbeTime": None,
        "lastTransitionTime": at,
    }
    if why[0]:
        condition.update(reason=why[0], message=why[1])
    return condition
