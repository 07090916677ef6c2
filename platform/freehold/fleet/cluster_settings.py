"""What an operator may decide about a Kubernetes cluster, as one validated document (Cluster.settings).

Manifests are made from these and from an endpoint's spec, and from nothing else: a value that somebody might want to
change is here and not in code. Names and shapes are Kubernetes' own where Kubernetes has one (a toleration is a
toleration). Sizes are Kubernetes quantities (`100Gi`), durations are seconds. Pure: no Django.

Every part checks itself when it is made and raises InvalidInput whose field is the setting's name
(`settings.resources.scratch`): what is here can be applied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from freehold.common import ports
from freehold.common.errors import InvalidInput
from freehold.fleet import kubernetes_syntax as syntax
from freehold.fleet import peers, quantities
from freehold.fleet.peers import Peer

Labels = dict[str, str]

OURS: Final = ("freehold.dev/", "app.kubernetes.io/")  # labels and annotations that no setting sets
# They would break the engine, or open it to what invariants 7 and 8 keep out.
_REFUSED_ARGUMENTS: Final = frozenset(
    {
        "--model", "--served-model-name", "--host", "--port", "--uds", "--headless", "--api-key", "--trust-remote-code",
        "--allowed-local-media-path", "--allowed-media-domains", "--middleware", "--root-path", "--task", "--runner",
        "--tensor-parallel-size", "--pipeline-parallel-size", "--nnodes", "--node-rank", "--master-addr",
        "--shutdown-timeout", "--enable-log-requests", "--no-enable-prompt-tokens-details",
    }
)  # fmt: skip
_REFUSED_VARIABLES: Final = frozenset({"VLLM_SERVER_DEV_MODE", "PYTHONOPTIMIZE", "VLLM_API_KEY", "VLLM_PLUGINS"})
_MAY_BE_ZERO: Final = frozenset({"withdraw", "drain", "orphan_grace"})
_LONGEST: Final = 7 * 86400  # seconds: sums of these stay within what Kubernetes counts
_SLOWEST, _FASTEST = 1024**2, 1024**4  # bytes a second
_LONGEST_ID: Final = "tnt-" + "0" * 26
_NAMESPACE: Final = "freehold"  # where the installation is thought to be
_PATH: Final = re.compile(r"`\$([^`]*)`$")


def _ours(component: str, *, namespace: str = _NAMESPACE) -> Peer:
    """Pods of a component of the installation."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/component": component}},
    }


