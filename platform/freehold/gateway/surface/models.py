"""The list of models, in the members that OpenAI's and Anthropic's clients read, both at once. Used by app.py."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freehold.wire.records import RouteRecord


def describe(name: str, route: RouteRecord) -> dict[str, object]:
    """One model. `task` and `status` are ours: what it can be called for, and `ready` or its endpoint's phase."""
    model: dict[str, object] = {
        "id": name,
        "object": "model",
        "created": route.created_at,
        "owned_by": name.partition("/")[0],
        "type": "model",
        "display_name": name,
        "created_at": datetime.fromtimestamp(route.created_at, UTC).isoformat().replace("+00:00", "Z"),
        "task": route.task,
        "status": "ready" if route.replicas else route.phase,
    }
    if route.max_model_len:
        model["max_model_len"] = model["max_input_tokens"] = route.max_model_len
    return model


def listing(routes: Iterable[tuple[str, RouteRecord]]) -> dict[str, object]:
    """All of them on one page."""
    data = [describe(name, route) for name, route in routes]
    edges = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"object": "list", "data": data, "has_more": False, **edges}
