"""What an operator may decide about a Kubernetes cluster, as one validated document (Cluster.settings).

Manifests are made from these and from an endpoint's spec, and from nothing else: a value that somebody might want to
change is here and not in code. Names and shapes are Kubernetes' own where Kubernetes has one (a toleration is a
toleration). Sizes are Kubernetes quantities (`100Gi`), durations are seconds. Pure: no Django.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from freehold.common import ports
from freehold.common.errors import InvalidInput

Labels = dict[str, str]
Peer = dict[str, Any]  # a NetworkPolicyPeer: ipBlock, namespaceSelector, podSelector


class Frozen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every struct here: unknown fields are errors, so that a misspelt one is not silently ignored."""


class Images(Frozen):
    """Attributes:
    engine: repository of the engine's image; the endpoint's pinned digest follows it.
    fetcher: the whole reference of the platform's image, by digest; it fetches weights. Empty: not set yet, and
        nothing is started.
    pull_secrets: names of Secrets that tenants' namespaces have (a replicator puts them there).
    pull_policy: Kubernetes' imagePullPolicy.
    """

    engine: str = "docker.io/vllm/vllm-openai"
    fetcher: str = ""
    pull_secrets: tuple[str, ...] = ()
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"


class Port(Frozen):
    """One NetworkPolicyPort."""

    port: int
    protocol: Literal["TCP", "UDP"] = "TCP"


class Network(Frozen):
    """Who may reach engines, and whom they may reach.

    Attributes:
        gateway, metrics: peers that may reach the engine's port. Empty `metrics`: nobody scrapes.
        dns, hub, object_store: peers and ports that init containers and engines may reach. A hub or store outside of
            the cluster is an ipBlock.
        blocked: addresses that no ipBlock of ours ever includes; the clouds' metadata services by default.
        hub_url: origin of the hub as pods reach it; empty for the installation's public address.
    """

    gateway: tuple[Peer, ...] = (
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "freehold"}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/component": "gateway"}},
        },
    )
    metrics: tuple[Peer, ...] = ()
    dns: tuple[Peer, ...] = (
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        },
    )
    dns_ports: tuple[Port, ...] = (Port(port=53, protocol="UDP"), Port(port=53))
    hub: tuple[Peer, ...] = (
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "freehold"}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/component": "web"}},
        },
    )
    hub_ports: tuple[Port, ...] = (Port(port=ports.WEB),)
    object_store: tuple[Peer, ...] = ()
    object_store_ports: tuple[Port, ...] = (Port(port=443),)
    blocked: tuple[str, ...] = ("169.254.0.0/16", "fd00:ec2::254/128", "100.100.100.200/32")
    hub_url: str = ""


class WeightsCache(Frozen):
    """Where weights lie on the way to an engine.

    Attributes:
        kind: `emptyDir` (of the pod: fetched again for every pod) or `pvc` (one a tenant, shared by its endpoints).
        size: of the claim; an emptyDir is as large as the model needs.
        storage_class: of the claim; empty for the cluster's default.
        access_mode: ReadWriteMany unless all of a tenant's pods run on one node.
    """

    kind: Literal["emptyDir", "pvc"] = "emptyDir"
    size: str = "1Ti"
    storage_class: str = ""
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce"] = "ReadWriteMany"


class Resources(Frozen):
    """What a replica asks for besides accelerators, per accelerator; and the room around it.

    Attributes:
        shared_memory: of /dev/shm, for the whole replica (NCCL and vLLM's workers speak through it).
        scratch: of /tmp and the compile caches.
    """

    cpu_per_accelerator: str = "4"
    memory_per_accelerator: str = "32Gi"
    cpu_of_fetcher: str = "1"
    memory_of_fetcher: str = "512Mi"
    shared_memory: str = "16Gi"
    scratch: str = "20Gi"


class Scheduling(Frozen):
    """Pod fields that go through verbatim; an accelerator's own labels and resource come from the flavor.

    Attributes:
        spread_by: topology keys over which an endpoint's replicas are spread (whenUnsatisfiable: ScheduleAnyway).
    """

    node_selector: Labels = {}
    tolerations: tuple[dict[str, Any], ...] = ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},)
    priority_class: str = ""
    runtime_class: str = ""
    scheduler: str = ""
    spread_by: tuple[str, ...] = ("kubernetes.io/hostname",)
    pod_labels: Labels = {}
    pod_annotations: Labels = {}


class Quota(Frozen):
    """What a tenant's namespace may hold: a ResourceQuota's `hard` and a LimitRange's defaults."""

    hard: Labels = msgspec.field(
        default_factory=lambda: {"pods": "256", "services": "256", "secrets": "512", "persistentvolumeclaims": "8"}
    )
    default_request: Labels = msgspec.field(default_factory=lambda: {"cpu": "100m", "memory": "128Mi"})
    default_limit: Labels = msgspec.field(default_factory=lambda: {"cpu": "1", "memory": "512Mi"})


class Timing(Frozen):
    """How long things may take, in seconds.

    Attributes:
        start_base, load_bytes_per_second: an engine is given start_base + weights / load_bytes_per_second to answer.
        fetch_bytes_per_second: slowest rate of fetching that still counts as progress.
        withdraw: between a pod's end being asked for and vLLM's SIGTERM; gateways follow the routes meanwhile.
        shutdown: `--shutdown-timeout`: what streams under way get.
        drain: between an endpoint's routes being withdrawn and its workload being deleted.
    """

    start_base: int = 600
    load_bytes_per_second: int = 200 * 1024 * 1024
    fetch_bytes_per_second: int = 20 * 1024 * 1024
    withdraw: int = 5
    shutdown: int = 120
    drain: int = 5


class ClusterSettings(Frozen):
    """Everything. The default is a plain cluster with NVIDIA's device plugin and Freehold in the namespace `freehold`.

    Attributes:
        namespace_prefix: of tenants' namespaces.
        user_id: as whom pods run; not root.
        engine_arguments: vLLM flags for every engine of the cluster, after the endpoint's own.
        engine_environment: for every engine.
        engine_port: on which engines listen.
    """

    namespace_prefix: str = "fh-"
    images: Images = Images()
    network: Network = Network()
    weights_cache: WeightsCache = WeightsCache()
    resources: Resources = Resources()
    scheduling: Scheduling = Scheduling()
    quota: Quota = Quota()
    timing: Timing = Timing()
    user_id: int = 65532
    engine_arguments: tuple[str, ...] = ()
    engine_environment: Labels = {}
    engine_port: int = 8000


def parse(document: Mapping[str, Any]) -> ClusterSettings:
    """The settings that a document (Cluster.settings) describes; what is absent has its default.

    Raises InvalidInput that names the field.
    """
    try:
        return msgspec.convert(document, ClusterSettings)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The cluster's settings are not valid: {error}.", field="settings") from None