class Frozen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every struct here: unknown fields are errors, so that a misspelt one is not silently ignored."""


class Images(Frozen, frozen=True):
    """Attributes:
    engine: repository of the engine's image; the endpoint's pinned digest follows it.
    engine_by_resource: other repositories for flavors of other accelerators, by the resource's name
        (`amd.com/gpu: docker.io/rocm/vllm`); `cpu` is for flavors without one.
    fetcher: the whole reference of the platform's image, by digest; it fetches weights. Empty: not set yet, and
        nothing is started.
    pull_secrets: names of Secrets that tenants' namespaces have (a replicator puts them there).
    pull_policy: Kubernetes' imagePullPolicy.
    """

    engine: str = "docker.io/vllm/vllm-openai"
    engine_by_resource: Labels = {}
    fetcher: str = ""
    pull_secrets: tuple[str, ...] = ()
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"

    def __post_init__(self) -> None:
        syntax.repository(self.engine, field="settings.images.engine")
        for resource, repository in self.engine_by_resource.items():
            syntax.label_key(resource, field="settings.images.engine_by_resource")
            syntax.repository(repository, field="settings.images.engine_by_resource")
        if self.fetcher:
            syntax.pinned_image(self.fetcher, field="settings.images.fetcher")
        for name in self.pull_secrets:
            syntax.object_name(name, field="settings.images.pull_secrets")


class Port(Frozen, frozen=True):
    """One NetworkPolicyPort."""

    port: int
    protocol: Literal["TCP", "UDP"] = "TCP"

    def __post_init__(self) -> None:
        syntax.integer(self.port, field="settings.network", least=1, most=65535)


class Network(Frozen, frozen=True):
    """Who may reach engines, and whom they may reach.

    Attributes:
        gateway, metrics: peers that may reach the engine's port. Empty `metrics`: nobody scrapes.
        dns, hub, object_store: peers and ports that init containers and engines may reach. A hub or store outside of
            the cluster is an ipBlock.
        blocked: addresses that no ipBlock of ours ever includes; the clouds' metadata services by default.
        hub_url: origin of the hub as pods reach it. Empty: FREEHOLD_HUB_URL in the cluster that Freehold itself runs
            in, the installation's public address in others.

    The default peers are Freehold's own pods; in the cluster that it runs in, in the namespace where it is.
    """

    gateway: tuple[Peer, ...] = (_ours("gateway"),)
    metrics: tuple[Peer, ...] = ()
    dns: tuple[Peer, ...] = (
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        },
    )
    dns_ports: tuple[Port, ...] = (Port(port=53, protocol="UDP"), Port(port=53))
    hub: tuple[Peer, ...] = (_ours("web"),)
    hub_ports: tuple[Port, ...] = (Port(port=ports.WEB),)
    object_store: tuple[Peer, ...] = ()
    object_store_ports: tuple[Port, ...] = (Port(port=443),)
    blocked: tuple[str, ...] = (
        "169.254.0.0/16",
        "fe80::/10",
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
        "100.100.100.200/32",
        "168.63.129.16/32",
    )
    hub_url: str = ""

    def __post_init__(self) -> None:
        for text in self.blocked:
            peers.network(text, field="settings.network.blocked")
        for name in ("gateway", "metrics", "dns", "hub", "object_store"):
            peers.without(getattr(self, name), self.blocked, field=f"settings.network.{name}")
        if self.hub_url:
            syntax.origin(self.hub_url, field="settings.network.hub_url")


def in_namespace(network: Network, namespace: str) -> Network:
    """With the peers that nobody has set in the installation's real namespace."""
    default = Network()
    moved = {
        name: (_ours(component, namespace=namespace),)
        for name, component in (("gateway", "gateway"), ("hub", "web"))
        if getattr(network, name) == getattr(default, name)
    }
    return msgspec.structs.replace(network, **moved)


class WeightsCache(Frozen, frozen=True):
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

    def __post_init__(self) -> None:
        syntax.quantity(self.size, field="settings.weights_cache.size")
        if self.storage_class:
            syntax.object_name(self.storage_class, field="settings.weights_cache.storage_class")


class Resources(Frozen, frozen=True):
    """What a replica asks for besides accelerators, per accelerator; and the room around it.

    Attributes:
        shared_memory: of /dev/shm of a pod (NCCL and vLLM's workers speak through it); counts against its memory.
        scratch: of /tmp and the compile caches.
        others: what else a pod asks for, by resource (`rdma/hca_shared_devices: 1`).
        reserve_storage: whether pods request the node's disk that their weights and scratch need, so that the scheduler
            looks for room; off for clusters whose nodes do not say what they have.
    """

    cpu_per_accelerator: str = "4"
    memory_per_accelerator: str = "32Gi"
    cpu_of_fetcher: str = "1"
    memory_of_fetcher: str = "512Mi"
    shared_memory: str = "16Gi"
    scratch: str = "20Gi"
    others: Labels = {}
    reserve_storage: bool = True

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, str):
                syntax.quantity(value, field=f"settings.resources.{name}")
        syntax.resources(self.others, field="settings.resources.others")


