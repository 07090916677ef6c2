"""Which clusters are watched: all that the fleet has, looked up again and again. What changed is told to workers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection
from typing import Final, Protocol

import redis
from django.db import DatabaseError

from freehold.common.errors import FreeholdError, NotFound
from freehold.common.logging import get_logger
from freehold.fleet.choices import RuntimeKind
from freehold.fleet.models import Cluster
from freehold.fleet.observations import WorkCluster, cluster_get_for_work
from freehold.serving.claims import endpoints_touch
from freehold.serving.models import Endpoint
from freehold.wire import hints
from workers.runtimes.base import RuntimeUnavailable
from workers.runtimes.registry import api_of, local_runtime, target_of
from workers.watch.kubernetes import ClusterWatch
from workers.watch.local import LocalWatch

log = get_logger(__name__)

REFRESH_SECONDS: Final = 5.0
QUIET_SECONDS: Final = 2.0


class Watch(Protocol):
    """One cluster's."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def take(self) -> set[str]:
        """Public ids of endpoints of which something changed. Raises RuntimeUnavailable."""
        ...


class ClusterWatches:
    """Keeps one watch a cluster. `tick` never raises for the outside world: what could not be told is told later."""

    def __init__(self) -> None:
        self._watches: dict[uuid.UUID, tuple[object, Watch]] = {}
        self._untold: set[str] = set()
        self._refresh_at = 0.0
        self._quiet_until = 0.0

    def tick(self) -> None:
        """Looks at everything once; does not block for longer than the database does."""
        if time.monotonic() < self._quiet_until:
            return
        try:
            if time.monotonic() >= self._refresh_at:
                self._refresh()
                self._refresh_at = time.monotonic() + REFRESH_SECONDS
            for _, watch in self._watches.values():
                self._untold |= watch.take()
            if self._untold:
                tell(self._untold)
                self._untold = set()
        except (RuntimeUnavailable, DatabaseError, redis.RedisError) as error:
            log.warning("watch_interrupted", error=str(error))
            self._quiet_until = time.monotonic() + QUIET_SECONDS

    def stop(self) -> None:
        """Ends all."""
        for _, watch in self._watches.values():
            watch.stop()
        self._watches.clear()

    def _refresh(self) -> None:
        keys = list(Cluster.objects.values_list("pk", flat=True))
        for gone in self._watches.keys() - set(keys):
            self._watches.pop(gone)[1].stop()
        for key in keys:
            try:
                self._keep(key, cluster_get_for_work(cluster_id=key))
            except (FreeholdError, RuntimeUnavailable) as error:
                # Said on the cluster itself by whoever checks it.
                log.warning("cluster_not_watched", cluster=str(key), error=str(error))
            except DatabaseError:
                raise
            except Exception:  # whatever is wrong with one cluster, the others are watched
                log.exception("cluster_not_watched", cluster=str(key))

    def _keep(self, key: uuid.UUID, cluster: WorkCluster) -> None:
        made_from = (cluster.access, cluster.credentials, cluster.settings.engine_port, cluster.has_leader_worker_sets)
        known = self._watches.get(key)
        if known is not None and known[0] == made_from:
            return
        watch = watch_of(cluster)
        if known is not None:
            known[1].stop()
        watch.start()
        self._watches[key] = (made_from, watch)


def watch_of(cluster: WorkCluster) -> Watch:
    """A watch that has not begun. Raises RuntimeUnavailable where the cluster's account cannot be used."""
    if cluster.runtime is RuntimeKind.LOCAL:
        return LocalWatch(local_runtime())
    target = target_of(cluster)
    return ClusterWatch(
        api_of(cluster),
        cluster=cluster.public_id,
        name=cluster.name,
        groups=target.groups,
        port=target.settings.engine_port,
    )


def tell(endpoints: Collection[str]) -> None:
    """Makes endpoints due, and hints at their clusters. Ids that are none are nobody's. Raises DatabaseError."""
    keys = {key for endpoint in endpoints if (key := _primary_key(endpoint)) is not None}
    for cluster in endpoints_touch(endpoint_ids=keys):
        hints.send(hints.RECONCILE, str(cluster))


def _primary_key(endpoint: str) -> uuid.UUID | None:
    try:
        return Endpoint.parse_id(endpoint)
    except NotFound:
        return None
