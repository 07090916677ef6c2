"""Steps of a plan as events that an endpoint's owner can read. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from freehold.serving.conditions import Event
from workers.runtimes.base import Action, Verb

NORMAL, WARNING = "Normal", "Warning"

_OBJECT = {Verb.CREATE: "Created", Verb.APPLY: "Applied", Verb.DELETE: "Deleted"}
_REPLICA = {Verb.CREATE: "ReplicaStarted", Verb.DELETE: "ReplicaStopped"}


def of_steps(taken: Iterable[tuple[Action, str]]) -> tuple[Event, ...]:
    """One event for each step that was taken, given with what the runtime had to say of it. Forgetting a replica that
    has exited is no news."""
    found = []
    for action, said in taken:
        words = _REPLICA if action.object is None else _OBJECT
        if action.verb not in words:
            continue
        subject = str(action.object) if action.object is not None else action.replica or "A replica"
        message = f"{subject}: {action.reason}" + (f" ({said})" if said else "")
        found.append(Event(NORMAL, words[action.verb], message))
    return tuple(found)


def of_refusal(message: str) -> tuple[Event, ...]:
    """For a step that could not be taken."""
    return (Event(WARNING, "Blocked", message),)
