"""plan(desired, observed, now), as a table."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.factories.workloads import NOW, crashed, replica, workload
from workers.reconcile.plan import BACKOFF_MOST, plan
from workers.runtimes.base import Exit, ObservedReplica, ReplicaState, Verb

READY, STARTING, STOPPING = ReplicaState.READY, ReplicaState.STARTING, ReplicaState.STOPPING


def verbs(desired_replicas: int, observed: list[ObservedReplica]) -> dict[str, list[str]]:
    made = plan(workload(replicas=desired_replicas), observed, NOW)
    result: dict[str, list[str]] = {}
    for action in made.actions:
        result.setdefault(action.verb.value, []).append(action.replica)
    return result


def test_nothing_there_means_every_replica_is_created() -> None:
    made = plan(workload(replicas=3), [], NOW)
    assert [action.verb for action in made.actions] == [Verb.CREATE] * 3
    assert all(action.spec is not None and action.failures == 0 for action in made.actions)


def test_what_is_as_asked_for_is_kept_and_changes_nothing() -> None:
    made = plan(workload(replicas=2), [replica("a", READY), replica("b", STARTING)], NOW)
    assert made.steps == ()
    assert [action.verb for action in made.actions] == [Verb.KEEP, Verb.KEEP]


def test_a_plan_carried_out_needs_no_further_plan() -> None:
    observed = [replica("a", READY), replica("b", READY)]
    assert plan(workload(replicas=2), observed, NOW).steps == ()
    assert plan(workload(replicas=0), [], NOW).steps == ()


def test_scaling_down_ends_the_least_useful_first() -> None:
    observed = [replica("starting", STARTING), replica("old", READY, age=100), replica("new", READY, age=10)]
    assert verbs(1, observed) == {"delete": ["new", "starting"], "keep": ["old"]}


def test_scaling_to_zero_ends_everything() -> None:
    assert verbs(0, [replica("a", READY), replica("b", STARTING)]) == {"delete": ["a", "b"]}


def test_a_replica_that_is_stopping_counts_neither_way() -> None:
    assert verbs(1, [replica("a", STOPPING)]) == {"create": [""]}
    assert verbs(0, [replica("a", STOPPING)]) == {}


def test_an_outdated_replica_serves_until_its_successor_is_ready() -> None:
    old_spec = workload(arguments={"max_model_len": 128})
    old = replica("old", READY, spec=old_spec)
    assert verbs(1, [old]) == {"keep": ["old"], "create": [""]}
    assert verbs(1, [old, replica("new", STARTING)]) == {"keep": ["old", "new"]}
    assert verbs(1, [old, replica("new", READY)]) == {"delete": ["old"], "keep": ["new"]}


@pytest.mark.parametrize(
    ("failures", "age", "created"),
    [
        (0, 4.0, False),
        (0, 5.0, True),
        (1, 9.0, False),
        (1, 10.0, True),
        (2, 19.0, False),
        (2, 20.0, True),
        (50, BACKOFF_MOST.total_seconds() - 1, False),
        (50, BACKOFF_MOST.total_seconds(), True),
    ],
)
def test_a_crash_is_restarted_after_a_backoff_that_doubles(failures: int, age: float, created: bool) -> None:
    made = plan(workload(), [crashed("a", age=age, failures=failures)], NOW)
    assert [action.failures for action in made.actions if action.verb is Verb.CREATE] == (
        [failures + 1] if created else []
    )
    assert (made.next_at is None) is created


def test_a_replica_that_ran_well_before_it_crashed_is_forgiven() -> None:
    ready_at = NOW - timedelta(hours=2)
    made = plan(workload(), [crashed("a", age=6, failures=9, ready_at=ready_at)], NOW)
    assert [action.failures for action in made.actions if action.verb is Verb.CREATE] == [1]


def test_an_exit_that_was_asked_for_needs_no_backoff_and_is_forgotten() -> None:
    wanted = Exit(at=NOW, reason="Stopped", message="", wanted=True)
    assert verbs(1, [replica("a", ReplicaState.EXITED, age=0, exit=wanted)]) == {"create": [""], "forget": ["a"]}


def test_the_newest_crash_is_remembered_while_it_explains_something() -> None:
    observed = [crashed("first", age=50), crashed("second", age=30, failures=1), replica("third", STARTING, age=5)]
    assert verbs(1, observed) == {"keep": ["third"], "forget": ["first"]}
    observed[2] = replica("third", READY, age=1)
    assert verbs(1, observed) == {"keep": ["third"], "forget": ["first", "second"]}


def test_a_replica_that_never_becomes_ready_is_ended_and_not_restarted_at_once() -> None:
    made = plan(workload(), [replica("a", STARTING, age=3600)], NOW)
    assert [(action.verb, action.cause) for action in made.steps] == [(Verb.DELETE, "ReadinessDeadlineExceeded")]
    assert made.next_at is not None
    assert made.next_at > NOW


def test_nothing_starts_beside_a_replica_that_failed_and_is_still_ending() -> None:
    ending = replica("a", STOPPING, age=5, failures=3, stop_wanted=False)
    made = plan(workload(), [ending], NOW)
    assert [action.verb for action in made.actions] == [Verb.WAIT]
    assert "4 exits in a row" in made.actions[0].reason


def test_a_replica_that_stopped_answering_is_replaced_after_a_minute() -> None:
    unhealthy = ReplicaState.UNHEALTHY
    assert verbs(1, [replica("a", unhealthy, age=30)]) == {"keep": ["a"]}
    assert verbs(1, [replica("a", unhealthy, age=61)])["delete"] == ["a"]


def test_every_action_says_why() -> None:
    observed = [replica("a", READY), replica("b", READY), crashed("c", age=1)]
    assert all(action.reason for action in plan(workload(replicas=1), observed, NOW).actions)
