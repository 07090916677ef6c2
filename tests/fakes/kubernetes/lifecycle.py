"""What of an object only the server sets: its identity, its generation, its end."""

from __future__ import annotations

import uuid
from typing import Any

from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.resources import Resource

Json = dict[str, Any]

_FIXED = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


def restore_fixed(resource: Resource, body: Json, old: Json | None, now: str) -> None:
    """Restores what no client may change."""
    meta = body["metadata"]
    if old is None:
        meta.update(uid=str(uuid.uuid4()), creationTimestamp=now)
        if resource.generation:
            meta["generation"] = 1
        return
    before = old["metadata"]
    for name in _FIXED:
        if name in before:
            meta[name] = before[name]
        else:
            meta.pop(name, None)
    meta["resourceVersion"] = before["resourceVersion"]


def count_generation(resource: Resource, body: Json, old: Json, subresource: str) -> None:
    """Counts a change of what is desired. A status is no desire."""
    if not resource.generation or subresource == "status":
        return
    changed = _desired(body) != _desired(old)
    if resource is kinds.DEPLOYMENTS:  # the one kind whose annotations count
        changed = changed or body["metadata"].get("annotations") != old["metadata"].get("annotations")
    if changed:
        body["metadata"]["generation"] = old["metadata"]["generation"] + 1


def _desired(body: Json) -> Json:
    return {name: value for name, value in body.items() if name not in {"metadata", "status"}}


def is_same(body: Json, old: Json) -> bool:
    """Whether a write changed nothing; when a manager wrote last is nothing."""
    if {**body, "metadata": None} != {**old, "metadata": None}:
        return False
    new_meta, old_meta = dict(body["metadata"]), dict(old["metadata"])
    new_owners, old_owners = new_meta.pop("managedFields", []), old_meta.pop("managedFields", [])
    if new_meta != old_meta or len(new_owners) != len(old_owners):
        return False
    return all({**new, "time": ""} == {**was, "time": ""} for new, was in zip(new_owners, old_owners, strict=True))


def may_go(resource: Resource, body: Json) -> bool:
    """Whether this write took away the last thing that kept a deleted object."""
    meta = body["metadata"]
    if "deletionTimestamp" not in meta or meta.get("finalizers"):
        return False
    if resource is kinds.NAMESPACES:
        return not body["spec"].get("finalizers")
    return bool(meta.get("deletionGracePeriodSeconds", 0) == 0)
