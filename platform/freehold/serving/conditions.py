"""Conditions and the status a worker derives, as plain data: no Django, so that reconcile's pure modules can use
them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from freehold.serving.choices import ConditionType, Phase


@dataclass(frozen=True)
class Condition:
    """One statement about an endpoint, in Kubernetes' shape.

    Attributes:
        status: `True`, `False` or `Unknown`.
        reason: one CamelCase word for programs.
        message: for the customer: what is the matter and what to do.
    """

    type: ConditionType
    status: str
    reason: str
    message: str = ""


@dataclass(frozen=True)
class ReplicaStatus:
    """One replica as last observed. `since` is when it came into this state."""

    id: str
    state: str
    since: datetime
    host: str = ""
    port: int = 0


@dataclass(frozen=True)
class EndpointStatus:
    """What a reconcile pass found. `requeue_seconds` says when to look again.

    `replicas` is None where nothing could be observed: what was known of replicas and other conditions then stays.
    """

    phase: Phase
    conditions: tuple[Condition, ...]
    replicas: tuple[ReplicaStatus, ...] | None = ()
    requeue_seconds: float = 30.0
    reasons: tuple[str, ...] = field(default=())

    @property
    def ready_replicas(self) -> int:
        """How many replicas answer."""
        return sum(1 for replica in self.replicas or () if replica.state == "ready")


def merge(
    before: Iterable[Mapping[str, Any]], conditions: Collection[Condition], *, at: datetime, keep: bool = False
) -> list[dict[str, Any]]:
    """Conditions as they are stored; `last_transition_at` moves only when the status changes (as in Kubernetes).

    With `keep`, conditions of which nothing new is said stay.
    """
    old = {condition["type"]: condition for condition in before}
    said = {condition.type.value for condition in conditions}
    merged = [dict(condition) for kind, condition in old.items() if keep and kind not in said]
    for condition in conditions:
        previous = old.get(condition.type.value)
        same = previous is not None and previous["status"] == condition.status
        merged.append(
            {
                "type": condition.type.value,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message.replace("\0", "\N{REPLACEMENT CHARACTER}"),  # jsonb takes none
                "last_transition_at": previous["last_transition_at"] if same and previous else at.isoformat(),
            }
        )
    return merged
