"""Conditions in Kubernetes' shape: one statement about a thing, with when its status last changed.

Plain data, stored as JSON by serving (endpoints) and fleet (clusters).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


@dataclass(frozen=True)
class Condition:
    """One statement.

    Attributes:
        status: `True`, `False` or `Unknown`.
        reason: one CamelCase word for programs.
        message: for the reader: what is the matter and what to do.
    """

    type: StrEnum
    status: str
    reason: str
    message: str = ""


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
