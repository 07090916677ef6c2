"""What workers do with a whole cluster: reconcile what is due there, look at the cluster itself, remove orphans.

A cluster that does not answer holds up nobody else: it is left alone for a while (fleet's retry_at), and its endpoints
say Unknown meanwhile. Nothing of it is changed or deleted.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from freehold.common import clock
from freehold.common.errors import InvalidInput, NotFound
from freehold.common.logging import get_logger
from freehold.fleet.choices import RuntimeKind
from freehold.fleet.observations import (
    WorkCluster,
    cluster_get_for_work,
    cluster_record_facts,
    cluster_record_orphans,
    cluster_record_unreachable,
)
from freehold.serving.claims import endpoints_claim, endpoints_known, endpoints_wake, tenants_known
from freehold.wire import hints
from workers.reconcile.loop import AWAY, Pass, mark_unreachable, reconcile_cluster
from workers.reconcile.orphans import orphans, owners
from workers.runtimes.base import RuntimeUnavailable, StepRefused
from workers.runtimes.registry import kubernetes_runtime, runtime_of

log = get_logger(__name__)

_MISCONFIGURED = "The cluster is not set up as it should be. Ask the operator."
_SEEN_OF_AWAY = 2_000


def cluster_reconcile(cluster_id: uuid.UUID) -> Pass:
    """One pass over a cluster's due endpoints; another is asked for where there is more to do."""
    cluster = _cluster(cluster_id)
    if cluster is None:
        return Pass()
    if (left := _left_alone_seconds(cluster)) > 0:
        mark_unreachable(endpoints_claim(cluster_id=cluster_id, limit=_SEEN_OF_AWAY), AWAY, seconds=left)
        return Pass(unreachable=AWAY)
    try:
        runtime = runtime_of(cluster)
    except RuntimeUnavailable as error:
        done = Pass(unreachable=str(error))
        mark_unreachable(endpoints_claim(cluster_id=cluster_id, limit=_SEEN_OF_AWAY), AWAY)
    else:
        done = reconcile_cluster(cluster_id, runtime)
    if done.unreachable and cluster.runtime is not RuntimeKind.LOCAL:
        cluster_record_unreachable(cluster_id=cluster_id, message=done.unreachable)
    elif done.claimed and cluster.retry_at is not None:
        hints.send(hints.CHECK_CLUSTER, str(cluster_id))  # it was away and is back
    if done.unfinished:
        hints.send(hints.RECONCILE, str(cluster_id))
    return done


def cluster_check(cluster_id: uuid.UUID) -> None:
    """Looks at a cluster itself: whether it answers, its nodes, what we may do; then removes what nobody knows."""
    cluster = _cluster(cluster_id)
    if cluster is None or cluster.runtime is RuntimeKind.LOCAL:
        return
    try:
        runtime = kubernetes_runtime(cluster)
        if not cluster_record_facts(cluster_id=cluster_id, facts=runtime.facts()):
            return
        if cluster.retry_at is not None and endpoints_wake(cluster_id=cluster_id):
            hints.send(hints.RECONCILE, str(cluster_id))
        found = _cluster(cluster_id)  # whether it has LeaderWorkerSets may have changed just now
        if found is not None:
            _sweep(found)
    except RuntimeUnavailable as error:
        cluster_record_unreachable(cluster_id=cluster_id, message=str(error))
        log.warning("cluster_unreachable", cluster=cluster.name, error=str(error))


def _sweep(cluster: WorkCluster) -> None:
    runtime = kubernetes_runtime(cluster)
    timing = cluster.settings.timing
    belongings = runtime.inventory()
    found = orphans(
        belongings,
        endpoints_known=lambda keys: endpoints_known(cluster_id=cluster.id, endpoint_ids=keys),
        tenants_known=lambda keys: tenants_known(cluster_id=cluster.id, tenant_ids=keys),
        grace=timedelta(seconds=timing.orphan_grace),
        now=clock.now(),
    )
    lost = owners(found, belongings)
    if len(lost) > timing.orphans_at_once:
        log.error("orphans_left", cluster=cluster.name, endpoints=len(lost))
        cluster_record_orphans(cluster_id=cluster.id, left=len(lost))
        return
    cluster_record_orphans(cluster_id=cluster.id, left=0)
    for action in found:
        try:
            runtime.apply(action, endpoint="", fetch_token=None)
        except StepRefused as error:
            log.warning("orphan_kept", cluster=cluster.name, object=str(action.object), error=str(error))
        else:
            log.info("orphan_removed", cluster=cluster.name, object=str(action.object), reason=action.reason)


def _cluster(cluster_id: uuid.UUID) -> WorkCluster | None:
    try:
        return cluster_get_for_work(cluster_id=cluster_id)
    except NotFound:
        return None
    except InvalidInput as error:
        # It was checked when it was stored; a later version takes less. The operator sees it on the cluster.
        cluster_record_unreachable(cluster_id=cluster_id, message=error.message, reason="Misconfigured")
        mark_unreachable(endpoints_claim(cluster_id=cluster_id, limit=_SEEN_OF_AWAY), _MISCONFIGURED)
        return None


def _left_alone_seconds(cluster: WorkCluster) -> float:
    if cluster.retry_at is None:
        return 0.0
    return (cluster.retry_at - clock.now()).total_seconds()
