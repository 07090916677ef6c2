"""One pass over a cluster: claim → observe → plan → apply → record. Called by the `reconcile` task.

Level-triggered: whatever crashed, running it again converges. No transaction is open while a runtime is spoken to,
and a status is written only under the claim's own lock token.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import timedelta

from freehold.common import clock
from freehold.common.logging import get_logger
from freehold.metering.services import replica_interval_record
from freehold.registry.services import fetch_token_create
from freehold.serving.choices import Phase
from freehold.serving.claims import Claim, endpoint_release, endpoint_status_record, endpoints_claim
from freehold.serving.errors import StaleLock
from workers.manifests.spec import FlavorSpec, WeightsRef, WorkloadSpec
from workers.reconcile import status
from workers.reconcile.plan import plan
from workers.runtimes.base import Action, Observed, Runtime, RuntimeUnavailable, Verb

log = get_logger(__name__)

FAILED_PAUSE_SECONDS = 15.0
# A claim that is about to expire is not acted upon: another worker may hold the endpoint before we are done.
_LEASE_MARGIN = timedelta(seconds=15)


@dataclass(frozen=True)
class Pass:
    """What a pass did, for the log and for benchmarks."""

    claimed: int = 0
    steps: int = 0
    stale: int = 0
    failed: int = 0
    unreachable: bool = False


def reconcile_cluster(cluster_id: uuid.UUID, runtime: Runtime, *, limit: int = 50) -> Pass:
    """Works on the due endpoints of one cluster, at most `limit`."""
    claims = endpoints_claim(cluster_id=cluster_id, limit=limit)
    if not claims:
        return Pass()
    started = time.monotonic()
    steps = stale = failed = 0
    try:
        observed = runtime.observe()
    except RuntimeUnavailable as error:
        for claim in claims:
            _record_unknown(claim, str(error))
        return Pass(claimed=len(claims), unreachable=True)
    for claim in claims:
        try:
            steps += _reconcile(claim, observed, runtime)
        except StaleLock:
            stale += 1
            log.info("claim_lost", endpoint=claim.endpoint.public_id)
        except Exception:  # whatever is wrong with one endpoint must not hold up the others of its cluster
            failed += 1
            log.exception("reconcile_failed", endpoint=claim.endpoint.public_id)
            endpoint_release(claim=claim, pause_seconds=FAILED_PAUSE_SECONDS)
    milliseconds = round((time.monotonic() - started) * 1000)
    if steps or stale:
        log.info("reconciled", claimed=len(claims), steps=steps, stale=stale, milliseconds=milliseconds)
    return Pass(claimed=len(claims), steps=steps, stale=stale, failed=failed)


def _reconcile(claim: Claim, observed: Observed, runtime: Runtime) -> int:
    endpoint = claim.endpoint
    deleting = endpoint.deletion_requested_at is not None
    desired = workload_of(claim)
    replicas = observed.of(endpoint.public_id)
    now = clock.now()
    made = plan(desired, replicas, now)
    found = status.derive(desired, replicas, made, deleting=deleting, now=now)
    if now > claim.expires_at - _LEASE_MARGIN:
        raise StaleLock("The claim is about to expire.")
    if any(step.verb is Verb.DELETE for step in made.steps):
        # Routes are withdrawn before the replicas they lead to are ended.
        endpoint_status_record(claim=claim, status=found, release=False)
    try:
        for step in made.steps:
            _apply(claim, step, runtime)
    except RuntimeUnavailable as error:
        found = status.blocked(found, str(error))
    _record_intervals(claim, desired, {replica.id: replica.state for replica in found.replicas or ()})
    endpoint_status_record(claim=claim, status=found)
    return len(made.steps)


def _apply(claim: Claim, step: Action, runtime: Runtime) -> None:
    token = fetch_token_create(revision=claim.spec.revision) if step.verb is Verb.CREATE else ""
    runtime.apply(step, endpoint=claim.endpoint.public_id, fetch_token=token)
    log.info("step", endpoint=claim.endpoint.public_id, verb=step.verb.value, replica=step.replica, reason=step.reason)


def _record_intervals(claim: Claim, desired: WorkloadSpec, states: dict[str, str]) -> None:
    """Replica states as append-only intervals: what GPU-seconds are billed from."""
    before = {str(replica["id"]): str(replica["state"]) for replica in claim.endpoint.replicas_observed}
    for replica in before.keys() | states.keys():
        if before.get(replica) != states.get(replica):
            replica_interval_record(
                tenant_id=claim.endpoint.tenant_id,
                endpoint_id=claim.endpoint.pk,
                replica_id=replica,
                generation=claim.spec.generation,
                flavor=desired.flavor.name,
                accelerators=desired.flavor.accelerators,
                billing_mode=claim.endpoint.billing_mode,
                state=states.get(replica),
                at=clock.now(),
            )


def _record_unknown(claim: Claim, message: str) -> None:
    try:
        endpoint_status_record(claim=claim, status=status.unknown(Phase(claim.endpoint.phase), message))
    except StaleLock:
        log.info("claim_lost", endpoint=claim.endpoint.public_id)


def workload_of(claim: Claim) -> WorkloadSpec:
    """The spec of a claimed endpoint as runtimes understand it; one that is being deleted wants no replicas."""
    endpoint, spec = claim.endpoint, claim.spec
    revision, flavor = spec.revision, spec.flavor
    return WorkloadSpec(
        endpoint=endpoint.public_id,
        generation=spec.generation,
        replicas=0 if endpoint.deletion_requested_at is not None else spec.replicas,
        served_model_name=endpoint.model_name,
        task=str(revision.inspection.get("task", "generate")),
        weights=WeightsRef(
            tenant=endpoint.tenant.public_id,
            repo=f"{endpoint.tenant.slug}/{revision.repo.name}",
            commit_id=revision.commit_id,
            digest=revision.digest,
        ),
        flavor=FlavorSpec(
            name=flavor.name,
            accelerator=flavor.accelerator,
            accelerators=flavor.accelerators,
            kv_cache_bytes=flavor.kv_cache_bytes,
        ),
        engine_digest=spec.engine_digest,
        arguments=spec.arguments,
    )
