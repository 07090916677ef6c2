"""KubernetesRuntime: objects in a cluster by server-side apply, replicas as its pods.

Writes have one field manager and own only what manifests set. Nothing is kept between calls but connections.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

from freehold.common.errors import InvalidInput
from freehold.fleet.cluster_settings import ClusterSettings
from freehold.fleet.facts import ClusterFacts
from workers.manifests.kubernetes import names
from workers.manifests.kubernetes.endpoint import endpoint_objects
from workers.manifests.kubernetes.manifest import Manifest
from workers.manifests.kubernetes.tenant import tenant_objects
from workers.manifests.spec import WorkloadSpec
from workers.runtimes.base import (
    Action,
    Belonging,
    FetchToken,
    ObjectKey,
    Observed,
    Pace,
    RuntimeUnavailable,
    Scope,
    StepRefused,
    Verb,
    Wanted,
)
from workers.runtimes.kubernetes import resources
from workers.runtimes.kubernetes.client import Api, ApiError
from workers.runtimes.kubernetes.discovery import cluster_facts
from workers.runtimes.kubernetes.logs import PodLogs
from workers.runtimes.kubernetes.observation import Observation, inventory

PACE: Final = Pace(steady=30.0, moving=10.0, blocked=10.0)
BATCH: Final = 2_000
PARALLEL: Final = 8
_WORKLOADS: Final = frozenset({"Deployment", "LeaderWorkerSet"})
# `conflict with "kubectl-edit" with subresource "scale" using apps/v1 at …` (apimachinery, util/managedfields)
_CONFLICT: Final = re.compile(r'conflict with "([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Target:
    """Which cluster, and how it is used.

    Attributes:
        cluster: public id (`cls_…`).
        groups: whether it has LeaderWorkerSets.
        settings: with `images.fetcher` and `network.hub_url` filled in.
    """

    cluster: str
    groups: bool
    settings: ClusterSettings


class KubernetesRuntime:
    """Runtime (runtimes/base.py) in one Kubernetes cluster."""

    keeps_objects = True
    pace = PACE
    batch = BATCH
    parallel = PARALLEL

    def __init__(self, api: Api, target: Target) -> None:
        self._api = api
        self._target = target
        self._tenant_objects = lru_cache(maxsize=4096)(self._make_tenant_objects)
        self.drain = timedelta(seconds=target.settings.timing.drain)

    # Observe

    def observe(self, scope: Scope | None = None) -> Observed:
        """One list per kind. Raises RuntimeUnavailable."""
        settings = self._target.settings
        with reading():
            return Observation(
                self._api,
                self._target.cluster,
                prefix=settings.namespace_prefix,
                claims=settings.weights_cache.kind == "pvc",
                groups=self._target.groups,
                port=settings.engine_port,
            ).look(scope)

    def log_tail(self, endpoint: str, replica: str, *, lines: int) -> list[str]:
        """The newest lines of a replica's log: the engine's, or the fetcher's before there is an engine. Raises
        RuntimeUnavailable."""
        with reading():
            return PodLogs(self._api, self._target.cluster).tail(endpoint, replica, lines=lines)

    def facts(self) -> ClusterFacts:
        """Version, nodes, permissions. Raises RuntimeUnavailable."""
        settings = self._target.settings
        with reading():
            return cluster_facts(self._api, cluster=self._target.cluster, tolerations=settings.scheduling.tolerations)

    def inventory(self) -> list[Belonging]:
        """Everything of ours, by name alone. Raises RuntimeUnavailable."""
        settings = self._target.settings
        with reading():
            found = inventory(
                self._api,
                self._target.cluster,
                prefix=settings.namespace_prefix,
                claims=settings.weights_cache.kind == "pvc",
                groups=self._target.groups,
            )
            return list(found)

    # Want

    def wanted(self, spec: WorkloadSpec, *, tenant_slug: str) -> Wanted:
        """The objects for an endpoint and its tenant. Raises StepRefused for what this cluster cannot have."""
        settings = self._target.settings
        if not settings.images.fetcher:
            raise StepRefused(
                "The cluster's settings name no image for fetching weights (images.fetcher). Ask the operator to set "
                "it."
            )
        if spec.flavor.nodes > 1 and not self._target.groups:
            raise StepRefused(
                f"A replica of the flavor {spec.flavor.name} spans {spec.flavor.nodes} nodes, and the cluster has no "
                "LeaderWorkerSets (leaderworkerset.x-k8s.io/v1). Ask the operator to install them, or take a flavor "
                "that fits one node."
            )
        try:
            return Wanted(
                tenant=self._tenant_objects(spec.weights.tenant, tenant_slug),
                endpoint=endpoint_objects(spec, settings),
            )
        except InvalidInput as error:
            raise StepRefused(f"{error.message} Ask the operator.") from error

    def _make_tenant_objects(self, tenant: str, slug: str) -> tuple[Manifest, ...]:
        return tenant_objects(tenant=tenant, slug=slug, cluster=self._target.cluster, settings=self._target.settings)

    # Apply

    def apply(self, action: Action, *, endpoint: str, fetch_token: FetchToken | None) -> str:
        """Does one step. Raises StepRefused, RuntimeUnavailable."""
        key = action.object
        if key is None:
            raise ValueError(f"{action.verb} of a replica is not a step here: pods are the cluster's own")
        resource = resources.BY_KIND[key.kind]
        with writing(key):
            if action.verb is Verb.DELETE:
                foreground = key.kind in _WORKLOADS
                self._api.delete(resource, key.namespace, key.name, uid=action.uid, foreground=foreground)
                return ""
            if action.manifest is None:
                raise ValueError(f"{action.verb} of {key} is not a step")
            manifest = action.manifest if fetch_token is None else with_token(action.manifest, fetch_token)
            try:
                self._api.apply(resource, manifest)
            except ApiError as error:
                if error.status != 409:
                    raise
                self._api.apply(resource, manifest, force=True)
                return taken_back(error)
            return ""


def with_token(manifest: Mapping[str, Any], token: FetchToken) -> dict[str, Any]:
    """The Secret's manifest with its content, and until when that is good."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), names.TOKEN_EXPIRES: token.expires_at.isoformat()}
    return {
        **manifest,
        "metadata": {**metadata, "annotations": annotations},
        "data": {
            names.TOKEN_KEY: base64.b64encode(token.secret.encode()).decode(),
            names.REPO_KEY: base64.b64encode(token.repo.encode()).decode(),
        },
    }


