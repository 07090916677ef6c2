"""Watches one Kubernetes cluster: pods and workloads of ours. What changed is hinted at; nothing is decided here.

Two of these are harmless, none is too: the periodic resync finds everything. Which pods an endpoint has is known from
here, so that logs are read without searching.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from freehold.common.logging import get_logger
from workers.manifests.kubernetes import names
from workers.runtimes.kubernetes import resources
from workers.runtimes.kubernetes.client import Api, Json
from workers.runtimes.kubernetes.logs import PodLogs
from workers.runtimes.kubernetes.pods import blocker_of, pod_of, replica_of
from workers.runtimes.kubernetes.resources import Resource
from workers.runtimes.kubernetes.runtime import reading
from workers.watch.logs import LogTails
from workers.watch.stream import Stream

log = get_logger(__name__)

LOG_SECONDS: Final = 1.0


@dataclass(frozen=True)
class SeenPod:
    """What of a pod matters: its replica's state and whatever explains it."""

    namespace: str
    replica: str
    state: str
    host: str
    why: str


@dataclass(frozen=True)
class SeenWorkload:
    """What of a workload matters: that it is there as it was, and whether its pods cannot be made."""

    generation: int
    deleting: bool
    blocked: str


class ClusterWatch:
    """Threads for one cluster: one for each kind, one for logs.

    Attributes:
        name: for the log.
    """

    def __init__(self, api: Api, *, cluster: str, name: str, groups: bool, port: int) -> None:
        self.name = name
        self._api = api
        self._selector = names.selector(cluster)
        self._port = port
        self._logs = PodLogs(api, cluster)
        self._stop = threading.Event()
        workloads = [resources.DEPLOYMENT, *([resources.LEADER_WORKER_SET] if groups else [])]
        self._looks: dict[Resource, Callable[[Json], tuple[str, Hashable] | None]] = {
            resources.POD: self._pod,
            **dict.fromkeys(workloads, _workload),
        }
        self._streams = {resource: self._stream(resource) for resource in self._looks}
        self._log_thread = threading.Thread(target=self._tail_logs, name=f"logs {name}", daemon=True)

    def start(self) -> None:
        """Begins."""
        for stream in self._streams.values():
            stream.start()
        self._log_thread.start()

    def stop(self) -> None:
        """Ends soon; does not wait."""
        self._stop.set()
        for stream in self._streams.values():
            stream.stop()
        self._api.close()

    def take(self) -> set[str]:
        """Endpoints (public ids) of which something changed. Watches that hang are begun anew."""
        for resource, stream in list(self._streams.items()):
            if stream.stalled:
                log.error("watch_stalled", cluster=self.name, kind=resource.kind)
                stream.stop()
                self._streams[resource] = fresh = stream.replacement()
                fresh.start()
        return set().union(*(stream.take() for stream in self._streams.values()))

    @property
    def synced(self) -> bool:
        """Whether every kind has been listed."""
        return all(stream.synced for stream in self._streams.values())

    # LogTails' source

    def replicas(self, endpoint: str) -> list[str]:
        """Ids of an endpoint's replicas here."""
        return sorted(seen.replica for seen in self._pods(endpoint))

    def log_tail(self, endpoint: str, replica: str, *, lines: int) -> list[str]:
        """Raises RuntimeUnavailable."""
        for seen in self._pods(endpoint):
            if seen.replica == replica:
                with reading():
                    return self._logs.of_pod(seen.namespace, pod_of(replica), lines=lines)
        return []

    def _pods(self, endpoint: str) -> list[SeenPod]:
        return [
            seen
            for owner, seen in self._streams[resources.POD].objects()
            if owner == endpoint and isinstance(seen, SeenPod)
        ]

    def _tail_logs(self) -> None:
        tails = LogTails(self)
        while not self._stop.wait(LOG_SECONDS):
            tails.tick()

    def _stream(self, resource: Resource) -> Stream:
        return Stream(self._api, resource, selector=self._selector, look=self._looks[resource])

    def _pod(self, pod: Json) -> tuple[str, Hashable] | None:
        replica = replica_of(pod, port=self._port)
        if replica is None:
            return None
        why = " ".join(part.reason for part in (replica.exit, replica.blocker) if part is not None)
        namespace = pod["metadata"]["namespace"]
        return replica.endpoint, SeenPod(namespace, replica.id, replica.state.value, replica.host, why)


def _workload(workload: Json) -> tuple[str, Hashable] | None:
    metadata = workload["metadata"]
    endpoint = (metadata.get("labels") or {}).get(names.ENDPOINT)
    if endpoint is None:
        return None
    blocker = blocker_of(workload)
    return endpoint, SeenWorkload(
        int(metadata.get("generation") or 0),
        bool(metadata.get("deletionTimestamp")),
        blocker.message if blocker is not None else "",
    )
