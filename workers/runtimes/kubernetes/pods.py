"""A pod as a replica: where it is, what it waits for, how it ended, in words for the endpoint's owner. Pure.

What the fields mean: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and PodStatus in the API
reference; the reasons of waiting containers are the kubelet's. An engine's last log lines come in its termination
message (terminationMessagePolicy FallbackToLogsOnError), so that nothing more has to be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from workers.manifests.kubernetes import names
from workers.runtimes.base import Blocker, Exit, ObservedReplica, ReplicaState
from workers.runtimes.engine_errors import error_line

LEADER_INDEX = "leaderworkerset.sigs.k8s.io/worker-index"

# The fetcher's exit codes (runtimes/fetcher.py) in one word and, where it said nothing itself, in a sentence.
FETCH_FAILURES: Final = {
    2: ("FetchMisconfigured", "The fetcher was started with settings it cannot use."),
    3: ("FetchUnauthorized", "The hub refused the fetch token. The next attempt gets a new one."),
    4: ("WeightsNotFound", "The hub does not have the revision's files any more."),
    5: ("WeightsNotVerified", "The weights that came are not those of the pinned revision. They are not served."),
    6: ("DiskFull", "The weights do not fit on the node's disk or the cache's volume."),
    7: ("HubUnreachable", "The hub cannot be reached from the cluster."),
}
_IMAGE: Final = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_STARTING: Final = frozenset({"", "PodInitializing", "ContainerCreating"})
_ENDED: Final = {
    "OOMKilled": "The engine needed more memory than the replica has. Lower max_model_len or max_num_seqs, or take a "
    "larger flavor.",
    "Evicted": "The node ran short of something and ended the replica. It is started elsewhere.",
    "NodeLost": "The node of the replica does not answer any more. It is started elsewhere.",
    "Preempted": "A more important workload took the replica's place. It is started again where there is room.",
}
_DISRUPTIONS: Final = {
    "DeletionByTaintManager": "NodeLost",
    "DeletionByPodGC": "NodeLost",
    "PreemptionByScheduler": "Preempted",
    "TerminationByKubelet": "Evicted",
    "EvictionByEvictionAPI": "",  # a drain that the operator asked for
}
_TERMINATION_LINES: Final = 20

Json = Mapping[str, Any]


def replica_of(pod: Json, *, port: int) -> ObservedReplica | None:
    """What a pod is to its endpoint; None for one that is no replica: not ours, or the follower of a group's leader."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    endpoint = labels.get(names.ENDPOINT)
    if endpoint is None or labels.get(LEADER_INDEX, "0") != "0":
        return None
    created_at = _time(metadata["creationTimestamp"])
    engine = _container(status.get("containerStatuses"), names.ENGINE_CONTAINER)
    restarts = int(engine.get("restartCount") or 0)
    name = metadata["name"]
    found = _Found(ReplicaState.PENDING, created_at)
    if metadata.get("deletionTimestamp"):
        found = _stopping(status, _time(metadata["deletionTimestamp"]))
    elif status.get("phase") in {"Failed", "Succeeded"}:
        found = _ended(status, created_at)
    elif _condition(status, "PodScheduled").get("status") == "False":
        found = _unscheduled(_condition(status, "PodScheduled"), created_at)
    else:
        found = _fetching(status, created_at) or _engine(status, engine, created_at)
    return ObservedReplica(
        id=f"{name}.{restarts}" if restarts else name,
        endpoint=endpoint,
        template_hash=(metadata.get("annotations") or {}).get(names.TEMPLATE, ""),
        state=found.state,
        created_at=created_at,
        since=found.since,
        failures=restarts,
        host=str(status.get("podIP") or ""),
        port=port,
        ready_at=found.since if found.state is ReplicaState.READY else None,
        exit=found.exit,
        blocker=found.blocker,
        detail=found.detail,
        stop_wanted=found.exit is None,
    )


def pod_of(replica: str) -> str:
    """The pod of a replica's id."""
    return replica.partition(".")[0]


