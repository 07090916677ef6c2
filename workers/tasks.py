"""Celery's interface to the workers: ids in, one call, nothing else. All are safe to run twice, or at once."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from celery import shared_task

from freehold.api.idempotency import records_purge
from freehold.billing import publication as billing_publication
from freehold.common import clock
from freehold.common.logging import get_logger
from freehold.fleet.choices import RuntimeKind
from freehold.fleet.models import Cluster
from freehold.operations.services import queue_heartbeat_record
from freehold.registry.imports import imports_due
from freehold.serving import publication as serving_publication
from freehold.serving.events import events_purge
from freehold.serving.selectors import clusters_due
from freehold.tenancy import publication as tenancy_publication
from freehold.wire import hints
from workers.jobs import billing, garbage, imports, metering, storage
from workers.reconcile import clusters

log = get_logger(__name__)

RESYNC_EXPIRES_SECONDS = 10.0
CHECK_EXPIRES_SECONDS = 30.0


@shared_task(name=hints.RECONCILE)
def reconcile(cluster_id: str) -> None:
    """Looks at the due endpoints of one cluster. A disabled one too: nothing new is placed there, what runs is kept
    up."""
    clusters.cluster_reconcile(uuid.UUID(cluster_id))


@shared_task(name="workers.reconcile_due")
def reconcile_due() -> None:
    """The periodic resync: whatever a lost hint left behind is asked for again. One task a cluster: one that does not
    answer holds up no other."""
    for cluster_id in clusters_due(now=clock.now()):
        hints.send(hints.RECONCILE, str(cluster_id), expires=RESYNC_EXPIRES_SECONDS)


@shared_task(name=hints.CHECK_CLUSTER)
def check_cluster(cluster_id: str) -> None:
    """Looks at one cluster itself: reachable, nodes, permissions, orphans."""
    clusters.cluster_check(uuid.UUID(cluster_id))


@shared_task(name="workers.check_clusters")
def check_clusters() -> None:
    """Asks for a look at every Kubernetes cluster."""
    for cluster_id in Cluster.objects.filter(runtime=RuntimeKind.KUBERNETES.value).values_list("pk", flat=True):
        hints.send(hints.CHECK_CLUSTER, str(cluster_id), expires=CHECK_EXPIRES_SECONDS)


@shared_task(name="workers.purge_events")
def purge_events() -> None:
    """Events of endpoints that are older than anybody asks for."""
    events_purge()


@shared_task(name="workers.publish_all")
def publish_all() -> None:
    """Publishes the whole data plane's snapshot; repairs what a lost publication left behind."""
    changed = tenancy_publication.publish_all() + serving_publication.publish_all() + billing_publication.publish_all()
    if changed:
        log.info("data_plane_repaired", fields=changed)


@shared_task(name=hints.DRAIN_USAGE)
def drain_usage() -> None:
    """Usage from the stream into PostgreSQL."""
    metering.drain()


@shared_task(name=hints.IMPORT, acks_late=False)
def import_models() -> None:
    """One turn of one import; the next is asked for at once. On the queue `transfers`: a turn takes minutes."""
    if imports.import_next() and imports_due(now=clock.now()):
        hints.send(hints.IMPORT, queue=hints.TRANSFERS)


@shared_task(name=hints.VERIFY, acks_late=False)
def verify_contents() -> None:
    """Hashes content that nobody has hashed, for a turn; the next is asked for at once. On the queue `transfers`."""
    if storage.contents_verify():
        hints.send(hints.VERIFY, queue=hints.TRANSFERS)


@shared_task(name=hints.COLLECT_GARBAGE)
def collect_garbage(tenant_id: str = "") -> None:
    """Removes content that is used no more, of one tenant or of all, for a turn; the next is asked for at once."""
    if garbage.collect(uuid.UUID(tenant_id) if tenant_id else None):
        hints.send(hints.COLLECT_GARBAGE, *([tenant_id] if tenant_id else []))


@shared_task(name="workers.sweep_storage")
def sweep_storage() -> None:
    """Removes from the object store what no row speaks of."""
    garbage.sweep()


@shared_task(name="workers.post_ledger")
def post_ledger() -> None:
    """Closed hours into the ledger."""
    billing.post_ledger()


@shared_task(name="workers.ensure_money_epoch")
def ensure_money_epoch() -> None:
    """Balances again, and then their epoch, where Redis has lost it."""
    billing.ensure_money_epoch()


@shared_task(name="workers.ensure_partitions")
def ensure_partitions() -> None:
    """Next months' partitions of UsageEvent."""
    metering.partitions_ensure()


@shared_task(name="workers.purge_idempotency_records")
def purge_idempotency_records() -> None:
    """Answers kept for Idempotency-Key, once nobody may ask for them again."""
    records_purge()


@shared_task(name=hints.HEARTBEAT, bind=True)
def heartbeat(task: Any, queue: str, sent_at: str) -> None:
    """Proves that the queue is worked off: a row in PostgreSQL says when the newest of these came through."""
    queue_heartbeat_record(
        queue=queue,
        sent_at=datetime.fromisoformat(sent_at),
        consumed_at=clock.now(),
        worker=task.request.hostname or "",
    )