def taken_back(conflict: ApiError) -> str:
    """Which fields another manager had set otherwise; they are ours again. Empty for a conflict about no field:
    somebody wrote at the same moment."""
    causes = conflict.details.get("causes") or ()
    if not causes:
        return ""
    fields = ", ".join(str(cause.get("field", "")) for cause in causes[:3] if cause.get("field"))
    who = {match[1] for cause in causes if (match := _CONFLICT.match(str(cause.get("message", ""))))}
    by = ", ".join(sorted(who))
    return "taken back" + (f" from {by}" if by else "") + (f": {fields}" if fields else "")


@contextmanager
def reading() -> Iterator[None]:
    """A cluster that will not be read is one of which nothing is known."""
    try:
        yield
    except ApiError as error:
        if error.status == 401:
            raise RuntimeUnavailable(
                "The cluster does not take our credentials any more. The operator must give it a new kubeconfig."
            ) from error
        raise RuntimeUnavailable(f"The cluster refuses to be read: {error.message}") from error


@contextmanager
def writing(key: ObjectKey) -> Iterator[None]:
    """What the server says of one object is that object's; what it says of us, or of itself, is the cluster's."""
    try:
        yield
    except ApiError as error:
        if error.status == 401:
            raise RuntimeUnavailable("The cluster does not take our credentials any more.") from error
        if error.status in {502, 503, 504}:
            raise RuntimeUnavailable(f"The cluster does not serve: {error.message}") from error
        raise StepRefused(_refusal(key, error)) from error


def _refusal(key: ObjectKey, error: ApiError) -> str:
    if error.status == 403 and "being terminated" in error.message:
        return (
            f"{key}: the tenant's namespace {key.namespace} is still being removed; it is made again once it is gone."
        )
    if error.status == 404 and not error.reason:
        return f"{key}: the cluster does not know the kind {key.kind}. Ask the operator to install it."
    if error.status == 404:
        return f"{key}: its namespace {key.namespace} is not there (yet)."
    if error.status == 429:
        return f"{key}: the cluster is busy and asks for patience."
    return f"The cluster refuses {key}: {error.message}"
