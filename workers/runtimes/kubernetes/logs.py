"""Logs of replicas: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#get-read-log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from workers.manifests.kubernetes import names
from workers.runtimes.kubernetes import resources
from workers.runtimes.kubernetes.client import Api, ApiError
from workers.runtimes.kubernetes.pods import pod_of

_NOT_YET: Final = frozenset({400, 404})  # the container waits to start, or has never run before; the pod is gone
_LIMIT_BYTES: Final = 256 * 1024


class PodLogs:
    """Reads pods' logs. Raises ApiError, RuntimeUnavailable."""

    def __init__(self, api: Api, cluster: str) -> None:
        self._api = api
        self._selector = names.selector(cluster)

    def tail(self, endpoint: str, replica: str, *, lines: int) -> list[str]:
        """The newest lines, oldest first. Its pod is found by the endpoint's label; empty where it is gone."""
        pod = pod_of(replica)
        selector = f"{self._selector},{names.ENDPOINT}={endpoint}"
        for found in self._api.list(resources.POD, selector=selector, fields=f"metadata.name={pod}", metadata=True):
            return self.of_pod(found["metadata"]["namespace"], pod, lines=lines)
        return []

    def of_pod(self, namespace: str, pod: str, *, lines: int) -> list[str]:
        """The newest lines of a pod whose namespace is known: of the engine, of the engine that ended before, or of
        the fetcher."""
        for text in self._candidates(namespace, pod, lines):
            if text.strip():
                # NUL bytes are replaced: neither PostgreSQL nor JSON readers take them in text.
                return text.replace("\0", "\N{REPLACEMENT CHARACTER}").splitlines()[-lines:]
        return []

    def _candidates(self, namespace: str, pod: str, lines: int) -> Iterator[str]:
        path = resources.POD.path(namespace, pod) + "/log"
        for container, previous in (
            (names.ENGINE_CONTAINER, False),
            (names.ENGINE_CONTAINER, True),
            (names.FETCH_CONTAINER, False),
            (names.FETCH_CONTAINER, True),
        ):
            query = {"container": container, "tailLines": lines, "limitBytes": _LIMIT_BYTES}
            if previous:
                query["previous"] = "true"
            try:
                yield self._api.text(path, query)
            except ApiError as error:
                if error.status not in _NOT_YET:
                    raise
