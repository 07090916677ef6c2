"""Writes of serving by workers: claims, and what a pass over a cluster observed.

An endpoint is worked on by whoever holds its lock token; a status is written only under that token (0 rows: another
worker has taken over, stop). Desired state is written in services.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import BigIntegerField, Case, F, Q, Value, When
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Least

from freehold.common import clock
from freehold.common.conditions import merge
from freehold.common.errors import Conflict
from freehold.db.rls import system_scope
from freehold.fleet.reservations import reservation_release
from freehold.registry import services as registry
from freehold.serving import publication
from freehold.serving.choices import TRANSITIONS, Phase
from freehold.serving.conditions import EndpointStatus, ReplicaStatus
from freehold.serving.errors import StaleLock
from freehold.serving.events import condition_events, events_record
from freehold.serving.models import Endpoint, EndpointSpec
from freehold.wire import hints

LEASE = timedelta(seconds=60)


class Lease:
    """What one worker holds: every endpoint it claimed at once carries this token. Renewed while the work goes on."""

    def __init__(self, token: uuid.UUID, expires_at: datetime) -> None:
        self.token = token
        self.expires_at = expires_at

    def renew(self) -> set[uuid.UUID]:
        """Another LEASE for what is still ours, which is returned. What another worker has taken over meanwhile stays
        theirs."""
        expires_at = clock.now() + LEASE
        with system_scope("workers reconcile the endpoints of every tenant"):
            ours = Endpoint.objects.filter(lock_token=self.token)
            ours.update(lock_expires_at=expires_at)
            held = set(ours.values_list("pk", flat=True))
        self.expires_at = expires_at
        return held


@dataclass(frozen=True)
class Claim:
    """An endpoint that this worker, and no other, works on until its lease expires.

    Attributes:
        due_mark: `next_reconcile_at` as the claim set it; another value means that somebody asked for another look.
        task, total_bytes: of the revision, as inspection found them (None, 0 where it did not).
    """

    endpoint: Endpoint
    spec: EndpointSpec
    lease: Lease
    due_mark: datetime
    task: str | None = None
    total_bytes: int = 0

    @property
    def token(self) -> uuid.UUID:
        """Under which a status may be written."""
        return self.lease.token


def endpoints_claim(*, cluster_id: uuid.UUID, limit: int = 50) -> list[Claim]:
    """Takes due endpoints of one cluster that nobody works on. Runs in a worker."""
    moment = clock.now()
    lease = Lease(uuid.uuid4(), moment + LEASE)
    with system_scope("workers reconcile the endpoints of every tenant"):
        due = (
            Endpoint.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(cluster_id=cluster_id, deleted_at=None)
            .filter(Q(lock_token=None, next_reconcile_at__lte=moment) | Q(lock_expires_at__lt=moment))
            .order_by("next_reconcile_at")
        )
        claimed = list(due.values_list("pk", flat=True)[:limit])
        if not claimed:
            return []
        Endpoint.objects.filter(pk__in=claimed).update(
            lock_token=lease.token, lock_expires_at=lease.expires_at, next_reconcile_at=lease.expires_at
        )
        specs = (
            EndpointSpec.objects.select_related(
                "endpoint__tenant", "endpoint__cluster__region", "revision__repo", "flavor"
            )
            .filter(endpoint_id__in=claimed, generation=F("endpoint__generation"))
            # What inspection found is kilobytes a model, and two words of it are needed.
            .defer("revision__inspection")
            .annotate(
                task=KeyTextTransform("task", "revision__inspection"),
                total_bytes=Cast(KeyTextTransform("total_bytes", "revision__inspection"), BigIntegerField()),
            )
        )
        return [
            Claim(spec.endpoint, spec, lease, lease.expires_at, task=spec.task, total_bytes=spec.total_bytes or 0)
            for spec in specs
        ]


def status_unchanged(*, claim: Claim, status: EndpointStatus) -> bool:
    """Whether recording `status` would write nothing but the next look. Judged by the row as it was claimed."""
    endpoint = claim.endpoint
    return (
        not status.events
        and status.phase.value == endpoint.phase
        and (
            status.replicas is None
            or (
                endpoint.observed_generation == claim.spec.generation
                and _stored(status.replicas) == endpoint.replicas_observed
            )
        )
        and merge(endpoint.conditions, status.conditions, at=clock.now(), keep=status.replicas is None)
        == endpoint.conditions
    )


def endpoints_release(*, claims: Sequence[Claim], pause_seconds: float) -> None:
    """Gives claims of one lease back with nothing new to say, in one statement; those that are no longer ours are left
    alone, and those that somebody asked to look at meanwhile stay due."""
    if not claims:
        return
    due = Case(
        When(next_reconcile_at=claims[0].due_mark, then=Value(clock.now() + timedelta(seconds=pause_seconds))),
        default=F("next_reconcile_at"),
    )
    with system_scope("workers reconcile the endpoints of every tenant"):
        Endpoint.objects.filter(lock_token=claims[0].token, pk__in=[claim.endpoint.pk for claim in claims]).update(
            lock_token=None, lock_expires_at=None, next_reconcile_at=due
        )


def endpoint_status_record(
    *, claim: Claim, status: EndpointStatus, release: bool = True, also: Callable[[], None] | None = None
) -> None:
    """Writes what a pass found and gives the claim back, if its token still holds; raises StaleLock if not. `also`
    writes what belongs to it, in the same transaction: under the same token, or not at all.

    With `release=False` the claim is kept: for withdrawing routes before the replicas they lead to are ended. An
    endpoint whose spec changed meanwhile is due at once.
    """
    moment = clock.now()
    endpoint = claim.endpoint
    with system_scope("workers record the status of every tenant's endpoints"):
        current = Endpoint.objects.select_for_update().filter(pk=endpoint.pk, lock_token=claim.token).first()
        if current is None:
            raise StaleLock("Another worker has taken over this endpoint.")
        old = Phase(current.phase)
        changed_meanwhile = (
            current.generation != endpoint.generation
            or current.deletion_requested_at != endpoint.deletion_requested_at
            or current.next_reconcile_at != claim.due_mark
        )
        routed_before = (current.phase, current.replicas_observed)
        # A deletion asked for meanwhile wins over what this pass saw.
        phase = (
            Phase.DELETING if current.phase == Phase.DELETING and status.phase is not Phase.DELETED else status.phase
        )
        if phase is not old and phase not in TRANSITIONS[old]:
            raise Conflict(f"An endpoint cannot go from {old} to {phase}.")
        current.phase = phase.value
        unobserved = status.replicas is None
        conditions = merge(current.conditions, status.conditions, at=moment, keep=unobserved)
        events = [*status.events, *condition_events(current.conditions, conditions)]
        current.conditions = conditions
        if status.replicas is not None:
            current.replicas_observed = _stored(status.replicas)
            current.ready_replicas = status.ready_replicas
            current.observed_generation = claim.spec.generation
        if release:
            current.lock_token = current.lock_expires_at = None
            pause = 0.0 if changed_meanwhile else status.requeue_seconds
            current.next_reconcile_at = moment + timedelta(seconds=pause)
        if phase is Phase.DELETED:
            current.deleted_at = moment
            registry.revision_release(
                tenant_id=current.tenant_id, revision_id=claim.spec.revision_id, holder=current.public_id
            )
            reservation_release(holder=current.public_id)
            # Nothing is served any more, so its weights may be deleted; the audit trail and usage keep the digests.
            EndpointSpec.objects.filter(endpoint=current).delete()
        current.save()
        if also is not None:
            also()
        events_record(endpoint=current, events=events, at=moment)
        if routed_before != (current.phase, current.replicas_observed):
            transaction.on_commit(
                partial(publication.endpoint_publish, tenant_id=current.tenant_id, endpoint_id=current.pk)
            )
        if release and changed_meanwhile:
            transaction.on_commit(partial(hints.send, hints.RECONCILE, str(current.cluster_id)))


def _stored(replicas: Iterable[ReplicaStatus]) -> list[dict[str, Any]]:
    return [
        {"id": r.id, "state": r.state, "host": r.host, "port": r.port, "since": r.since.isoformat()} for r in replicas
    ]


def endpoints_touch(*, endpoint_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Makes endpoints due now; returns the clusters that should be hinted at. Called by the watcher."""
    with system_scope("the watcher speaks of every tenant's endpoints"):
        rows = Endpoint.objects.filter(pk__in=list(endpoint_ids), deleted_at=None)
        clusters = set(rows.values_list("cluster_id", flat=True))
        # Never later than it was: one that is overdue and keeps changing would otherwise stay last in line.
        rows.update(next_reconcile_at=Least(F("next_reconcile_at"), Value(clock.now())))
    return clusters


