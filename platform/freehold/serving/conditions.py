"""The status a worker derives, as plain data: no Django, so that reconcile's pure modules can use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from freehold.common.conditions import Condition
from freehold.serving.choices import Phase


@dataclass(frozen=True)
class ReplicaStatus:
    """One replica as last observed. `since` is when it came into this state."""

    id: str
    state: str
    since: datetime
    host: str = ""
    port: int = 0


@dataclass(frozen=True)
class Event:
    """Something that happened to an endpoint, for its owner to read.

    Attributes:
        type: `Normal` or `Warning` (Kubernetes' words).
        reason: one CamelCase word for programs.
    """

    type: str
    reason: str
    message: str


@dataclass(frozen=True)
class EndpointStatus:
    """What a reconcile pass found. `requeue_seconds` says when to look again.

    `replicas` is None where nothing could be observed: what was known of replicas and other conditions then stays.
    `events` are the steps that the pass took.
    """

    phase: Phase
    conditions: tuple[Condition, ...]
    replicas: tuple[ReplicaStatus, ...] | None = ()
    requeue_seconds: float = 30.0
    reasons: tuple[str, ...] = field(default=())
    events: tuple[Event, ...] = field(default=())

    @property
    def ready_replicas(self) -> int:
        """How many replicas answer."""
        return sum(1 for replica in self.replicas or () if replica.state == "ready")