class Scheduling(Frozen, frozen=True):
    """Pod fields that go through verbatim; an accelerator's own labels and resource come from the flavor.

    Attributes:
        spread_by: topology keys over which an endpoint's replicas are spread (whenUnsatisfiable: ScheduleAnyway).
        group_topology: topology key of which a multi-node replica has one domain for itself (LeaderWorkerSet's
            exclusive-topology); empty for none.
    """

    node_selector: Labels = {}
    tolerations: tuple[dict[str, Any], ...] = ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},)
    priority_class: str = ""
    runtime_class: str = ""
    scheduler: str = ""
    spread_by: tuple[str, ...] = ("kubernetes.io/hostname",)
    group_topology: str = ""
    pod_labels: Labels = {}
    pod_annotations: Labels = {}

    def __post_init__(self) -> None:
        syntax.labels(self.node_selector, field="settings.scheduling.node_selector")
        for toleration in self.tolerations:
            syntax.toleration(toleration, field="settings.scheduling.tolerations")
        for name in ("priority_class", "runtime_class", "scheduler"):
            if value := getattr(self, name):
                syntax.object_name(value, field=f"settings.scheduling.{name}")
        for key in self.spread_by:
            syntax.label_key(key, field="settings.scheduling.spread_by")
        if len(set(self.spread_by)) < len(self.spread_by):
            syntax.refuse("a topology key is named twice.", field="settings.scheduling.spread_by")
        if self.group_topology:
            syntax.label_key(self.group_topology, field="settings.scheduling.group_topology")
        syntax.labels(self.pod_labels, field="settings.scheduling.pod_labels")
        syntax.annotation_keys(self.pod_annotations, field="settings.scheduling.pod_annotations")
        for name in ("pod_labels", "pod_annotations"):
            for key in getattr(self, name):
                if key.startswith(OURS):
                    syntax.refuse(f"{key} is Freehold's own.", field=f"settings.scheduling.{name}")


class Quota(Frozen, frozen=True):
    """What a tenant's namespace may hold: a ResourceQuota's `hard` and a LimitRange's defaults."""

    hard: Labels = msgspec.field(
        default_factory=lambda: {"pods": "256", "services": "256", "secrets": "512", "persistentvolumeclaims": "8"}
    )
    default_request: Labels = msgspec.field(default_factory=lambda: {"cpu": "100m", "memory": "128Mi"})
    default_limit: Labels = msgspec.field(default_factory=lambda: {"cpu": "1", "memory": "512Mi"})

    def __post_init__(self) -> None:
        for name in ("hard", "default_request", "default_limit"):
            syntax.resources(getattr(self, name), field=f"settings.quota.{name}")
        for resource, request in self.default_request.items():
            limit = self.default_limit.get(resource)
            if limit is not None and quantities.parse(request) > quantities.parse(limit):
                syntax.refuse(
                    f"{resource}: {request} is more than default_limit's {limit}.",
                    field="settings.quota.default_request",
                )


class Timing(Frozen, frozen=True):
    """How long things may take, in seconds.

    Attributes:
        pull: what pulling the engine's image may take.
        start_base, load_bytes_per_second: an engine is given start_base + weights / load_bytes_per_second to answer.
        fetch_bytes_per_second: slowest rate of fetching that still counts as progress.
        unresponsive: how long an engine that had started may leave /health unanswered before it is restarted.
        withdraw: between a pod's end being asked for and vLLM's SIGTERM; gateways follow the routes meanwhile.
        shutdown: `--shutdown-timeout`: what streams under way get.
        drain: between an endpoint's routes being withdrawn and its workload being deleted.
        orphan_grace: how old something must be before it is removed because no endpoint knows it.
        orphans_at_once: of how many unknown endpoints objects are removed at once; of more, none: somebody should look.
    """

    pull: int = 900
    start_base: int = 600
    load_bytes_per_second: int = 200 * 1024 * 1024
    fetch_bytes_per_second: int = 20 * 1024 * 1024
    unresponsive: int = 120
    withdraw: int = 5
    shutdown: int = 120
    drain: int = 5
    orphan_grace: int = 300
    orphans_at_once: int = 5

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            field, value = f"settings.timing.{name}", getattr(self, name)
            if name.endswith("_per_second"):
                syntax.integer(value, field=field, least=_SLOWEST, most=_FASTEST)
            else:
                syntax.integer(value, field=field, least=0 if name in _MAY_BE_ZERO else 1, most=_LONGEST)


