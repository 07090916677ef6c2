"""Runtime: the interface between reconcile and the place where engines run. Pure data, no Django, no I/O.

A runtime is level-triggered like everything above it: `observe` tells what is there, `apply` does one idempotent step.

There are two kinds. One starts engines itself (local): its plan is made of replicas. The other keeps objects from which
somebody else makes replicas (Kubernetes): its `wanted` says which objects, and its plan is made of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from workers.manifests.spec import WorkloadSpec


class ReplicaState(StrEnum):
    """Where a replica is."""

    PENDING = "pending"  # has no place yet, or its images are on their way
    FETCHING = "fetching"  # its weights are on their way
    STARTING = "starting"  # the engine process runs and does not answer yet
    READY = "ready"  # /health answers 200
    UNHEALTHY = "unhealthy"  # was ready, runs, does not answer
    BACKOFF = "backoff"  # ended by itself; whoever made it starts it again
    STOPPING = "stopping"  # asked to end
    EXITED = "exited"  # gone; kept until forgotten, so that its end can be told


LIVE = frozenset(ReplicaState) - {ReplicaState.STOPPING, ReplicaState.EXITED}


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a replica ended.

    Attributes:
        reason: one CamelCase word: `EngineExited`, `FetchFailed`, `OutOfMemory`, `Stopped`, `Lost`, …
        message: the engine's own error line, or what else explains it.
        wanted: we had asked it to end.
    """

    at: datetime
    reason: str
    message: str
    code: int | None = None
    log_tail: tuple[str, ...] = ()
    wanted: bool = False


@dataclass(frozen=True)
class Blocker:
    """Why a replica cannot get a place, or cannot be made at all, for now. Nothing has failed, something is missing.

    Attributes:
        reason: one CamelCase word: `InsufficientCapacity`, `QuotaExceeded`, …
        message: for the customer: what is missing.
    """

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ObservedReplica:
    """One replica as the runtime finds it.

    Attributes:
        exit: how it ended; of a live one, how it ended last time, while that is the newest thing to say of it.
        blocker: what it waits for.
        failures: unwanted exits in a row that led to this start; the first start has 0.
        ready_at: when it first answered; None before.
        stop_wanted: of one that is stopping: its owner wanted that; otherwise it counts as failed.
    """

    id: str
    endpoint: str
    template_hash: str
    state: ReplicaState
    created_at: datetime
    since: datetime
    failures: int = 0
    host: str = ""
    port: int = 0
    ready_at: datetime | None = None
    exit: Exit | None = None
    blocker: Blocker | None = None
    detail: str = ""
    stop_wanted: bool = True


