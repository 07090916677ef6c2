"""What to do with the objects of an endpoint in a cluster, and why. Pure, like plan.py; for runtimes that keep objects.

An object that is missing is created, one that differs in a field that we set is applied again, one that we no longer
want is deleted; whatever others set beside it is theirs. Deletion goes in stages, each waiting for the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from workers.manifests.kubernetes import names
from workers.manifests.kubernetes.continuity import keeping_fetcher
from workers.manifests.kubernetes.drift import differences
from workers.reconcile.plan import Plan
from workers.runtimes.base import (
    Action,
    ObjectKey,
    Objects,
    ObservedObject,
    ObservedReplica,
    ReplicaState,
    Verb,
)

Manifest = Mapping[str, Any]

WORKLOADS = frozenset({"Deployment", "LeaderWorkerSet"})
TOKEN_LIFE = timedelta(hours=1)
TOKEN_LEFT = timedelta(minutes=20)  # with less than this, whoever fetches gets a new one
TOKEN_REFUSED_PAUSE = timedelta(minutes=1)
FETCH_REFUSED = "FetchUnauthorized"  # Exit.reason: the hub did not take the token
LOOK_AGAIN = timedelta(seconds=2)
_DIFFERENCES_TOLD = 3
_FETCHING = frozenset({ReplicaState.PENDING, ReplicaState.FETCHING})


def key_of(manifest: Manifest) -> ObjectKey:
    """What an object is called."""
    metadata = manifest["metadata"]
    return ObjectKey(manifest["kind"], metadata.get("namespace", ""), metadata["name"])


def plan_tenant(wanted: Sequence[Manifest], live: Objects) -> Plan:
    """For what a tenant's endpoints share. Nothing is deleted here: a namespace takes everything with it."""
    return Plan(tuple(_step(manifest, live.get(key_of(manifest))) for manifest in wanted))


def plan_endpoint(
    wanted: Sequence[Manifest], live: Objects, replicas: Sequence[ObservedReplica], now: datetime
) -> Plan:
    """For an endpoint that is to be there, with however many replicas."""
    actions = [_step(manifest, live.get(key_of(manifest))) for manifest in wanted]
    new_pods = any(a.verb is not Verb.KEEP and a.object is not None and a.object.kind in WORKLOADS for a in actions)
    for index, action in enumerate(actions):
        if action.object is not None and action.object.kind == "Secret":
            actions[index] = _with_token(action, wanted[index], live.get(action.object), replicas, new_pods, now)
    ours = {key_of(manifest) for manifest in wanted}
    for key, found in sorted(live.items()):
        if key not in ours and not found.deleting:
            actions.append(_delete(found, "is no longer part of the endpoint"))
    waiting = any(action.verb is Verb.WAIT for action in actions)
    return Plan(tuple(actions), now + LOOK_AGAIN if waiting else None)


def plan_stop(live: Objects) -> Plan:
    """For an endpoint that is to have no replicas, where its objects cannot be made as they should be: its workload
    goes, and comes back with the first replica."""
    return Plan(
        tuple(
            _delete(found, "it is stopped, and cannot be kept as it is")
            for key, found in sorted(live.items())
            if key.kind in WORKLOADS and not found.deleting
        )
    )


@dataclass(frozen=True, kw_only=True)
class Finalization:
    """An endpoint on its way out.

    Attributes:
        asked_at: when its deletion was asked for; its routes were withdrawn then.
        drain: what requests under way get before the workload is deleted.
        namespace: of its tenant, if this was the last endpoint there.
    """

    asked_at: datetime
    drain: timedelta
    namespace: ObservedObject | None


