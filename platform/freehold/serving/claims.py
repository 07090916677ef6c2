"""Writes of serving by workers: claims, and what a pass over a cluster observed.

An endpoint is worked on by whoever holds its lock token; a status is written only under that token (0 rows: another
worker has taken over, stop). Desired state is written in services.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from django.db import transaction
from django.db.models import F, Q

from freehold.common import clock
from freehold.common.conditions import merge
from freehold.common.errors import Conflict
from freehold.db.rls import system_scope
from freehold.registry import services as registry
from freehold.serving import publication
from freehold.serving.choices import TRANSITIONS, Phase
from freehold.serving.conditions import EndpointStatus
from freehold.serving.errors import StaleLock
from freehold.serving.models import Endpoint, EndpointSpec
from freehold.wire import hints

LEASE = timedelta(seconds=60)


@dataclass(frozen=True)
class Claim:
    """An endpoint that this worker, and no other, works on until `expires_at`."""

    endpoint: Endpoint
    spec: EndpointSpec
    token: uuid.UUID
    expires_at: datetime


def endpoints_claim(*, cluster_id: uuid.UUID, limit: int = 50) -> list[Claim]:
    """Takes due endpoints of one cluster that nobody works on. Runs in a worker."""
    moment = clock.now()
    token = uuid.uuid4()
    with system_scope("workers reconcile the endpoints of every tenant"):
        due = (
            Endpoint.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(cluster_id=cluster_id, deleted_at=None, next_reconcile_at__lte=moment)
            .filter(Q(lock_token=None) | Q(lock_expires_at__lt=moment))
            .order_by("next_reconcile_at")[:limit]
        )
        claimed = [endpoint.pk for endpoint in due]
        Endpoint.objects.filter(pk__in=claimed).update(lock_token=token, lock_expires_at=moment + LEASE)
        specs = EndpointSpec.objects.select_related(
            "endpoint__tenant", "endpoint__cluster__region", "revision__repo", "flavor"
        ).filter(endpoint_id__in=claimed, generation=F("endpoint__generation"))
        return [Claim(endpoint=spec.endpoint, spec=spec, token=token, expires_at=moment + LEASE) for spec in specs]


def endpoint_status_record(*, claim: Claim, status: EndpointStatus, release: bool = True) -> None:
    """Writes what a pass found and gives the claim back, if its token still holds; raises StaleLock if not.

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
            or current.next_reconcile_at != endpoint.next_reconcile_at
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
        current.conditions = merge(current.conditions, status.conditions, at=moment, keep=unobserved)
        if status.replicas is not None:
            current.replicas_observed = [
                {"id": r.id, "state": r.state, "host": r.host, "port": r.port, "since": r.since.isoformat()}
                for r in status.replicas
            ]
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
            # Nothing is served any more, so its weights may be deleted; the audit trail and usage keep the digests.
            EndpointSpec.objects.filter(endpoint=current).delete()
        current.save()
        if routed_before != (current.phase, current.replicas_observed):
            transaction.on_commit(
                partial(publication.endpoint_publish, tenant_id=current.tenant_id, endpoint_id=current.pk)
            )
        if release and changed_meanwhile:
            transaction.on_commit(partial(hints.send, hints.RECONCILE, str(current.cluster_id)))


def endpoint_release(*, claim: Claim, pause_seconds: float) -> None:
    """Gives a claim back without a status, to be looked at again after a pause; nothing where its token is stale."""
    with system_scope("workers reconcile the endpoints of every tenant"):
        Endpoint.objects.filter(pk=claim.endpoint.pk, lock_token=claim.token).update(
            lock_token=None,
            lock_expires_at=None,
            next_reconcile_at=clock.now() + timedelta(seconds=pause_seconds),
        )


def endpoints_touch(*, endpoint_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Makes endpoints due now; returns the clusters that should be hinted at. Called by the watcher."""
    with system_scope("the watcher speaks of every tenant's endpoints"):
        rows = Endpoint.objects.filter(pk__in=list(endpoint_ids), deleted_at=None)
        clusters = set(rows.values_list("cluster_id", flat=True))
        rows.update(next_reconcile_at=clock.now())
    return clusters
