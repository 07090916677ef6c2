"""Runtime: the interface between reconcile and the place where engines run. Pure data, no Django, no I/O.

A runtime is level-triggered like everything above it: `observe` tells what is there, `apply` does one idempotent step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from workers.manifests.spec import WorkloadSpec


class ReplicaState(StrEnum):
    """Where a replica is."""

    FETCHING = "fetching"  # its weights are on their way
    STARTING = "starting"  # the engine process runs and does not answer yet
    READY = "ready"  # /health answers 200
    UNHEALTHY = "unhealthy"  # was ready, runs, does not answer
    STOPPING = "stopping"  # asked to end
    EXITED = "exited"  # gone; kept until forgotten, so that its end can be told


LIVE = frozenset({ReplicaState.FETCHING, ReplicaState.STARTING, ReplicaState.READY, ReplicaState.UNHEALTHY})


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


@dataclass(frozen=True, kw_only=True)
class ObservedReplica:
    """One replica as the runtime finds it.

    Attributes:
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
    detail: str = ""
    stop_wanted: bool = True


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Everything a runtime has, by endpoint."""

    at: datetime
    replicas: Mapping[str, tuple[ObservedReplica, ...]] = field(default_factory=dict)

    def of(self, endpoint: str) -> tuple[ObservedReplica, ...]:
        """Replicas of one endpoint, oldest first."""
        return self.replicas.get(endpoint, ())


class Verb(StrEnum):
    """What a plan does with a replica."""

    CREATE = "create"
    DELETE = "delete"
    KEEP = "keep"
    WAIT = "wait"
    FORGET = "forget"


@dataclass(frozen=True, kw_only=True)
class Action:
    """One step of a plan and why. `spec` is there for CREATE only."""

    verb: Verb
    reason: str
    replica: str = ""
    spec: WorkloadSpec | None = None
    failures: int = 0
    cause: str = ""


class RuntimeUnavailable(Exception):
    """The place where engines run cannot be reached: nothing is known, so nothing is changed."""


class Runtime(Protocol):
    """What reconcile drives. Both methods may block for a short while and raise RuntimeUnavailable."""

    def observe(self) -> Observed:
        """All replicas of all endpoints of this cluster."""
        ...

    def apply(self, action: Action, *, endpoint: str, fetch_token: str) -> None:
        """Does one CREATE, DELETE or FORGET; doing it twice changes nothing. Returns before the replica is ready.

        `fetch_token` reads the one revision that a CREATE serves, for an hour.
        """
        ...

    def log_tail(self, endpoint: str, replica: str, *, lines: int) -> list[str]:
        """The newest lines of a replica's log, oldest first; empty where there is none."""
        ...
