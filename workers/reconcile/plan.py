"""plan(desired, observed, now) → what to do and why, for runtimes that start replicas themselves. Pure: no Django, no
I/O, no clock of its own. (For those that keep objects: plan_objects.py.)

The rules, in order: replicas that exited are remembered until a newer one explains itself; replicas of an older
template stay until enough of the new one are ready; too many are reduced, the least useful first; too few are
started, after a backoff that doubles with every unwanted exit in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from workers.manifests.spec import WorkloadSpec
from workers.runtimes.base import LIVE, Action, ObservedReplica, ReplicaState, Verb

BACKOFF_FIRST = timedelta(seconds=5)
BACKOFF_MOST = timedelta(seconds=300)
FAILURES_FORGIVEN_AFTER = timedelta(minutes=10)
READY_DEADLINE = timedelta(minutes=10)
UNHEALTHY_DEADLINE = timedelta(seconds=60)

_USEFUL = {ReplicaState.READY: 0, ReplicaState.STARTING: 1, ReplicaState.FETCHING: 2}
_USELESS = len(_USEFUL)


@dataclass(frozen=True)
class Plan:
    """Steps in the order in which to take them; `next_at` is when a WAIT ends."""

    actions: tuple[Action, ...]
    next_at: datetime | None = None

    @property
    def steps(self) -> tuple[Action, ...]:
        """The actions that change something."""
        return tuple(action for action in self.actions if action.verb not in {Verb.KEEP, Verb.WAIT})


def plan(desired: WorkloadSpec, observed: Sequence[ObservedReplica], now: datetime) -> Plan:
    """`desired.replicas` is 0 for an endpoint that is stopped or being deleted."""
    actions: list[Action] = []
    live, overdue = _overdue([replica for replica in observed if replica.state in LIVE], now)
    actions += [_delete(replica, reason, cause) for replica, reason, cause in overdue]
    exited = sorted(
        (replica for replica in observed if replica.state is ReplicaState.EXITED), key=lambda replica: replica.since
    )
    fitting = [replica for replica in live if replica.template_hash == desired.template_hash]
    outdated = [replica for replica in live if replica.template_hash != desired.template_hash]

    fitting.sort(key=lambda replica: (_USEFUL.get(replica.state, _USELESS), replica.created_at, replica.id))
    kept, surplus = fitting[: desired.replicas], fitting[desired.replicas :]
    actions += [_delete(replica, "more replicas than asked for", "ScaledDown") for replica in surplus]
    ready = sum(1 for replica in kept if replica.state is ReplicaState.READY)
    for replica in outdated:
        if ready >= desired.replicas:
            actions.append(_delete(replica, "its successor is ready", "Replaced"))
        else:
            actions.append(_keep(replica, "serves until its successor is ready"))
    actions += [_keep(replica, f"is {replica.state}") for replica in kept]

    missing = desired.replicas - len(kept)
    next_at: datetime | None = None
    if missing > 0:
        failed = [replica for replica, _, _ in overdue]
        failed += [r for r in observed if r.state is ReplicaState.STOPPING and not r.stop_wanted]
        failures, due = _backoff(exited, failed, now)
        if due > now:
            next_at = due
            actions.append(
                Action(verb=Verb.WAIT, reason=f"{failures} exits in a row, next start at {due:%H:%M:%S} UTC")
            )
        else:
            reason = f"{missing} of {desired.replicas} replicas missing"
            actions += [
                Action(verb=Verb.CREATE, reason=reason, spec=desired, failures=failures, needs_token=True)
                for _ in range(missing)
            ]
    actions += _forget(exited, nothing_wanted=desired.replicas == 0, all_ready=ready == desired.replicas)
    return Plan(tuple(actions), next_at)


def _overdue(
    live: list[ObservedReplica], now: datetime
) -> tuple[list[ObservedReplica], list[tuple[ObservedReplica, str, str]]]:
    """Replicas that take too long to become ready, or to become healthy again, with reason and cause: they are ended
    and count as failed."""
    within, overdue = [], []
    for replica in live:
        if replica.state is ReplicaState.STARTING and now - replica.since > READY_DEADLINE:
            overdue.append((replica, f"not ready after {READY_DEADLINE}", "ReadinessDeadlineExceeded"))
        elif replica.state is ReplicaState.UNHEALTHY and now - replica.since > UNHEALTHY_DEADLINE:
            overdue.append((replica, f"has not answered for {UNHEALTHY_DEADLINE}", "Unresponsive"))
        else:
            within.append(replica)
    return within, overdue


def _backoff(
    exited: Sequence[ObservedReplica], failed: Sequence[ObservedReplica], now: datetime
) -> tuple[int, datetime]:
    """(failures in a row so far, when the next start is due). `failed` have not ended yet: nothing starts beside
    them."""
    unwanted = [replica for replica in exited if replica.exit is not None and not replica.exit.wanted]
    if failed:
        failures = max(replica.failures for replica in failed) + 1
        return failures, now + _delay(failures)
    if not unwanted:
        return 0, now
    last = max(unwanted, key=lambda replica: replica.since)
    ran_well = last.ready_at is not None and last.since - last.ready_at >= FAILURES_FORGIVEN_AFTER
    failures = 1 if ran_well else last.failures + 1
    return failures, last.since + _delay(failures)


def _delay(failures: int) -> timedelta:
    doublings: int = min(failures - 1, 10)
    return min(BACKOFF_FIRST * (1 << doublings), BACKOFF_MOST)


def _forget(exited: Sequence[ObservedReplica], *, nothing_wanted: bool, all_ready: bool) -> list[Action]:
    """The newest unwanted exit stays while it explains why something is missing."""
    explaining = None
    if not (nothing_wanted or all_ready):
        unwanted = [replica for replica in exited if replica.exit is not None and not replica.exit.wanted]
        explaining = unwanted[-1].id if unwanted else None
    return [
        Action(verb=Verb.FORGET, replica=replica.id, reason="its end has been told")
        for replica in exited
        if replica.id != explaining
    ]


def _delete(replica: ObservedReplica, reason: str, cause: str) -> Action:
    return Action(verb=Verb.DELETE, replica=replica.id, reason=reason, cause=cause)


def _keep(replica: ObservedReplica, reason: str) -> Action:
    return Action(verb=Verb.KEEP, replica=replica.id, reason=reason)
