"""Sets of fields, as `metadata.managedFields` holds them, and the algebra that server-side apply needs.

A set is the tree of FieldsV1 itself: `{"f:spec": {"f:replicas": {}}}`. A node is in the set if it is empty or has a
`.`. Keys: `f:` a field, `k:{…}` an item of a keyed list, `v:…` a member of a set. The rules are those of
sigs.k8s.io/structured-merge-diff (fieldpath/set.go, typed/tofieldset.go, typed/compare.go, merge/update.go).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.kubernetes.schema import Node, Shape

Fields = dict[str, Any]
_SELF = "."
_MISSING: Any = object()


def item_key(node: Node, item: Any) -> str:
    """`k:{"containerPort":8000,"protocol":"TCP"}`, or `v:"name"` in a set."""
    values = node.key(item) or ()
    if node.is_set:
        return f"v:{json.dumps(item, separators=(',', ':'))}"
    return "k:" + json.dumps(dict(zip(node.keys, values, strict=False)), separators=(",", ":"))


def of_config(value: Any, node: Node) -> Fields:
    """What someone owns who applied this: its leaves, and the items of keyed lists."""
    if node.leaf:
        return {}
    found: Fields = {}
    if node.shape is Shape.LIST:
        for item in value:
            inner = {} if node.is_set or node.element.leaf else of_config(item, node.element)
            found[item_key(node, item)] = {_SELF: {}, **inner} if inner else {}
        return found
    in_map = node.shape is Shape.MAP
    for name, inner_value in value.items():
        child = node.child(name)
        if child.leaf or inner_value == {} or inner_value is None:
            found[f"f:{name}"] = {}
            continue
        inner = of_config(inner_value, child)
        if in_map:
            found[f"f:{name}"] = {_SELF: {}, **inner}
        elif inner:
            found[f"f:{name}"] = inner
    return found


def _whole(value: Any, node: Node) -> Fields:
    """Every field of something that came or went as a whole, itself among them."""
    if node.leaf or not value:
        return {}
    found: Fields = {_SELF: {}}
    if node.shape is Shape.LIST:
        for item in value:
            found[item_key(node, item)] = {} if node.is_set else _whole(item, node.element)
        return found
    for name, inner in value.items():
        found[f"f:{name}"] = _whole(inner, node.child(name))
    return found


@dataclass(slots=True)
class Comparison:
    """What a write changed."""

    added: Fields = field(default_factory=dict)
    modified: Fields = field(default_factory=dict)
    removed: Fields = field(default_factory=dict)


def compare(old: Any, new: Any, node: Node) -> Comparison:
    """The fields in which two objects of one type differ."""
    added, modified, removed = _compare(old, new, node)
    return Comparison(added or {}, modified or {}, removed or {})


_Parts = tuple[Fields | None, Fields | None, Fields | None]


def _compare(old: Any, new: Any, node: Node) -> _Parts:
    if old is _MISSING:
        return _whole(new, node), None, None
    if new is _MISSING:
        return None, None, _whole(old, node)
    if old is new or old == new:
        return None, None, None
    if node.leaf or not (old or new):
        return None, {}, None
    parts: tuple[Fields, Fields, Fields] = ({}, {}, {})
    for key, before, after, child in _pairs(old, new, node):
        for found, part in zip(_compare(before, after, child), parts, strict=True):
            if found is not None:
                part[key] = found
    return parts[0] or None, parts[1] or None, parts[2] or None


def _pairs(old: Any, new: Any, node: Node) -> Iterator[tuple[str, Any, Any, Node]]:
    if node.shape is Shape.LIST:
        before = {item_key(node, item): item for item in old or ()}
        after = {item_key(node, item): item for item in new or ()}
        for key in {**before, **after}:
            yield key, before.get(key, _MISSING), after.get(key, _MISSING), node.element
        return
    left, right = old or {}, new or {}
    for name in {**left, **right}:
        yield f"f:{name}", left.get(name, _MISSING), right.get(name, _MISSING), node.child(name)


def is_member(fields: Fields) -> bool:
    """Whether the node itself is in the set."""
    return not fields or _SELF in fields


def union(left: Fields, right: Fields) -> Fields:
    """What is in either; neither is changed."""
    if left == right:
        return left
    keep_self = is_member(left) or is_member(right)
    found = dict(left)
    for key, inner in right.items():
        found[key] = union(found[key], inner) if key in found else inner
    if keep_self and found:
        found[_SELF] = {}
    return found


def join(left: Fields | None, right: Fields | None) -> Fields | None:
    """A union in which None, not `{}`, is the empty set: at the root, `{}` would be the root itself."""
    return union(left, right) if left and right else left or right


def minus(left: Fields, right: Fields | None) -> Fields | None:
    """What is in left alone; None when nothing is left. Exact paths: taking a parent away leaves its children."""
    if right is None:
        return left
    found: Fields = {}
    for key, inner in left.items():
        if key == _SELF:
            continue
        rest = minus(inner, right[key]) if key in right else inner
        if rest is not None:
            found[key] = rest
    if is_member(left) and not is_member(right):
        return {_SELF: {}, **found} if found else {}
    return found or None


def common(left: Fields, right: Fields) -> Fields | None:
    """What is in both; None when nothing is."""
    found: Fields = {}
    for key in left.keys() & right.keys() - {_SELF}:
        inner = common(left[key], right[key])
        if inner is not None:
            found[key] = inner
    if is_member(left) and is_member(right):
        return {_SELF: {}, **found} if found else {}
    return found or None


def paths(fields: Fields, prefix: str = "") -> Iterator[str]:
    """The members in words: `.spec.template.spec.containers[name="vllm"].image`."""
    if prefix and is_member(fields):
        yield prefix
    for key, inner in sorted(fields.items()):
        if key == _SELF:
            continue
        kind, name = key[:2], key[2:]
        if kind == "f:":
            yield from paths(inner, f"{prefix}.{name}")
        elif kind == "k:":
            pairs = (f"{part}={json.dumps(value)}" for part, value in json.loads(name).items())
            yield from paths(inner, f"{prefix}[{','.join(pairs)}]")
        else:
            yield from paths(inner, f"{prefix}[={name}]")


def prune(value: Any, last: Fields, owned: Fields, node: Node) -> Any:
    """The object without what its manager applied last time and nobody owns now. A parent goes with its last child."""
    if node.leaf or not value:
        return value
    if node.shape is Shape.LIST:
        kept = []
        for item in value:
            key = item_key(node, item)
            before, now = last.get(key), owned.get(key)
            if before is None or (node.is_set and now is not None):
                kept.append(item)
            elif now is not None or not is_member(before):
                kept.append(prune(item, before, now or {}, node.element))
        return kept
    result = {}
    for name, inner in value.items():
        before, now = last.get(f"f:{name}"), owned.get(f"f:{name}")
        if before is None:
            result[name] = inner
        elif now is not None:
            result[name] = prune(inner, before, now, node.child(name))
    return result