def endpoints_wake(*, cluster_id: uuid.UUID) -> int:
    """Makes the endpoints of a cluster that was silent due at once. Returns how many. Called when it answers again."""
    with system_scope("a cluster speaks of every tenant's endpoints"):
        rows = Endpoint.objects.filter(cluster_id=cluster_id, deleted_at=None).filter(
            Q(phase=Phase.UNKNOWN.value) | Q(phase=Phase.DELETING.value)
        )
        return rows.update(next_reconcile_at=Least(F("next_reconcile_at"), Value(clock.now())))


def endpoints_known(*, cluster_id: uuid.UUID, endpoint_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these endpoints the cluster should have, those on their way out included. For finding orphans."""
    with system_scope("workers compare clusters with every tenant's endpoints"):
        rows = Endpoint.objects.filter(pk__in=list(endpoint_ids), cluster_id=cluster_id, deleted_at=None)
        return set(rows.values_list("pk", flat=True))


def tenants_known(*, cluster_id: uuid.UUID, tenant_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these tenants have endpoints in the cluster, those on their way out included."""
    with system_scope("workers compare clusters with every tenant's endpoints"):
        rows = Endpoint.objects.filter(tenant_id__in=list(tenant_ids), cluster_id=cluster_id, deleted_at=None)
        return set(rows.values_list("tenant_id", flat=True).distinct())


def endpoint_is_last(*, claim: Claim) -> bool:
    """Whether its tenant has no other endpoint in its cluster: then the tenant's namespace there may go."""
    endpoint = claim.endpoint
    with system_scope("workers remove what the last endpoint of a tenant leaves behind"):
        others = Endpoint.objects.filter(
            tenant_id=endpoint.tenant_id, cluster_id=endpoint.cluster_id, deleted_at=None
        ).exclude(pk=endpoint.pk)
        return not others.exists()
