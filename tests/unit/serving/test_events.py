"""Which changes of conditions are told as events, and how loudly."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.serving.events import condition_events


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "last_transition_at": "…"}


READY = condition("Ready", "True", "ReplicasReady", "1 of 1 replicas answer.")
MISSING = condition("Ready", "False", "ReplicasMissing", "0 of 1 replicas answer.")
STOPPED = condition("Ready", "False", "Stopped", "Scale it up to use it.")
UNKNOWN = condition("Ready", "Unknown", "ClusterUnreachable", "No answer.")
FULL = condition("Unschedulable", "True", "InsufficientCapacity", "No room.")
ROOM = condition("Unschedulable", "False", "HasRoom")
CRASHED = condition("Failing", "True", "EngineExited", "ValueError: no")
WELL = condition("Failing", "False", "NoFailure")
BUSY = condition("Progressing", "True", "LoadingModel", "…")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ([], [MISSING, ROOM, WELL], []),
        ([MISSING], [READY], [("Normal", "ReplicasReady")]),
        ([READY], [READY], []),
        ([READY], [MISSING], [("Warning", "ReplicasMissing")]),
        ([READY], [STOPPED], [("Normal", "Stopped")]),
        ([READY], [UNKNOWN], [("Warning", "ClusterUnreachable")]),
        ([ROOM], [FULL], [("Warning", "InsufficientCapacity")]),
        ([FULL], [ROOM], [("Normal", "HasRoom")]),
        ([], [CRASHED], [("Warning", "EngineExited")]),
        ([CRASHED], [{**CRASHED, "message": "ValueError: other"}], []),
        ([CRASHED], [WELL], []),
        ([], [BUSY], []),
    ],
)
def test_a_condition_is_told_when_it_turns(
    before: list[dict[str, Any]], after: list[dict[str, Any]], told: list[tuple[str, str]]
) -> None:
    assert [(event.type, event.reason) for event in condition_events(before, after)] == told
