"""The ways to lay one object over another: server-side apply's, JSON merge patch, strategic merge patch, JSON patch."""

from __future__ import annotations

from typing import Any

from tests.fakes.kubernetes.errors import Refusal, bad_request
from tests.fakes.kubernetes.schema import Node, Shape
from tests.fakes.kubernetes.typed import copy

Json = dict[str, Any]


def applied(live: Any, config: Any, node: Node) -> Any:
    """Server-side apply: maps and keyed lists are merged, everything else is replaced (typed/merge.go)."""
    if node.leaf or live is None or config is None:
        return config
    if node.shape is Shape.LIST:
        return _applied_list(live, config, node)
    result = dict(live)
    for name, value in config.items():
        result[name] = applied(result.get(name), value, node.child(name))
    return result


def _applied_list(live: list[Any], config: list[Any], node: Node) -> list[Any]:
    mine = {node.key(item): item for item in config}
    theirs = {node.key(item): item for item in live}
    result, done = [], set()
    left, right = 0, 0
    while left < len(live) or right < len(config):
        if left < len(live):
            key = node.key(live[left])
            here = node.key(config[right]) if right < len(config) else None
            if key not in mine or key in done:
                if key not in mine:
                    result.append(live[left])
                left += 1
                continue
            if key == here:
                result.append(config[right] if node.is_set else applied(live[left], config[right], node.element))
                done.add(key)
                left, right = left + 1, right + 1
                continue
        key = node.key(config[right])
        if key not in done:
            item = config[right]
            result.append(applied(theirs[key], item, node.element) if key in theirs and not node.is_set else item)
            done.add(key)
        right += 1
    return result


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return copy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def strategic(target: Any, patch: Any, node: Node) -> Any:
    """Kubernetes' strategic merge patch: lists with a merge key are merged item by item, `$patch` directives obeyed."""
    if not isinstance(patch, dict):
        return copy(patch)
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: copy(value) for name, value in patch.items() if name != "$patch"}
    if directive == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if name.startswith("$"):
            _list_directive(result, name, value)
            continue
        child = node.child(name)
        if value is None:
            result.pop(name, None)
        elif isinstance(value, list) and child.shape is Shape.LIST and child.merges:
            result[name] = _strategic_list(result.get(name) or [], value, child)
        else:
            result[name] = strategic(result.get(name), value, child)
    keys = patch.get("$retainKeys")
    return {name: value for name, value in result.items() if name in keys} if keys is not None else result


def _list_directive(result: Json, name: str, value: Any) -> None:
    if name.startswith("$deleteFromPrimitiveList/"):
        field = name.partition("/")[2]
        result[field] = [item for item in result.get(field) or [] if item not in value]


def _strategic_list(live: list[Any], patch: list[Any], node: Node) -> list[Any]:
    if not node.merge_key:  # a merged list of plain values
        return live + [item for item in patch if item not in live]
    if any(item == {"$patch": "replace"} for item in patch):
        return [copy(item) for item in patch if "$patch" not in item]
    result = list(live)
    for item in patch:
        key = item.get(node.merge_key)
        place = next((at for at, each in enumerate(result) if each.get(node.merge_key) == key), None)
        if item.get("$patch") == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.insert(0, strategic({}, item, node.element))  # the server puts what is new in front
        else:
            result[place] = strategic(result[place], item, node.element)
    return result


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902. Raises a 422 where a `test` fails or a path is not there."""
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    result = copy(target)
    for operation in operations:
        try:
            result = _operate(result, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise Refusal(
                422, "Invalid", f"the server rejected our request due to an error in our request: {error}"
            ) from error
    return result


def _operate(document: Any, operation: Json) -> Any:
    steps = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
    kind = operation["op"]
    if kind in {"move", "copy"}:
        source = [step.replace("~1", "/").replace("~0", "~") for step in operation["from"].split("/")[1:]]
        value = copy(_at(document, source))
        if kind == "move":
            _remove(document, source)
        return _add(document, steps, value)
    if kind == "test":
        if _at(document, steps) != operation["value"]:
            raise ValueError(f"testing value {operation['path']} failed")
        return document
    if kind == "remove":
        _remove(document, steps)
        return document
    if kind == "replace":
        _at(document, steps)
        _remove(document, steps)
    return _add(document, steps, copy(operation["value"]))


def _at(document: Any, steps: list[str]) -> Any:
    for step in steps:
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


def _remove(document: Any, steps: list[str]) -> None:
    parent = _at(document, steps[:-1])
    if isinstance(parent, list):
        del parent[int(steps[-1])]
    else:
        del parent[steps[-1]]


def _add(document: Any, steps: list[str], value: Any) -> Any:
    if not steps:
        return value
    parent = _at(document, steps[:-1])
    if isinstance(parent, list):
        parent.insert(len(parent) if steps[-1] == "-" else int(steps[-1]), value)
    else:
        parent[steps[-1]] = value
    return document
