"""Which runtime drives a cluster. Runtimes are kept while what they are made from stays the same."""

from __future__ import annotations

import threading
import uuid
from functools import cache

import msgspec

from freehold.common import env, ports
from freehold.common.errors import InvalidInput
from freehold.fleet import cluster_settings
from freehold.fleet.choices import ClusterAccess, RuntimeKind
from freehold.fleet.cluster_settings import ClusterSettings
from freehold.fleet.observations import WorkCluster
from workers.runtimes.base import Runtime, RuntimeUnavailable
from workers.runtimes.kubernetes.client import Api
from workers.runtimes.kubernetes.runtime import KubernetesRuntime, Target
from workers.runtimes.local.runtime import LocalRuntime, LocalSettings

_lock = threading.Lock()
_kept: dict[uuid.UUID, tuple[object, KubernetesRuntime]] = {}


def runtime_of(cluster: WorkCluster) -> Runtime:
    """The runtime of a cluster. Raises RuntimeUnavailable where its account cannot be used."""
    return local_runtime() if cluster.runtime is RuntimeKind.LOCAL else kubernetes_runtime(cluster)


@cache
def local_runtime() -> Runtime:
    """The runtime of this machine."""
    return LocalRuntime(LocalSettings.from_environment())


def kubernetes_runtime(cluster: WorkCluster) -> KubernetesRuntime:
    """The runtime of a Kubernetes cluster. Raises RuntimeUnavailable where its account cannot be used."""
    made_from = (cluster.access, cluster.credentials, cluster.settings, cluster.has_leader_worker_sets)
    with _lock:
        known = _kept.get(cluster.id)
        if known is None or known[0] != made_from:
            # One that is replaced is closed when its last call ends: somebody may be using it.
            known = _kept[cluster.id] = (made_from, KubernetesRuntime(api_of(cluster), target_of(cluster)))
        return known[1]


def api_of(cluster: WorkCluster) -> Api:
    """Connections to a cluster. Raises RuntimeUnavailable where its account cannot be used."""
    if cluster.access is ClusterAccess.IN_CLUSTER:
        return Api.of_this_cluster()
    if cluster.credentials is None:
        raise RuntimeUnavailable("The cluster has no kubeconfig. The operator must give it one.")
    return Api.of_access(cluster.credentials)


def target_of(cluster: WorkCluster) -> Target:
    """A cluster with what its settings leave to the installation: our own image, the hub's address, and in the cluster
    that the workers themselves run in the namespace where web and gateways are.

    Raises RuntimeUnavailable where the installation itself is set up wrongly.
    """
    try:
        settings = _completed(cluster.settings, own=cluster.access is ClusterAccess.IN_CLUSTER)
    except InvalidInput as error:
        raise RuntimeUnavailable(f"The installation is not set up as it should be: {error.message}") from error
    return Target(cluster=cluster.public_id, groups=cluster.has_leader_worker_sets, settings=settings)


def _completed(settings: ClusterSettings, *, own: bool) -> ClusterSettings:
    images, network = settings.images, settings.network
    if not images.fetcher:
        images = msgspec.structs.replace(images, fetcher=env.text("FREEHOLD_PLATFORM_IMAGE", ""))
    if own and (namespace := env.text("FREEHOLD_NAMESPACE", "")):
        network = cluster_settings.in_namespace(network, namespace)
    if not network.hub_url:
        public = env.text("FREEHOLD_PUBLIC_URL", f"http://{ports.HOST}:{ports.WEB}")
        url = env.text("FREEHOLD_HUB_URL", public) if own else public
        network = msgspec.structs.replace(network, hub_url=url)
    return msgspec.structs.replace(settings, images=images, network=network)
