"""derive(desired, observed, plan) → phase and conditions. Pure, like plan.py.

Messages are for the customer: what is the matter, in the engine's own words where it said any, and what happens next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from freehold.common.conditions import Condition
from freehold.serving.choices import ConditionType, Phase
from freehold.serving.conditions import EndpointStatus, ReplicaStatus
from workers.manifests.spec import WorkloadSpec
from workers.reconcile.plan import Plan
from workers.runtimes.base import LIVE, Blocker, Exit, ObservedReplica, Pace, ReplicaState, Verb

LOG_LINES_TOLD = 5
PACE = Pace()


def derive(
    desired: WorkloadSpec,
    observed: Sequence[ObservedReplica],
    plan: Plan,
    *,
    deleting: bool,
    now: datetime,
    pace: Pace = PACE,
    blocker: Blocker | None = None,
    gone: bool | None = None,
) -> EndpointStatus:
    """What to write on the endpoint after this pass.

    `blocker` is why replicas are not even made. `gone` says whether anything of the endpoint is left; without it, that
    is judged by its replicas. `pace` says when to look again: hints make most passes come sooner.
    """
    live = [replica for replica in observed if replica.state in LIVE]
    # A replica that this plan ends gets no more requests: its route goes before it does.
    ending = {action.replica for action in plan.actions if action.verb is Verb.DELETE}
    serving = [replica for replica in live if replica.state is ReplicaState.READY and replica.id not in ending]
    if gone is None:
        gone = all(replica.state is ReplicaState.EXITED for replica in observed)
    blocker = blocker or next((replica.blocker for replica in live if replica.blocker is not None), None)
    failure = _last_failure(observed)
    phase = _phase(desired, ready=len(serving), gone=gone, failing=failure is not None, deleting=deleting)
    conditions = [
        _ready(desired, len(serving)),
        _progressing(live, plan, phase, blocker),
        _failing(failure),
        _unschedulable(blocker),
    ]
    replicas = tuple(
        ReplicaStatus(
            replica.id,
            ReplicaState.STOPPING.value if replica.id in ending else replica.state.value,
            replica.since,
            replica.host,
            replica.port,
        )
        for replica in observed
        if replica.state is not ReplicaState.EXITED
    )
    settled = phase in {Phase.READY, Phase.STOPPED, Phase.DELETED} and not plan.steps
    requeue = pace.steady if settled else pace.moving
    if plan.next_at is not None:
        requeue = max(min(1.0, pace.moving), min(pace.steady, (plan.next_at - now).total_seconds()))
    return EndpointStatus(
        phase=phase,
        conditions=tuple(conditions),
        replicas=replicas,
        requeue_seconds=requeue,
        reasons=tuple(f"{action.verb}: {action.reason}" for action in plan.actions),
    )


def unknown(before: Phase, message: str, *, seconds: float = 10.0) -> EndpointStatus:
    """For a cluster that cannot be observed: nothing is known, nothing is changed; it is tried again after
    `seconds`."""
    return EndpointStatus(
        phase=before if before in {Phase.DELETING, Phase.PENDING} else Phase.UNKNOWN,
        conditions=(Condition(ConditionType.READY, "Unknown", "ClusterUnreachable", message),),
        replicas=None,
        requeue_seconds=seconds,
    )


def blocked(found: EndpointStatus, message: str, *, seconds: float = PACE.blocked) -> EndpointStatus:
    """For a step that the runtime could not take: the customer is told why, and it is tried again."""
    said = Condition(ConditionType.PROGRESSING, "False", "Blocked", message)
    others = tuple(condition for condition in found.conditions if condition.type is not ConditionType.PROGRESSING)
    return replace(found, conditions=(*others, said), requeue_seconds=seconds)


def _phase(desired: WorkloadSpec, *, ready: int, gone: bool, failing: bool, deleting: bool) -> Phase:
    if deleting:
        return Phase.DELETED if gone else Phase.DELETING
    if desired.replicas == 0:
        return Phase.STOPPED if gone else Phase.STARTING
    if ready >= desired.replicas:
        return Phase.READY
    if ready > 0:
        return Phase.DEGRADED
    return Phase.FAILED if failing else Phase.STARTING


def _ready(desired: WorkloadSpec, ready: int) -> Condition:
    if desired.replicas == 0:
        return Condition(
            ConditionType.READY, "False", "Stopped", "The endpoint has no replicas. Scale it up to use it."
        )
    status = "True" if ready >= desired.replicas else "False"
    reason = "ReplicasReady" if status == "True" else "ReplicasMissing"
    return Condition(ConditionType.READY, status, reason, f"{ready} of {desired.replicas} replicas answer.")


def _progressing(live: Sequence[ObservedReplica], plan: Plan, phase: Phase, blocker: Blocker | None) -> Condition:
    def progressing(reason: str, message: str) -> Condition:
        return Condition(ConditionType.PROGRESSING, "True", reason, message)

    if phase is Phase.DELETING:
        waits = next((action.reason for action in plan.actions if action.verb is Verb.WAIT), "")
        return progressing("Deleting", waits or f"{len(live)} replicas are being stopped.")
    fetching = [replica for replica in live if replica.state is ReplicaState.FETCHING]
    if fetching:
        return progressing("FetchingWeights", fetching[0].detail or "The weights are being fetched.")
    starting = [replica for replica in live if replica.state is ReplicaState.STARTING]
    if starting:
        return progressing("LoadingModel", starting[0].detail or "The engine is loading the model.")
    if blocker is not None:
        return Condition(ConditionType.PROGRESSING, "False", blocker.reason, blocker.message)
    pending = [replica for replica in live if replica.state is ReplicaState.PENDING]
    if pending:
        return progressing("WaitingForNode", pending[0].detail or "Replicas are being given a node.")
    if any(action.verb is Verb.CREATE for action in plan.actions):
        return progressing("StartingReplicas", "Replicas are being started.")
    waiting = next((action for action in plan.actions if action.verb is Verb.WAIT), None)
    if waiting is not None:
        return progressing("BackingOff", f"Waiting before the next start: {waiting.reason}.")
    return Condition(ConditionType.PROGRESSING, "False", "Settled", "")


def _unschedulable(blocker: Blocker | None) -> Condition:
    if blocker is None:
        return Condition(ConditionType.UNSCHEDULABLE, "False", "HasRoom", "")
    return Condition(ConditionType.UNSCHEDULABLE, "True", blocker.reason, blocker.message)


def _failing(failure: Exit | None) -> Condition:
    if failure is None:
        return Condition(ConditionType.FAILING, "False", "NoFailure", "")
    message = failure.message
    tail = [line for line in failure.log_tail if line.strip() and line.strip() not in message][-LOG_LINES_TOLD:]
    if tail:
        message += "\nLast lines of its log:\n" + "\n".join(tail)
    return Condition(ConditionType.FAILING, "True", failure.reason, message)


def _last_failure(observed: Sequence[ObservedReplica]) -> Exit | None:
    """The newest unwanted exit, unless a replica started later is ready."""
    exits = [replica.exit for replica in observed if replica.exit is not None and not replica.exit.wanted]
    if not exits:
        return None
    newest = max(exits, key=lambda end: end.at)
    answered = any(
        replica.state is ReplicaState.READY and replica.ready_at is not None and replica.ready_at > newest.at
        for replica in observed
    )
    return None if answered else newest