def plan_finalize(
    finalization: Finalization, live: Objects, replicas: Sequence[ObservedReplica], now: datetime
) -> Plan:
    """Routes are gone already. Then: drain, workload, what it stood on, its secret, the namespace when empty. Nothing
    left to do is a plan without actions."""
    workloads = [found for key, found in live.items() if key.kind in WORKLOADS]
    drained_at = finalization.asked_at + finalization.drain
    if workloads and now < drained_at:
        return _wait("Requests under way finish before the engines are stopped.", drained_at)
    if workloads or replicas:
        return _stage(workloads, "the endpoint is being deleted", "The engines are finishing their streams.", now)
    secrets = [found for key, found in live.items() if key.kind == "Secret"]
    others = [found for key, found in live.items() if key.kind != "Secret"]
    for objects in (others, secrets):
        if objects:
            return _stage(objects, "its engines are gone", "Kubernetes is removing what the engines stood on.", now)
    namespace = finalization.namespace
    if namespace is not None and not namespace.deleting:
        return Plan((_delete(namespace, "its tenant's last endpoint here is gone"),))
    return Plan(())


def _step(manifest: Manifest, live: ObservedObject | None) -> Action:
    key = key_of(manifest)
    if live is None:
        return Action(verb=Verb.CREATE, object=key, manifest=manifest, reason="is missing", needs_token=_secret(key))
    if live.deleting:
        return Action(verb=Verb.WAIT, object=key, reason=f"{key} is being deleted; it is made again once it is gone")
    content = live.content
    manifest = keeping_fetcher(dict(manifest), content)
    found = differences(manifest, content)
    if not found:
        return Action(verb=Verb.KEEP, object=key, reason="is as asked for")
    asked = manifest["metadata"]["annotations"][names.APPLIED] != _annotations(content).get(names.APPLIED)
    why = "is to be changed" if asked else "was changed by somebody else"
    told = ", ".join(path for path in found if names.APPLIED not in path) or names.APPLIED
    return Action(
        verb=Verb.APPLY,
        object=key,
        manifest=manifest,
        reason=f"{why}: {_shortened(told, len(found))}",
        needs_token=_secret(key),
    )


def _shortened(told: str, count: int) -> str:
    paths = told.split(", ")
    more = f" and {count - _DIFFERENCES_TOLD} more" if len(paths) > _DIFFERENCES_TOLD else ""
    return ", ".join(paths[:_DIFFERENCES_TOLD]) + more


def _secret(key: ObjectKey) -> bool:
    return key.kind == "Secret"


def _with_token(
    action: Action,
    manifest: Manifest,
    live: ObservedObject | None,
    replicas: Iterable[ObservedReplica],
    new_pods: bool,
    now: datetime,
) -> Action:
    """A token lives for an hour and is renewed only while somebody fetches with it: an endpoint at rest costs no
    writes, and its Secret holds nothing that still opens a door."""
    if action.verb is not Verb.KEEP or live is None:
        return action
    expires_at = _expiry(live)
    replicas = list(replicas)
    refused = [r.exit.at for r in replicas if r.exit is not None and r.exit.reason == FETCH_REFUSED]
    needed = new_pods or bool(refused) or any(replica.state in _FETCHING for replica in replicas)
    stale = expires_at is None or expires_at - now < TOKEN_LEFT
    bad = expires_at is not None and any(at > expires_at - TOKEN_LIFE + TOKEN_REFUSED_PAUSE for at in refused)
    if needed and (stale or bad):
        why = "its token was refused" if bad and not stale else "its token is about to expire, and weights are fetched"
        return Action(verb=Verb.APPLY, object=action.object, manifest=manifest, reason=why, needs_token=True)
    return action


def _expiry(live: ObservedObject) -> datetime | None:
    try:
        found = datetime.fromisoformat(_annotations(live.content).get(names.TOKEN_EXPIRES, ""))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _annotations(content: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = content["metadata"].get("annotations") or {}
    return found


def _delete(found: ObservedObject, reason: str) -> Action:
    return Action(verb=Verb.DELETE, object=found.key, uid=found.uid, reason=reason)


def _wait(reason: str, until: datetime) -> Plan:
    return Plan((Action(verb=Verb.WAIT, reason=reason),), until)


def _stage(objects: Sequence[ObservedObject], reason: str, waiting: str, now: datetime) -> Plan:
    """Deletes what is not being deleted yet; waits for the rest."""
    steps = tuple(_delete(found, reason) for found in sorted(objects, key=lambda o: o.key) if not found.deleting)
    if steps:
        return Plan(steps, now + LOOK_AGAIN)
    return _wait(waiting, now + LOOK_AGAIN)
