"""A pod's status → a replica, and words that its owner understands. Statuses are shaped as kubelets write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from workers.manifests.kubernetes import names
from workers.runtimes.base import ObservedReplica, ReplicaState
from workers.runtimes.kubernetes.pods import LEADER_INDEX, blocker_of, pod_of, replica_of

CREATED, STARTED, TURNED = "2026-11-26T10:00:00Z", "2026-11-26T10:01:00Z", "2026-11-26T10:02:00Z"
SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": CREATED}


def pod(*, conditions: Any = (SCHEDULED,), deleted: str = "", labels: Any = None, **status: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": "ep-1-abc-xyz",
        "namespace": "fh-tnt-1",
        "creationTimestamp": CREATED,
        "labels": {names.ENDPOINT: "ep_1", **(labels or {})},
        "annotations": {names.TEMPLATE: "t1"},
    }
    if deleted:
        metadata["deletionTimestamp"] = deleted
    return {"metadata": metadata, "status": {"phase": "Pending", "conditions": list(conditions), **status}}


def fetcher(**state: Any) -> dict[str, Any]:
    return {"initContainerStatuses": [{"name": names.FETCH_CONTAINER, "restartCount": 0, **state}]}


FETCHED = fetcher(state={"terminated": {"exitCode": 0}})


def engine(*, restarts: int = 0, ready: bool = False, started: bool = False, **state: Any) -> dict[str, Any]:
    container = {
        "name": names.ENGINE_CONTAINER, "restartCount": restarts, "ready": ready, "started": started, **state,
    }  # fmt: skip
    return {**FETCHED, "phase": "Running", "podIP": "10.0.0.5", "containerStatuses": [container]}


def ready(status: str) -> dict[str, str]:
    return {"type": "Ready", "status": status, "lastTransitionTime": TURNED}


def found(**status: Any) -> ObservedReplica:
    replica = replica_of(pod(**status), port=8000)
    assert replica is not None
    return replica


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


RUNNING = {"running": {"startedAt": STARTED}}


@pytest.mark.parametrize(
    ("status", "state", "since"),
    [
        ({"conditions": ()}, ReplicaState.PENDING, CREATED),
        ({}, ReplicaState.PENDING, CREATED),
        (fetcher(state={"waiting": {"reason": "PodInitializing"}}), ReplicaState.PENDING, CREATED),
        (fetcher(state=RUNNING), ReplicaState.FETCHING, STARTED),
        ({**FETCHED, "containerStatuses": []}, ReplicaState.PENDING, CREATED),
        (engine(state={"waiting": {"reason": "PodInitializing"}}), ReplicaState.PENDING, CREATED),
        (engine(state=RUNNING), ReplicaState.STARTING, STARTED),
        (
            {**engine(state=RUNNING, started=True, ready=True), "conditions": (ready("True"),)},
            ReplicaState.READY,
            TURNED,
        ),
        ({**engine(state=RUNNING, started=True), "conditions": (ready("False"),)}, ReplicaState.UNHEALTHY, TURNED),
        ({**engine(state=RUNNING), "deleted": TURNED}, ReplicaState.STOPPING, TURNED),
    ],
)
def test_each_stage_of_a_pod_is_a_state(status: dict[str, Any], state: ReplicaState, since: str) -> None:
    replica = found(**status)
    assert (replica.state, replica.since) == (state, moment(since))
    assert (replica.endpoint, replica.template_hash, replica.exit) == ("ep_1", "t1", None)
    assert replica.stop_wanted


def test_a_ready_replica_can_be_routed_to() -> None:
    replica = found(**engine(state=RUNNING, started=True, ready=True), conditions=(ready("True"),))
    assert (replica.host, replica.port, replica.ready_at) == ("10.0.0.5", 8000, moment(TURNED))


def test_a_restarted_engine_is_another_replica_so_that_counters_are_told_apart() -> None:
    first, second = found(**engine(state=RUNNING)), found(**engine(state=RUNNING, restarts=1))
    assert first.id != second.id
    assert pod_of(first.id) == pod_of(second.id) == "ep-1-abc-xyz"


def test_no_room_says_what_is_missing_in_the_schedulers_words() -> None:
    replica = found(
        conditions=(
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate, "
                "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
                "lastTransitionTime": CREATED,
            },
        )
    )
    assert replica.state is ReplicaState.PENDING
    assert replica.blocker is not None
    assert replica.blocker.reason == "InsufficientCapacity"
    assert "1 Insufficient nvidia.com/gpu" in replica.blocker.message
    assert "reemption" not in replica.blocker.message


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (3, "FetchUnauthorized"),
        (4, "WeightsNotFound"),
        (5, "WeightsNotVerified"),
        (6, "DiskFull"),
        (7, "HubUnreachable"),
    ],
)
def test_the_fetchers_exit_codes_have_their_own_reasons_and_its_words(code: int, reason: str) -> None:
    ended = {"exitCode": code, "reason": "Error", "finishedAt": TURNED, "message": "first\nmodel.safetensors: no\n"}
    looping = {"waiting": {"reason": "CrashLoopBackOff"}}
    for states in ({"state": {"terminated": ended}}, {"state": looping, "lastState": {"terminated": ended}}):
        replica = found(**fetcher(**states))
        assert replica.state is ReplicaState.BACKOFF
        assert replica.exit is not None
        assert (replica.exit.reason, replica.exit.message, replica.exit.code) == (reason, "model.safetensors: no", code)


def test_a_fetch_that_failed_before_goes_on_being_told_while_it_is_tried_again() -> None:
    ended = {"terminated": {"exitCode": 7, "finishedAt": STARTED}}
    replica = found(**fetcher(state={"running": {"startedAt": TURNED}}, lastState=ended))
    assert replica.state is ReplicaState.FETCHING
    assert replica.exit is not None
    assert replica.exit.reason == "HubUnreachable"
    assert "cannot be reached" in replica.exit.message


def test_an_engine_that_crashes_again_and_again_tells_its_error_and_its_last_lines() -> None:
    log = "INFO starting\nTraceback (most recent call last):\nValueError: max_model_len is too large\n"
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": TURNED, "message": log}}
    replica = found(**engine(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ended, restarts=3))
    assert (replica.state, replica.failures) == (ReplicaState.BACKOFF, 3)
    assert replica.exit is not None
    assert replica.exit.reason == "CrashLoopBackOff"
    assert replica.exit.message == "ValueError: max_model_len is too large"
    assert replica.exit.log_tail[0] == "INFO starting"
    again = found(**engine(state=RUNNING, lastState=ended, restarts=4))
    assert (again.state, again.exit and again.exit.reason) == (ReplicaState.STARTING, "CrashLoopBackOff")
    well = found(**engine(state=RUNNING, lastState=ended, restarts=4, ready=True), conditions=(ready("True"),))
    assert (well.state, well.exit) == (ReplicaState.READY, None)


def test_an_engine_killed_for_memory_says_what_to_do() -> None:
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": TURNED}}
    replica = found(**engine(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ended, restarts=1))
    assert replica.exit is not None
    assert replica.exit.reason == "OOMKilled"
    assert "max_model_len" in replica.exit.message


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "ErrImagePull"])
def test_an_image_that_cannot_be_had_is_named(reason: str) -> None:
    waiting = {"waiting": {"reason": reason, "message": 'Back-off pulling image "registry.example/vllm@sha256:1"'}}
    for status in (fetcher(state=waiting), engine(state=waiting)):
        replica = found(**status)
        assert replica.state is ReplicaState.PENDING
        assert replica.exit is not None
        assert replica.exit.reason == "ImagePullBackOff"
        assert "registry.example/vllm" in replica.exit.message


def test_a_lost_node_is_told_before_and_while_its_pod_is_removed() -> None:
    silent = found(**engine(state=RUNNING, ready=True, started=True), conditions=(ready("False"),))
    assert (silent.state, silent.exit and silent.exit.reason) == (ReplicaState.UNHEALTHY, "NodeLost")
    disrupted = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "Taint"}
    going = found(**engine(state=RUNNING), conditions=(disrupted,), deleted=TURNED)
    assert (going.state, going.exit and going.exit.reason) == (ReplicaState.STOPPING, "NodeLost")
    assert not going.stop_wanted


def test_a_drain_that_the_operator_asked_for_is_no_failure() -> None:
    drained = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    assert found(**engine(state=RUNNING), conditions=(drained,), deleted=TURNED).exit is None


def test_an_evicted_pod_has_ended() -> None:
    replica = found(phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage.")
    assert replica.state is ReplicaState.EXITED
    assert replica.exit is not None
    assert replica.exit.reason == "Evicted"
    assert "ephemeral-storage" in replica.exit.message


def test_followers_of_a_group_and_strangers_are_no_replicas() -> None:
    assert replica_of(pod(labels={LEADER_INDEX: "1"}), port=8000) is None
    assert replica_of(pod(labels={LEADER_INDEX: "0"}), port=8000) is not None
    assert replica_of(pod(labels={names.ENDPOINT: None}), port=8000) is None


def failure(message: str) -> dict[str, Any]:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    return {"status": {"conditions": [condition]}}


def test_pods_that_are_not_even_made_say_why() -> None:
    quota = blocker_of(failure('pods "ep-1-x" is forbidden: exceeded quota: gpu, requested: requests.nvidia.com/gpu=8'))
    assert quota is not None
    assert quota.reason == "QuotaExceeded"
    assert "requests.nvidia.com/gpu=8" in quota.message
    security = blocker_of(failure('pods "ep-1-x" is forbidden: violates PodSecurity "restricted:latest": privileged'))
    assert security is not None
    assert security.reason == "PodSecurityRefused"
    assert blocker_of({"status": {"conditions": []}}) is None