@dataclass(frozen=True, order=True)
class ObjectKey:
    """Names one object in a cluster; `namespace` is empty for what has none."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, kw_only=True)
class ObservedObject:
    """One object as the cluster has it.

    Attributes:
        document: the object as JSON. Thousands are held at once, and read one at a time: as dictionaries they would
            take five times the memory.
    """

    key: ObjectKey
    uid: str
    document: bytes
    deleting: bool = False

    @property
    def content(self) -> dict[str, Any]:
        """The object, read anew each time."""
        found: dict[str, Any] = msgspec.json.decode(self.document)
        return found


@dataclass(frozen=True, kw_only=True)
class Belonging:
    """An object by name alone, and whose it says it is."""

    key: ObjectKey
    uid: str
    endpoint: str
    tenant: str
    created_at: datetime


Objects = Mapping[ObjectKey, ObservedObject]
_NO_OBJECTS: Objects = {}


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What to observe, by public ids. Everything that these endpoints have, and maybe more.

    Attributes:
        endpoints: with the tenant of each. What says that it is an endpoint's and not of its tenant is a stranger's.
    """

    endpoints: Mapping[str, str]

    @property
    def tenants(self) -> frozenset[str]:
        """Whose they are."""
        return frozenset(self.endpoints.values())


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Everything a runtime has.

    Attributes:
        replicas: by endpoint, oldest first.
        objects: by endpoint; of a runtime that keeps objects.
        tenant_objects: by tenant: what its endpoints share.
        blockers: by endpoint: why replicas are not even made.
    """

    at: datetime
    replicas: Mapping[str, tuple[ObservedReplica, ...]] = field(default_factory=dict)
    objects: Mapping[str, Objects] = field(default_factory=dict)
    tenant_objects: Mapping[str, Objects] = field(default_factory=dict)
    blockers: Mapping[str, Blocker] = field(default_factory=dict)

    def of(self, endpoint: str) -> tuple[ObservedReplica, ...]:
        """Replicas of one endpoint, oldest first."""
        return self.replicas.get(endpoint, ())

    def objects_of(self, endpoint: str) -> Objects:
        """Objects of one endpoint."""
        return self.objects.get(endpoint, _NO_OBJECTS)

    def objects_of_tenant(self, tenant: str) -> Objects:
        """Objects that a tenant's endpoints share."""
        return self.tenant_objects.get(tenant, _NO_OBJECTS)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The objects that one endpoint needs, in the order in which to make them.

    Attributes:
        tenant: shared by all endpoints of its tenant.
        endpoint: its own.
    """

    tenant: tuple[Mapping[str, Any], ...]
    endpoint: tuple[Mapping[str, Any], ...]


class Verb(StrEnum):
    """What a plan does with a replica or an object."""

    CREATE = "create"
    APPLY = "apply"
    DELETE = "delete"
    KEEP = "keep"
    WAIT = "wait"
    FORGET = "forget"


@dataclass(frozen=True, kw_only=True)
class Action:
    """One step of a plan and why, with a replica or with an object.

    Attributes:
        spec: of a replica to CREATE.
        manifest: of an object to CREATE or APPLY.
        uid: of an object to DELETE: another one of the same name is left alone.
        needs_token: the step hands over a fetch token.
    """

    verb: Verb
    reason: str
    replica: str = ""
    spec: WorkloadSpec | None = None
    failures: int = 0
    cause: str = ""
    object: ObjectKey | None = None
    manifest: Mapping[str, Any] | None = None
    uid: str = ""
    needs_token: bool = False


@dataclass(frozen=True, kw_only=True)
class FetchToken:
    """Reads the one revision that an endpoint serves, until it expires. `repo` is what its model is called now."""

    secret: str = field(repr=False)
    expires_at: datetime
    repo: str = ""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """When to look again, in seconds: at what is settled, what is on its way, and what could not be done."""

    steady: float = 30.0
    moving: float = 1.0
    blocked: float = 5.0


class RuntimeUnavailable(Exception):
    """The place where engines run cannot be reached: nothing is known, so nothing is changed."""


class StepRefused(Exception):
    """One step was refused, for a reason that the customer or operator can read; the others may go on."""


class Runtime(Protocol):
    """What reconcile drives. Methods may block for a short while and raise RuntimeUnavailable.

    Attributes:
        keeps_objects: replicas are made by somebody else from the objects that `wanted` names.
        pace: how often its endpoints are looked at without a hint.
        batch: endpoints that one pass takes at most.
        parallel: endpoints whose steps may be taken at the same time, from several threads.
        drain: what requests under way get between an endpoint's routes being withdrawn and its end.
    """

    @property
    def keeps_objects(self) -> bool: ...

    @property
    def pace(self) -> Pace: ...

    @property
    def batch(self) -> int: ...

    @property
    def parallel(self) -> int: ...

    @property
    def drain(self) -> timedelta: ...

    def observe(self, scope: Scope | None = None) -> Observed:
        """What is there of the endpoints and tenants in `scope`; of all without one."""
        ...

    def wanted(self, spec: WorkloadSpec, *, tenant_slug: str) -> Wanted:
        """The objects for an endpoint; none where the runtime keeps no objects. Raises StepRefused."""
        ...

    def apply(self, action: Action, *, endpoint: str, fetch_token: FetchToken | None) -> str:
        """Does one step; doing it twice changes nothing. Returns before any replica is ready, with what there is to
        say beyond the step's own reason (empty for nothing). Raises StepRefused.

        `fetch_token` comes with a step that needs one.
        """
        ...

    def log_tail(self, endpoint: str, replica: str, *, lines: int) -> list[str]:
        """The newest lines of a replica's log, oldest first; empty where there is none."""
        ...
