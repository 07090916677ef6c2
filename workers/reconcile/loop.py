"""One pass over a cluster: claim → observe → plan → apply → record. Called by the `reconcile` task.

Level-triggered: whatever crashed, running it again converges. No transaction is open while a runtime is spoken to,
and a status is written only under the claim's own lock token. What many endpoints say alike (nothing new) is written
in one statement.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from types import MappingProxyType

from freehold.common import clock
from freehold.common.logging import get_logger
from freehold.metering.choices import ReplicaState as MeteredState
from freehold.metering.services import replica_interval_record, replica_intervals_open
from freehold.registry.fetch_tokens import SECONDS as TOKEN_SECONDS
from freehold.registry.services import fetch_token_create
from freehold.serving.choices import ConditionType, Phase
from freehold.serving.claims import (
    Claim,
    endpoint_is_last,
    endpoint_status_record,
    endpoints_claim,
    endpoints_release,
    status_unchanged,
)
from freehold.serving.conditions import EndpointStatus, Event
from freehold.serving.errors import StaleLock
from workers.manifests.spec import WorkloadSpec
from workers.reconcile import events, status
from workers.reconcile.plan import Plan, plan
from workers.reconcile.plan_objects import WORKLOADS, Finalization, plan_endpoint, plan_finalize, plan_stop, plan_tenant
from workers.reconcile.workload import scope_of, workload_of
from workers.runtimes.base import (
    Action,
    FetchToken,
    ObjectKey,
    Objects,
    Observed,
    ObservedReplica,
    ReplicaState,
    Runtime,
    RuntimeUnavailable,
    StepRefused,
    Verb,
    Wanted,
)

log = get_logger(__name__)

AWAY = "The cluster does not answer. What runs there goes on running; it is tried again soon."
FAILED_PAUSE_SECONDS = 15.0
UNREACHABLE_PAUSE_SECONDS = 10.0
# A claim that is about to expire is not acted upon: another worker may hold the endpoint before we are done.
_LEASE_MARGIN = timedelta(seconds=15)
_RENEW_WITH_LEFT = timedelta(seconds=40)
_TOO_LATE = "the claim is about to expire"
_CHUNK = 100
_BUDGET_SECONDS = 90.0  # of one pass; a task may take twice as long


@dataclass
class Pass:
    """What a pass did, for the log and for benchmarks. `unfinished`: claims given back for want of time."""

    claimed: int = 0
    steps: int = 0
    stale: int = 0
    failed: int = 0
    unfinished: int = 0
    unreachable: str = ""


@dataclass
class _Work:
    """One claimed endpoint on its way through a pass.

    Attributes:
        shared: steps for what it shares with its tenant's other endpoints.
        taken: steps that were taken, each with what the runtime had to say beyond the step's reason.
        refused: why a step was not taken.
        error: what nobody thought of, while its steps were taken.
    """

    claim: Claim
    desired: WorkloadSpec
    plan: Plan = field(default_factory=lambda: Plan(()))
    shared: tuple[Action, ...] = ()
    token: FetchToken | None = None
    taken: list[tuple[Action, str]] = field(default_factory=list)
    refused: str = ""
    error: Exception | None = None

    @property
    def tenant(self) -> str:
        return self.desired.weights.tenant

    @property
    def deleting_since(self) -> datetime | None:
        return self.claim.endpoint.deletion_requested_at


def reconcile_cluster(cluster_id: uuid.UUID, runtime: Runtime, *, limit: int | None = None) -> Pass:
    """Works on the due endpoints of one cluster, at most `limit` (without it: what the runtime takes at once)."""
    claims = endpoints_claim(cluster_id=cluster_id, limit=limit or runtime.batch)
    if not claims:
        return Pass()
    started = time.monotonic()
    done = _Round(claims, runtime).run()
    milliseconds = round((time.monotonic() - started) * 1000)
    if done.steps or done.stale or done.failed or done.unreachable:
        log.info("reconciled", cluster=str(cluster_id), milliseconds=milliseconds, **vars(done))
    return done


def mark_unreachable(
    claims: Sequence[Claim],
    message: str,
    *,
    seconds: float = UNREACHABLE_PAUSE_SECONDS,
    told: Mapping[uuid.UUID, tuple[Event, ...]] = MappingProxyType({}),
) -> None:
    """Says of every endpoint that nothing can be known of it now, and changes nothing else. `told`: by endpoint, what
    was still done before the cluster went silent."""
    alike = []
    for claim in claims:
        found = status.unknown(Phase(claim.endpoint.phase), message, seconds=seconds)
        found = replace(found, events=told.get(claim.endpoint.pk, ()))
        if status_unchanged(claim=claim, status=found):
            alike.append(claim)
            continue
        try:
            endpoint_status_record(claim=claim, status=found)
        except StaleLock:
            log.info("claim_lost", endpoint=claim.endpoint.public_id)
    endpoints_release(claims=alike, pause_seconds=seconds)


class _Round:
    """The claims of one lease against one observation."""

    def __init__(self, claims: Sequence[Claim], runtime: Runtime) -> None:
        self._open = {claim.endpoint.pk: claim for claim in claims}  # not recorded, not given back yet
        self._lease = claims[0].lease
        self._runtime = runtime
        self._observed = Observed(at=clock.now())
        self._under_way: list[_Work] = []
        self._shared_done: set[ObjectKey] = set()
        self._shared_refused: dict[str, str] = {}
        self._alike: dict[float, list[Claim]] = {}
        self._pass = Pass(claimed=len(claims))

    def run(self) -> Pass:
        """Raises nothing of one endpoint's or of the cluster's: both are recorded."""
        give_up_at = time.monotonic() + _BUDGET_SECONDS
        try:
            self._observed = self._runtime.observe(scope_of(self._open.values()))
            while self._open and time.monotonic() < give_up_at:
                self._chunk(list(islice(self._open.values(), _CHUNK)))
        except RuntimeUnavailable as error:
            self._pass.unreachable = str(error)
            self._pass.steps += sum(len(work.taken) for work in self._under_way)
            told = {work.claim.endpoint.pk: events.of_steps(work.taken) for work in self._under_way}
            # Where exactly, and in whose words, is for the operator, who reads it on the cluster.
            said = AWAY if self._runtime.keeps_objects else str(error)
            mark_unreachable(list(self._open.values()), said, told=told)
            self._open.clear()
        except Exception:  # not of one endpoint: nothing could be read of any
            self._pass.failed += len(self._open)
            log.exception("observation_failed")
            endpoints_release(claims=list(self._open.values()), pause_seconds=FAILED_PAUSE_SECONDS)
            self._open.clear()
        for seconds, claims in self._alike.items():
            endpoints_release(claims=claims, pause_seconds=seconds)
        self._pass.unfinished += len(self._open)
        endpoints_release(claims=list(self._open.values()), pause_seconds=0.0)
        return self._pass

    def _chunk(self, claims: Sequence[Claim]) -> None:
        if clock.now() > self._lease.expires_at - _RENEW_WITH_LEFT:
            held = self._lease.renew()
            for claim in [claim for key, claim in self._open.items() if key not in held]:
                self._lost(claim)
            claims = [claim for claim in claims if claim.endpoint.pk in held]
        works = self._under_way = []
        for claim in claims:
            with self._alone(claim):
                works.append(self._prepare(claim))
        # What a tenant's endpoints share comes first: without their namespace, none of them can have anything.
        self._in_parallel([work for work in works if work.shared], self._take_shared)
        self._in_parallel([work for work in works if work.plan.steps], self._take_own)
        for work in works:
            with self._alone(work.claim):
                self._record(work)
                self._open.pop(work.claim.endpoint.pk, None)

    @contextmanager
    def _alone(self, claim: Claim) -> Iterator[None]:
        """Whatever is wrong with one endpoint must not hold up the others of its cluster."""
        try:
            yield
        except RuntimeUnavailable:
            raise
        except StaleLock:
            self._lost(claim)
        except Exception:  # whatever it is, it is logged, and tried again
            self._pass.failed += 1
            self._open.pop(claim.endpoint.pk, None)
            log.exception("reconcile_failed", endpoint=claim.endpoint.public_id)
            endpoints_release(claims=[claim], pause_seconds=FAILED_PAUSE_SECONDS)

    def _lost(self, claim: Claim) -> None:
        self._pass.stale += 1
        self._open.pop(claim.endpoint.pk, None)
        log.info("claim_lost", endpoint=claim.endpoint.public_id)

    # Plan

    def _prepare(self, claim: Claim) -> _Work:
        work = _Work(claim=claim, desired=workload_of(claim))
        replicas = self._observed.of(work.desired.endpoint)
        now = clock.now()
        if not self._runtime.keeps_objects:
            work.plan = plan(work.desired, replicas, now)
        elif work.deleting_since is not None:
            work.plan = plan_finalize(self._finalization(work, work.deleting_since), self._live(work), replicas, now)
        else:
            try:
                wanted = self._runtime.wanted(work.desired, tenant_slug=claim.endpoint.tenant.slug)
            except StepRefused as error:
                if work.desired.replicas:
                    work.refused = str(error)
                else:
                    work.plan = plan_stop(self._live(work))  # whatever is in the way of running it
                return work
            work.plan = plan_endpoint(wanted.endpoint, self._live(work), replicas, now)
            work.token = self._token(work, now)
            work.shared = self._shared(work, wanted)
        work.token = work.token or self._token(work, now)
        if not self._runtime.keeps_objects and any(step.verb is Verb.DELETE for step in work.plan.steps):
            # Routes are withdrawn before the replicas they lead to are ended. (Kubernetes chooses and drains itself.)
            self._check_lease()
            endpoint_status_record(claim=claim, status=self._status(work), release=False)
        return work

    def _token(self, work: _Work, now: datetime) -> FetchToken | None:
        if not any(step.needs_token for step in work.plan.steps):
            return None
        return FetchToken(
            secret=fetch_token_create(revision=work.claim.spec.revision),
            expires_at=now + timedelta(seconds=TOKEN_SECONDS),
            repo=work.desired.weights.repo,
        )

    def _live(self, work: _Work) -> Objects:
        return self._observed.objects_of(work.desired.endpoint)

    def _shared(self, work: _Work, wanted: Wanted) -> tuple[Action, ...]:
        """Steps for what the tenant shares, once a pass: the first of its endpoints takes them."""
        made = plan_tenant(wanted.tenant, self._observed.objects_of_tenant(work.tenant))
        fresh = [step for step in made.steps if step.object not in self._shared_done]
        self._shared_done.update(step.object for step in fresh if step.object is not None)
        return tuple(fresh)

    def _finalization(self, work: _Work, asked_at: datetime) -> Finalization:
        shared = self._observed.objects_of_tenant(work.tenant)
        namespace = next((found for key, found in shared.items() if key.kind == "Namespace"), None)
        if namespace is not None and not endpoint_is_last(claim=work.claim):
            namespace = None
        return Finalization(asked_at=asked_at, drain=self._runtime.drain, namespace=namespace)

    # Apply

    def _in_parallel(self, works: Sequence[_Work], take: Callable[[_Work], None]) -> None:
        """Steps of one endpoint are taken in order, those of several at once. No database is touched in there. Raises
        RuntimeUnavailable."""
        if len(works) < 2 or self._runtime.parallel < 2:
            for work in works:
                take(work)
            return
        with ThreadPoolExecutor(max_workers=min(self._runtime.parallel, len(works))) as pool:
            for _ in pool.map(take, works):
                pass

    def _take_shared(self, work: _Work) -> None:
        self._take(work, work.shared)
        if work.refused or work.error is not None:
            # Nothing of the tenant's goes on: an engine must not start in a namespace that is not closed yet.
            self._shared_refused[work.tenant] = work.refused or "The tenant's namespace cannot be set up."

    def _take_own(self, work: _Work) -> None:
        if not work.desired.replicas:
            work.refused = ""  # what the tenant shares is needed for running, not for stopping
        else:
            work.refused = work.refused or self._shared_refused.get(work.tenant, "")
        if not work.refused and work.error is None:
            self._take(work, work.plan.steps)

    def _take(self, work: _Work, steps: Sequence[Action]) -> None:
        """In order; what one refused step leads to is not taken either."""
        for step in steps:
            if clock.now() > self._lease.expires_at - _LEASE_MARGIN:
                work.refused = _TOO_LATE
                return
            token = work.token if step.needs_token else None
            try:
                said = self._runtime.apply(step, endpoint=work.desired.endpoint, fetch_token=token)
            except StepRefused as error:
                work.refused = str(error)
                return
            except RuntimeUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - kept, and raised where this endpoint stands alone
                work.error = error
                return
            work.taken.append((step, said))

    # Record

    def _record(self, work: _Work) -> None:
        if work.error is not None:
            raise work.error
        claim = work.claim
        late = work.refused == _TOO_LATE
        if late and not work.taken:
            self._pass.unfinished += 1
            endpoints_release(claims=[claim], pause_seconds=0.0)
            return
        self._pass.steps += len(work.taken)
        for step, said in work.taken:
            log.info(
                "step",
                endpoint=claim.endpoint.public_id,
                verb=step.verb.value,
                subject=str(step.object or step.replica),
                reason=step.reason,
                said=said,
            )
        found = self._status(work)
        if late:
            found = replace(found, requeue_seconds=0.0)
        elif work.refused:
            found = status.blocked(found, work.refused, seconds=self._runtime.pace.blocked)
        told = events.of_steps(work.taken)
        if work.refused and not late and not _said_before(claim, work.refused):
            told += events.of_refusal(work.refused)
        found = replace(found, events=told)
        if status_unchanged(claim=claim, status=found):
            self._alike.setdefault(round(found.requeue_seconds, 1), []).append(claim)
            return
        states = {replica.id: replica.state for replica in found.replicas or ()}
        endpoint_status_record(claim=claim, status=found, also=partial(record_intervals, claim, work.desired, states))

    def _status(self, work: _Work) -> EndpointStatus:
        endpoint = work.desired.endpoint
        gone: bool | None = None
        replicas = self._observed.of(endpoint)
        if self._runtime.keeps_objects:
            live = self._live(work)
            # One that is deleted is gone with the last trace; one that is scaled to nothing when nothing runs: pods
            # that were evicted stay until the cluster's garbage collection.
            left = (
                bool(live or replicas) if work.deleting_since is not None else _wants_replicas(live) or _run(replicas)
            )
            gone = not left and not work.refused
        return status.derive(
            work.desired,
            replicas,
            work.plan,
            deleting=work.deleting_since is not None,
            now=clock.now(),
            pace=self._runtime.pace,
            blocker=self._observed.blockers.get(endpoint),
            gone=gone,
        )

    def _check_lease(self) -> None:
        if clock.now() > self._lease.expires_at - _LEASE_MARGIN:
            raise StaleLock("The claim is about to expire.")


def _said_before(claim: Claim, refusal: str) -> bool:
    """Whether the endpoint says so already: then it is no news."""
    progressing = claim.endpoint.condition(ConditionType.PROGRESSING)
    return progressing is not None and (progressing["reason"], progressing["message"]) == ("Blocked", refusal)


def _run(replicas: Sequence[ObservedReplica]) -> bool:
    return any(replica.state is not ReplicaState.EXITED for replica in replicas)


def _wants_replicas(live: Objects) -> bool:
    """Whether a workload is there that still wants replicas."""
    return any(
        key.kind in WORKLOADS and (found.content.get("status") or {}).get("replicas") for key, found in live.items()
    )


def record_intervals(claim: Claim, desired: WorkloadSpec, states: Mapping[str, str]) -> None:
    """Replica states as append-only intervals: what GPU-seconds are billed from. States that metering does not know
    (waiting for a node, for another start) are none."""
    known = frozenset(MeteredState)
    before = replica_intervals_open(tenant_id=claim.endpoint.tenant_id, endpoint_id=claim.endpoint.pk)
    at = _known_until(claim)
    for replica in before.keys() | states.keys():
        state = states.get(replica) if states.get(replica) in known else None
        if before.get(replica) != state:
            replica_interval_record(
                tenant_id=claim.endpoint.tenant_id,
                endpoint_id=claim.endpoint.pk,
                replica_id=replica,
                generation=claim.spec.generation,
                flavor=desired.flavor.name,
                accelerators=desired.flavor.accelerators,
                billing_mode=claim.endpoint.billing_mode,
                state=state,
                at=at if replica in before else clock.now(),
            )


def _known_until(claim: Claim) -> datetime:
    """When what was running was last known to run: now, or the moment when the cluster went silent. What is gone after
    a silence is not billed for it."""
    ready = claim.endpoint.condition(ConditionType.READY)
    if ready is None or ready["status"] != "Unknown":
        return clock.now()
    return datetime.fromisoformat(ready["last_transition_at"])
