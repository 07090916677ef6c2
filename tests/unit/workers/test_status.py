"""derive(desired, observed, plan), as a table."""

from __future__ import annotations

import pytest

from freehold.common.conditions import Condition
from freehold.serving.choices import ConditionType, Phase
from freehold.serving.conditions import EndpointStatus
from tests.factories.workloads import NOW, crashed, replica, workload
from workers.reconcile.plan import plan
from workers.reconcile.status import PACE, derive, unknown
from workers.runtimes.base import Exit, ObservedReplica, ReplicaState

READY, STARTING, FETCHING = ReplicaState.READY, ReplicaState.STARTING, ReplicaState.FETCHING


def status(replicas: int, observed: list[ObservedReplica], *, deleting: bool = False) -> EndpointStatus:
    desired = workload(replicas=replicas)
    return derive(desired, observed, plan(desired, observed, NOW), deleting=deleting, now=NOW)


def condition(found: EndpointStatus, kind: ConditionType) -> Condition:
    return next(condition for condition in found.conditions if condition.type is kind)


@pytest.mark.parametrize(
    ("replicas", "observed", "phase"),
    [
        (1, [], Phase.STARTING),
        (1, [replica("a", FETCHING)], Phase.STARTING),
        (1, [replica("a", READY)], Phase.READY),
        (2, [replica("a", READY), replica("b", STARTING)], Phase.DEGRADED),
        (1, [crashed("a", age=1)], Phase.FAILED),
        (1, [crashed("a", age=30), replica("b", STARTING, age=5)], Phase.FAILED),
        (1, [crashed("a", age=30), replica("b", READY, age=5)], Phase.READY),
        (0, [], Phase.STOPPED),
    ],
)
def test_the_phase_says_where_an_endpoint_is(replicas: int, observed: list[ObservedReplica], phase: Phase) -> None:
    assert status(replicas, observed).phase is phase


def test_a_deletion_is_over_when_every_replica_is_gone() -> None:
    assert status(0, [replica("a", READY)], deleting=True).phase is Phase.DELETING
    assert status(0, [replica("a", ReplicaState.STOPPING)], deleting=True).phase is Phase.DELETING
    assert status(0, [], deleting=True).phase is Phase.DELETED


def test_a_failure_carries_the_engines_own_error_and_the_last_lines() -> None:
    end = Exit(
        at=NOW,
        reason="EngineExited",
        message="ValueError: To serve at least one request 5.0 GiB KV cache is needed",
        log_tail=("loading", "", "ValueError: To serve at least one request 5.0 GiB KV cache is needed", "bye"),
    )
    failing = condition(status(1, [replica("a", ReplicaState.EXITED, age=1, exit=end)]), ConditionType.FAILING)
    assert failing.status == "True"
    assert failing.reason == "EngineExited"
    assert failing.message.startswith("ValueError: To serve at least one request 5.0 GiB KV cache is needed\n")
    assert failing.message.endswith("loading\nbye")
    assert failing.message.count("ValueError") == 1


def test_a_backoff_is_told_and_waited_for() -> None:
    found = status(1, [crashed("a", age=1, failures=2)])
    assert condition(found, ConditionType.PROGRESSING).reason == "BackingOff"
    assert PACE.moving <= found.requeue_seconds <= 19.0


def test_progress_says_what_is_happening() -> None:
    fetching = condition(status(1, [replica("a", FETCHING, detail="3 of 7 files")]), ConditionType.PROGRESSING)
    assert (fetching.reason, fetching.message) == ("FetchingWeights", "3 of 7 files")
    assert condition(status(1, [replica("a", STARTING)]), ConditionType.PROGRESSING).reason == "LoadingModel"
    assert condition(status(1, [replica("a", READY)]), ConditionType.PROGRESSING).status == "False"


def test_a_replica_that_is_about_to_end_gets_no_more_requests() -> None:
    found = status(1, [replica("a", READY, age=50), replica("b", READY, age=5)])
    assert {entry.id: entry.state for entry in found.replicas or ()} == {"a": "ready", "b": "stopping"}
    assert found.ready_replicas == 1


def test_a_settled_endpoint_is_looked_at_rarely() -> None:
    assert status(1, [replica("a", READY)]).requeue_seconds == PACE.steady
    assert status(1, [replica("a", STARTING)]).requeue_seconds == PACE.moving


def test_an_unreachable_cluster_changes_nothing_but_what_is_known() -> None:
    assert unknown(Phase.READY, "no answer").phase is Phase.UNKNOWN
    assert unknown(Phase.DELETING, "no answer").phase is Phase.DELETING
    assert unknown(Phase.READY, "no answer").conditions[0].status == "Unknown"
