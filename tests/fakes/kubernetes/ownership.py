"""`metadata.managedFields`: who owns which field, and how applying and updating change that.

After sigs.k8s.io/structured-merge-diff (merge/update.go) and k8s.io/apimachinery/pkg/util/managedfields. An applier
owns what it applies; an updater owns what it changed, and takes it from everybody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.fakes.kubernetes import fields, merge
from tests.fakes.kubernetes.errors import Refusal
from tests.fakes.kubernetes.fields import Fields
from tests.fakes.kubernetes.schema import Node

Json = dict[str, Any]

APPLY = "Apply"
UPDATE = "Update"


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes, in which way. An applier is the same whatever version it applies in."""

    manager: str
    operation: str
    api_version: str
    subresource: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells one entry of managedFields from another."""
        version = "" if self.operation == APPLY else self.api_version
        return (self.manager, self.operation, version, self.subresource)

    @property
    def words(self) -> str:
        """As a conflict names it."""
        text = f'"{self.manager}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return text if self.operation == APPLY else f"{text} using {self.api_version}"


@dataclass(slots=True)
class _Entry:
    writer: Writer
    owned: Fields
    time: str


Owners = dict[tuple[str, ...], _Entry]


def _read(managed: list[Json]) -> Owners:
    owners: Owners = {}
    for each in managed:
        writer = Writer(each["manager"], each["operation"], each["apiVersion"], each.get("subresource", ""))
        owners[writer.identity] = _Entry(writer, each.get("fieldsV1", {}), each.get("time", ""))
    return owners


def _written(owners: Owners) -> list[Json]:
    order = sorted(owners.values(), key=lambda each: (each.writer.operation, each.time, each.writer.identity))
    result = []
    for entry in order:
        if not entry.owned:
            continue
        writer = entry.writer
        described: Json = {
            "manager": writer.manager,
            "operation": writer.operation,
            "apiVersion": writer.api_version,
            "time": entry.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": entry.owned,
        }
        if writer.subresource:
            described["subresource"] = writer.subresource
        result.append(described)
    return result


# Fields that belong to nobody (managedfields/internal/stripmeta.go), and those a subresource's write leaves alone.
_NOBODYS_META = (
    "name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion",
    "deletionTimestamp", "deletionGracePeriodSeconds",
)  # fmt: skip


def stripped(value: Json, *dropped: str) -> Json:
    """The part of an object that can be owned."""
    result = {
        name: inner for name, inner in value.items() if name not in dropped and name not in {"kind", "apiVersion"}
    }
    meta = {name: inner for name, inner in value.get("metadata", {}).items() if name not in _NOBODYS_META}
    result["metadata"] = meta
    return result


def apply(
    live: Json, config: Json, node: Node, writer: Writer, *, force: bool, now: str, managed: list[Json]
) -> tuple[Json, list[Json]]:
    """Lays `config` over `live` for that applier. Both without what belongs to nobody. Gives the object and its owners.

    Raises a 409 with a cause for each field that another owns with another value, unless forced.
    """
    owners = _read(managed)
    before = owners.get(writer.identity)
    merged: Json = merge.applied(live, config, node)
    owned = fields.of_config({name: value for name, value in config.items() if name != "metadata" or value}, node)
    owners[writer.identity] = _Entry(writer, owned, now)
    if before is not None and before.owned != owned:
        everyone: Fields = {}
        for entry in owners.values():
            everyone = fields.join(everyone, entry.owned) or {}
        merged = fields.prune(merged, before.owned, everyone, node)
    _yield_changed(owners, fields.compare(live, merged, node), writer, force=force)
    return merged, _written(owners)


def update(old: Json, new: Json, node: Node, writer: Writer, *, now: str, managed: list[Json]) -> list[Json]:
    """The owners after an update, a patch or a create that turned `old` into `new`."""
    comparison = fields.compare(old, new, node)
    if not (comparison.added or comparison.modified or comparison.removed):
        return managed
    owners = _read(managed)
    _yield_changed(owners, comparison, None, force=True)
    mine = fields.join(comparison.added, comparison.modified)
    previous = owners.get(writer.identity)
    kept = previous.owned if previous else None
    owned = fields.join(kept, mine)
    if owned and mine:
        owners[writer.identity] = _Entry(writer, owned, now)
    return _written(owners)


def _yield_changed(owners: Owners, comparison: fields.Comparison, writer: Writer | None, *, force: bool) -> None:
    """Takes what changed from all but the writer."""
    changed = fields.join(comparison.modified, comparison.added)
    if not changed and not comparison.removed:
        return
    conflicts: list[tuple[Writer, Fields]] = []
    for identity, entry in owners.items():
        if writer is not None and identity == writer.identity:
            continue
        lost = fields.common(entry.owned, changed) if changed else None
        if lost:
            conflicts.append((entry.writer, lost))
    if conflicts and not force:
        raise _conflict(conflicts)
    for identity, entry in list(owners.items()):
        if writer is not None and identity == writer.identity:
            continue
        rest = fields.minus(entry.owned, changed or None)
        rest = fields.minus(rest, comparison.removed or None) if rest else None
        if rest:
            entry.owned = rest
        else:
            del owners[identity]


def _conflict(conflicts: list[tuple[Writer, Fields]]) -> Refusal:
    found = [(writer, path) for writer, lost in conflicts for path in fields.paths(lost)]
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {writer.words}", "field": path}
        for writer, path in found
    ]
    if len(found) == 1:
        words = f"1 conflict: conflict with {found[0][0].words}: {found[0][1]}"
    else:
        lines = []
        for writer in sorted({each[0] for each in found}, key=lambda each: each.identity):
            lines += [f"conflicts with {writer.words}:", *(f"- {path}" for owner, path in found if owner == writer)]
        words = f"{len(found)} conflicts: " + "\n".join(lines)
    return Refusal(409, "Conflict", f"Apply failed with {words}", {"causes": causes})