def blocker_of(workload: Json) -> Blocker | None:
    """Why a Deployment's pods are not even made: quota, Pod Security, an admission webhook."""
    failure = _condition(workload.get("status") or {}, "ReplicaFailure")
    if failure.get("status") != "True":
        return None
    said = str(failure.get("message") or "")
    said = re.sub(r'^pods "[^"]*" is forbidden: ', "", said)
    if said.startswith("exceeded quota"):
        return Blocker("QuotaExceeded", f"The tenant's quota in the cluster is used up: {said}.")
    if "PodSecurity" in said:
        return Blocker("PodSecurityRefused", f"The cluster refuses the engine's pods: {said}. Ask the operator.")
    return Blocker(str(failure.get("reason") or "FailedCreate"), f"The cluster does not make the pods: {said}")


class _Found:
    """State of a pod, as far as it is known."""

    def __init__(
        self,
        state: ReplicaState,
        since: datetime,
        *,
        exit: Exit | None = None,  # noqa: A002 - as in ObservedReplica
        blocker: Blocker | None = None,
        detail: str = "",
    ) -> None:
        self.state, self.since, self.exit, self.blocker, self.detail = state, since, exit, blocker, detail


def _stopping(status: Json, at: datetime) -> _Found:
    """Being deleted: because somebody wanted that, unless the pod says that it was disrupted."""
    disruption = _condition(status, "DisruptionTarget")
    reason = status.get("reason") if status.get("reason") == "NodeLost" else None
    if disruption.get("status") == "True":
        reason = _DISRUPTIONS.get(str(disruption.get("reason")), "Evicted")
    if not reason:
        return _Found(ReplicaState.STOPPING, at)
    message = str(disruption.get("message") or status.get("message") or "")
    return _Found(ReplicaState.STOPPING, at, exit=_exit(str(reason), message, at))


def _ended(status: Json, created_at: datetime) -> _Found:
    """A pod that is over and stays to be looked at: evicted, preempted, refused by its node."""
    disruption = _condition(status, "DisruptionTarget")
    at = _time(disruption.get("lastTransitionTime") or status.get("startTime"), created_at)
    if status.get("phase") == "Succeeded":
        return _Found(ReplicaState.EXITED, at, exit=Exit(at=at, reason="Stopped", message="", wanted=True))
    reason = str(status.get("reason") or _DISRUPTIONS.get(str(disruption.get("reason")), "") or "PodFailed")
    return _Found(ReplicaState.EXITED, at, exit=_exit(reason, str(status.get("message") or ""), at))


def _unscheduled(condition: Json, created_at: datetime) -> _Found:
    said = str(condition.get("message") or "").partition(" preemption:")[0].strip()
    said = said.replace(" no new claims to deallocate,", "").rstrip(".,")
    message = f"No node of the cluster has room for a replica: {said}. It starts as soon as there is."
    blocker = Blocker("InsufficientCapacity", message)
    return _Found(ReplicaState.PENDING, _time(condition.get("lastTransitionTime"), created_at), blocker=blocker)


def _fetching(status: Json, created_at: datetime) -> _Found | None:
    """While weights are not there; None once they are."""
    fetcher = _container(status.get("initContainerStatuses"), names.FETCH_CONTAINER)
    if not fetcher:
        scheduled = _condition(status, "PodScheduled")
        since = _time(scheduled.get("lastTransitionTime"), created_at)
        detail = "The node is preparing the replica." if scheduled else ""
        return _Found(ReplicaState.PENDING, since, detail=detail)
    state = fetcher.get("state") or {}
    terminated = state.get("terminated")
    if terminated is not None and terminated.get("exitCode") == 0:
        return None
    last = terminated or (fetcher.get("lastState") or {}).get("terminated")
    end = _fetch_exit(last, created_at) if last and last.get("exitCode") else None
    if "running" in state:
        since = _time(state["running"].get("startedAt"), created_at)
        return _Found(ReplicaState.FETCHING, since, exit=end, detail="The weights are being fetched.")
    if end is not None:
        return _Found(ReplicaState.BACKOFF, end.at, exit=end)
    return _waiting(state.get("waiting") or {}, created_at)


