"""Reading an object by its type: unknown fields, wrong types, and the form in which the server keeps it.

What a server stores is not what it was sent: nulls, empty lists and Go's zero values are dropped (`omitempty`),
quantities are rewritten. A client that compares what it sent with what it reads must live with that, so the emulator
does it too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.fakes.kubernetes import quantity
from tests.fakes.kubernetes.errors import Refusal
from tests.fakes.kubernetes.schema import Node, Shape

Json = dict[str, Any]

# Booleans and numbers that Go keeps without a pointer: false and 0 are the same as absent. (The document does not say.)
_FALSE_IS_ABSENT = frozenset(
    {
        "publishNotReadyAddresses",
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "stdin",
        "stdinOnce",
        "tty",
        "readOnly",
        "paused",
        "unschedulable",
        "globalDefault",
    }
)
_ZERO_IS_ABSENT = frozenset(
    {
        "initialDelaySeconds",
        "minReadySeconds",
        "hostPort",
        "nodePort",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
        "count",
        "readyReplicas",
        "availableReplicas",
        "updatedReplicas",
        "unavailableReplicas",
        "fullyLabeledReplicas",
        "observedGeneration",
    }
)
# Strings that Go keeps as a pointer: "" means something.
_EMPTY_IS_PRESENT = frozenset({"storageClassName", "runtimeClassName", "type", "service"})
# Lists that stay although empty, and the structs and nulls that Go always writes are in defaults.py.


@dataclass(slots=True)
class Problem:
    """A place that does not fit its type. `dotted` is how JSON decoding calls it, `path` how server-side apply does."""

    dotted: str
    path: str
    unknown: bool
    words: str


_Trail = tuple[Any, ...]  # (parent's trail, step of the path, step of the dotted form)


def problems(value: Any, node: Node) -> list[Problem]:
    """Everything in it that its type does not know."""
    found: list[Problem] = []
    _check(value, node, (), found)
    return found


def _check(value: Any, node: Node, trail: _Trail, found: list[Problem]) -> None:
    if value is None or node.shape is Shape.ANY:
        return
    shape = node.shape
    if shape is Shape.STRUCT:
        if not isinstance(value, dict):
            found.append(_problem(trail, False, f"expected map, got {_go_type(value)}"))
            return
        fields = node.fields
        for name, inner in value.items():
            child = fields.get(name)
            step = (trail, f".{name}", f".{name}")
            if child is None:
                found.append(_problem(step, True, "field not declared in schema"))
            elif inner is not None:
                _check(inner, child, step, found)
    elif shape is Shape.MAP:
        if not isinstance(value, dict):
            found.append(_problem(trail, False, f"expected map, got {_go_type(value)}"))
            return
        for name, inner in value.items():
            _check(inner, node.element, (trail, f".{name}", f".{name}"), found)
    elif shape is Shape.LIST:
        _check_list(value, node, trail, found)
    elif not _fits(value, node):
        expected = {"string": "string", "boolean": "boolean"}.get(node.type, "numeric (int or float)")
        found.append(_problem(trail, False, f"expected {expected}, got {_go_type(value)}"))


def _check_list(value: Any, node: Node, trail: _Trail, found: list[Problem]) -> None:
    if not isinstance(value, list):
        found.append(_problem(trail, False, f"expected list, got {_go_type(value)}"))
        return
    seen = set()
    keyed = bool(node.keys) and not node.leaf
    for index, item in enumerate(value):
        step: _Trail = (trail, f"[{index}]", f"[{index}]")
        if keyed:
            key = node.key(item)
            if key is None:
                missing = next((name for name in node.keys if not isinstance(item, dict) or name not in item), "")
                words = (
                    f"element {index}: associative list with keys has an element that omits key field "
                    f'"{missing}" (and doesn\'t have default value)'
                )
                found.append(_problem(trail, False, words))
                continue
            pairs = ",".join(f"{name}={json.dumps(part)}" for name, part in zip(node.keys, key, strict=True))
            if key in seen:
                found.append(_problem(trail, False, f"duplicate entries for key [{pairs}]"))
            seen.add(key)
            step = (trail, f"[{pairs}]", f"[{index}]")
        _check(item, node.element, step, found)


def _fits(value: Any, node: Node) -> bool:
    match node.type:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str | int | float)


def _go_type(value: Any) -> str:
    names = {str: "string", bool: "boolean", int: "numeric", float: "numeric", dict: "map", list: "list"}
    return names.get(type(value), "null")


def _problem(trail: _Trail, unknown: bool, words: str) -> Problem:
    steps: list[tuple[str, str]] = []
    while trail:
        steps.append((trail[1], trail[2]))
        trail = trail[0]
    steps.reverse()
    path, dotted = "".join(each[0] for each in steps), "".join(each[1] for each in steps).lstrip(".")
    return Problem(dotted, path, unknown, words)


def normal(value: Any, node: Node, name: str = "") -> Any:
    """A fresh copy in the form the server keeps: no nulls, no zero values, canonical quantities, no unknown fields.

    Raises a 400 for a quantity nobody can read.
    """
    shape = node.shape
    if shape is Shape.STRUCT:
        fields, required = node.fields, node.required
        result = {}
        for key, inner in value.items():
            child = fields.get(key)
            if inner is None or child is None:
                continue
            if key not in required and _absent(inner, child, key):
                continue
            result[key] = normal(inner, child, key)
        return result
    if shape is Shape.MAP:
        element = node.element
        return {key: normal(inner, element, key) for key, inner in value.items() if inner is not None}
    if shape is Shape.LIST:
        element = node.element
        return [normal(inner, element) for inner in value if inner is not None]
    if shape is Shape.QUANTITY:
        try:
            return quantity.canonical(str(value))
        except ValueError as error:
            raise Refusal(400, "BadRequest", f"{name}: {error}") from None
    return copy(value) if shape is Shape.ANY else value


def _absent(value: Any, node: Node, name: str) -> bool:
    if value is False:
        return name in _FALSE_IS_ABSENT
    if value == "":
        return name not in _EMPTY_IS_PRESENT
    if value == 0 and not isinstance(value, list | dict):
        return name in _ZERO_IS_ABSENT
    return not value and node.shape in {Shape.MAP, Shape.LIST}


def copy(value: Any) -> Any:
    """A copy of plain JSON that shares nothing with it; an eighth of what `copy.deepcopy` takes."""
    if isinstance(value, dict):
        return {key: copy(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [copy(inner) for inner in value]
    return value