class Rollout(Frozen, frozen=True):
    """How a change reaches what runs.

    Attributes:
        strategy: `surge` starts a new replica before an old one ends, so no request is lost, and needs a free
            accelerator for it; `in-place` ends one first, for clusters that are full.
        min_ready: seconds that a new replica must be ready before the next old one ends.
        max_disrupted: how many pods of an endpoint a node drain may take at once (a PodDisruptionBudget's
            maxUnavailable).
        history: how many old ReplicaSets are kept to look at.
    """

    strategy: Literal["surge", "in-place"] = "surge"
    min_ready: int = 5
    max_disrupted: int = 1
    history: int = 2

    def __post_init__(self) -> None:
        syntax.integer(self.min_ready, field="settings.rollout.min_ready")
        syntax.integer(self.history, field="settings.rollout.history")
        # With 0 no node of the cluster could ever be drained.
        syntax.integer(self.max_disrupted, field="settings.rollout.max_disrupted", least=1)


class ClusterSettings(Frozen, frozen=True):
    """Everything. The default is a plain cluster with NVIDIA's device plugin that Freehold itself runs in.

    Attributes:
        namespace_prefix: of tenants' namespaces.
        user_id: as whom pods run, and their group; not root.
        supplemental_groups: more groups of theirs (AMD's devices belong to `video` and `render`).
        engine_arguments: vLLM flags for every engine of the cluster, after the endpoint's own.
        engine_environment: for every engine.
        engine_host, engine_port: on which engines listen; `::` where pods have IPv6 addresses alone.
    """

    namespace_prefix: str = "fh-"
    images: Images = Images()
    network: Network = Network()
    weights_cache: WeightsCache = WeightsCache()
    resources: Resources = Resources()
    scheduling: Scheduling = Scheduling()
    quota: Quota = Quota()
    timing: Timing = Timing()
    rollout: Rollout = Rollout()
    user_id: int = 65532
    supplemental_groups: tuple[int, ...] = ()
    engine_arguments: tuple[str, ...] = ()
    engine_environment: Labels = {}
    engine_host: str = "0.0.0.0"  # noqa: S104 - the pod's own; NetworkPolicies say who reaches it
    engine_port: int = 8000

    def __post_init__(self) -> None:
        if self.namespace_prefix:
            syntax.dns_label(f"{self.namespace_prefix}{_LONGEST_ID}", field="settings.namespace_prefix")
        syntax.integer(self.user_id, field="settings.user_id", least=1)
        for group in self.supplemental_groups:
            syntax.integer(group, field="settings.supplemental_groups", least=1)
        for argument in self.engine_arguments:
            flag = argument.partition("=")[0].replace("_", "-")
            if flag in _REFUSED_ARGUMENTS:
                syntax.refuse(f"{flag} is Freehold's to set.", field="settings.engine_arguments")
        syntax.variables(self.engine_environment, field="settings.engine_environment")
        for name in sorted(_REFUSED_VARIABLES & self.engine_environment.keys()):
            syntax.refuse(f"{name} must not be set.", field="settings.engine_environment")
        syntax.address(self.engine_host, field="settings.engine_host")
        syntax.integer(self.engine_port, field="settings.engine_port", least=1, most=65535)


def parse(document: Mapping[str, Any]) -> ClusterSettings:
    """The settings that a document (Cluster.settings) describes; what is absent has its default.

    Raises InvalidInput that names the field.
    """
    try:
        return msgspec.convert(document, ClusterSettings)
    except msgspec.ValidationError as error:
        path = _PATH.search(str(error))
        field = f"settings{path[1]}" if path else "settings"
        raise InvalidInput(f"The cluster's settings are not valid: {error}.", field=field) from None