def _engine(status: Json, engine: Json, created_at: datetime) -> _Found:
    state = engine.get("state") or {}
    last = state.get("terminated") or (engine.get("lastState") or {}).get("terminated")
    # From the second restart on it is a loop, also while it runs: a reason that changed to and fro would be news twice
    # a round.
    looping = (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff" or engine.get("restartCount", 0) > 1
    end = _engine_exit(last, created_at, looping=looping) if last else None
    running = state.get("running")
    if running is None:
        if end is not None:
            return _Found(ReplicaState.BACKOFF, end.at, exit=end)
        return _waiting(state.get("waiting") or {}, created_at)
    since = _time(running.get("startedAt"), created_at)
    ready = _condition(status, "Ready")
    turned = _time(ready.get("lastTransitionTime"), since)
    if ready.get("status") == "True":
        return _Found(ReplicaState.READY, max(since, turned))
    if engine.get("ready"):
        # The kubelet's last word was that it is ready, and the control plane says that it is not: the node is lost.
        return _Found(ReplicaState.UNHEALTHY, turned, exit=_exit("NodeLost", str(ready.get("message") or ""), turned))
    if engine.get("started"):
        return _Found(ReplicaState.UNHEALTHY, max(since, turned), exit=end, detail="The engine does not answer.")
    return _Found(ReplicaState.STARTING, since, exit=end)


def _waiting(waiting: Json, created_at: datetime) -> _Found:
    """A container that has not started yet. The kubelet tells why it cannot, not since when."""
    reason, said = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason in _STARTING:
        return _Found(ReplicaState.PENDING, created_at, detail="The node is preparing the replica.")
    if reason in _IMAGE:
        said = f"The node cannot get an image that the replica needs: {said or reason}"
        reason = "ImagePullBackOff" if reason == "ErrImagePull" else reason
    return _Found(ReplicaState.PENDING, created_at, exit=_exit(reason, said, created_at))


def _fetch_exit(terminated: Json, created_at: datetime) -> Exit:
    code = int(terminated["exitCode"])
    reason, words = FETCH_FAILURES.get(code, ("FetchFailed", f"Fetching the weights ended with code {code}."))
    if terminated.get("reason") == "OOMKilled":
        reason, words = "OOMKilled", "Fetching the weights needed more memory than the fetcher has. Ask the operator."
    lines = [line for line in str(terminated.get("message") or "").splitlines() if line.strip()]
    at = _time(terminated.get("finishedAt"), created_at)
    return Exit(at=at, reason=reason, message=lines[-1] if lines and code in FETCH_FAILURES else words, code=code)


def _engine_exit(terminated: Json, created_at: datetime, *, looping: bool) -> Exit:
    code = int(terminated.get("exitCode") or 0)
    lines = tuple(str(terminated.get("message") or "").replace("\0", "\N{REPLACEMENT CHARACTER}").splitlines())
    at = _time(terminated.get("finishedAt"), created_at)
    if terminated.get("reason") == "OOMKilled":
        return Exit(at=at, reason="OOMKilled", message=_ENDED["OOMKilled"], code=code, log_tail=lines)
    said = error_line(lines) or f"The engine ended with code {code}."
    reason = "CrashLoopBackOff" if looping else "EngineExited"
    return Exit(at=at, reason=reason, message=said, code=code, log_tail=lines[-_TERMINATION_LINES:])


def _exit(reason: str, said: str, at: datetime) -> Exit:
    words = _ENDED.get(reason, "")
    return Exit(at=at, reason=reason, message=f"{words} ({said})" if words and said else words or said or reason)


def _container(statuses: Any, name: str) -> Json:
    found: Json = next((status for status in statuses or () if status.get("name") == name), {})
    return found


def _condition(status: Json, kind: str) -> Json:
    found: Json = next((c for c in status.get("conditions") or () if c.get("type") == kind), {})
    return found


def _time(text: Any, default: datetime | None = None) -> datetime:
    """RFC 3339, as the API server writes it. Raises ValueError for what is none and has no default."""
    if not text and default is not None:
        return default
    return datetime.fromisoformat(str(text))
