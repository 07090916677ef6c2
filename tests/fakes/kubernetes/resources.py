"""Which kinds the emulator serves, and how they are called: the one table that discovery, routing and schemas read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

_ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_NO_COLLECTION = tuple(verb for verb in _ALL if verb != "deletecollection")


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object. `schema` is its name among the definitions of the Kubernetes OpenAPI document."""

    group: str
    version: str
    plural: str
    kind: str
    schema: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = _ALL
    generation: bool = False  # counts changes of its spec in metadata.generation

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`deployments.apps`, as error messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def __hash__(self) -> int:
        return hash(self.plural)


def _core(plural: str, kind: str, **more: Any) -> Resource:
    return Resource("", "v1", plural, kind, f"io.k8s.api.core.v1.{kind}", **more)


def _of(group: str, package: str, plural: str, kind: str, **more: Any) -> Resource:
    return Resource(group, "v1", plural, kind, f"io.k8s.api.{package}.v1.{kind}", **more)


NAMESPACES = _core(
    "namespaces",
    "Namespace",
    namespaced=False,
    short=("ns",),
    subresources=("finalize", "status"),
    verbs=_NO_COLLECTION,
)
NODES = _core("nodes", "Node", namespaced=False, short=("no",), subresources=("status",))
PODS = _core(
    "pods", "Pod", short=("po",), categories=("all",), subresources=("log", "status", "eviction"), generation=True
)
SECRETS = _core("secrets", "Secret")
CONFIGMAPS = _core("configmaps", "ConfigMap", short=("cm",))
SERVICES = _core("services", "Service", short=("svc",), categories=("all",), subresources=("status",))
SERVICEACCOUNTS = _core("serviceaccounts", "ServiceAccount", short=("sa",))
CLAIMS = _core("persistentvolumeclaims", "PersistentVolumeClaim", short=("pvc",), subresources=("status",))
QUOTAS = _core("resourcequotas", "ResourceQuota", short=("quota",), subresources=("status",))
LIMITRANGES = _core("limitranges", "LimitRange", short=("limits",))
EVENTS = _core("events", "Event", short=("ev",))
DEPLOYMENTS = _of(
    "apps",
    "apps",
    "deployments",
    "Deployment",
    short=("deploy",),
    categories=("all",),
    subresources=("scale", "status"),
    generation=True,
)
REPLICASETS = _of(
    "apps",
    "apps",
    "replicasets",
    "ReplicaSet",
    short=("rs",),
    categories=("all",),
    subresources=("scale", "status"),
    generation=True,
)
STATEFULSETS = _of(
    "apps",
    "apps",
    "statefulsets",
    "StatefulSet",
    short=("sts",),
    categories=("all",),
    subresources=("scale", "status"),
    generation=True,
)
JOBS = _of("batch", "batch", "jobs", "Job", categories=("all",), subresources=("status",), generation=True)
NETWORKPOLICIES = _of(
    "networking.k8s.io", "networking", "networkpolicies", "NetworkPolicy", short=("netpol",), generation=True
)
BUDGETS = _of(
    "policy",
    "policy",
    "poddisruptionbudgets",
    "PodDisruptionBudget",
    short=("pdb",),
    subresources=("status",),
    generation=True,
)
ENDPOINTSLICES = _of("discovery.k8s.io", "discovery", "endpointslices", "EndpointSlice", generation=True)
PRIORITYCLASSES = _of(
    "scheduling.k8s.io", "scheduling", "priorityclasses", "PriorityClass", namespaced=False, short=("pc",)
)
REVIEWS = _of(
    "authorization.k8s.io",
    "authorization",
    "selfsubjectaccessreviews",
    "SelfSubjectAccessReview",
    namespaced=False,
    verbs=("create",),
)
LEADERWORKERSETS = Resource(
    "leaderworkerset.x-k8s.io",
    "v1",
    "leaderworkersets",
    "LeaderWorkerSet",
    "leaderworkerset",
    short=("lws",),
    subresources=("scale", "status"),
    generation=True,
)

BUILT_IN = (
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    CONFIGMAPS,
    SERVICES,
    SERVICEACCOUNTS,
    CLAIMS,
    QUOTAS,
    LIMITRANGES,
    EVENTS,
    DEPLOYMENTS,
    REPLICASETS,
    STATEFULSETS,
    JOBS,
    NETWORKPOLICIES,
    BUDGETS,
    ENDPOINTSLICES,
    PRIORITYCLASSES,
    REVIEWS,
)

VERSION: Json = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2",
    "gitCommit": "8e16b12fda5b1dccc41a6de48b3e356cc7d5048b",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "go1.26.6",
    "compiler": "gc",
    "platform": "linux/amd64",
}

_SUBRESOURCE_VERBS = {"log": ("get",), "finalize": ("update",), "eviction": ("create",)}
_SUBRESOURCE_KINDS: dict[str, Json] = {
    "scale": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
    "eviction": {"group": "policy", "version": "v1", "kind": "Eviction"},
}


@dataclass
class Catalogue:
    """The kinds one emulator serves: the built-in ones, and LeaderWorkerSets where their CRD is installed."""

    resources: tuple[Resource, ...] = BUILT_IN
    _by_path: dict[tuple[str, str, str], Resource] = field(init=False)

    def __post_init__(self) -> None:
        self._by_path = {(each.group, each.version, each.plural): each for each in self.resources}

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The kind behind a path, if it is served."""
        return self._by_path.get((group, version, plural))

    def serves(self, resource: Resource) -> bool:
        """Whether the kind is installed."""
        return resource in self.resources

    def groups(self) -> Json:
        """`GET /apis`."""
        named = {each.group: each.version for each in self.resources if each.group}
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*each) for each in named.items()]}

    def group(self, group: str) -> Json | None:
        """`GET /apis/<group>`."""
        versions = [each.version for each in self.resources if each.group == group]
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions[0])} if versions else None

    def version(self, group: str, version: str) -> Json | None:
        """`GET /api/v1` and `GET /apis/<group>/<version>`."""
        served = [each for each in self.resources if (each.group, each.version) == (group, version)]
        if not served:
            return None
        entries = [entry for each in sorted(served, key=lambda each: each.plural) for entry in _entries(each)]
        core = {} if group == "" else {"apiVersion": "v1"}  # the core list has none, as recorded
        return {"kind": "APIResourceList", **core, "groupVersion": served[0].api_version, "resources": entries}


def _group(group: str, version: str) -> Json:
    preferred = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [preferred], "preferredVersion": preferred}


def _entries(resource: Resource) -> list[Json]:
    entry: Json = {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short:
        entry["shortNames"] = list(resource.short)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    entries = [entry]
    for name in sorted(resource.subresources):
        kind = _SUBRESOURCE_KINDS.get(name, {"kind": resource.kind})
        verbs = list(_SUBRESOURCE_VERBS.get(name, ("get", "patch", "update")))
        entries.append(
            {
                "name": f"{resource.plural}/{name}",
                "singularName": "",
                "namespaced": resource.namespaced,
                **kind,
                "verbs": verbs,
            }
        )
    return entries
