"""Label selectors and field selectors, as lists and watches take them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from tests.fakes.kubernetes.errors import bad_request

Json = dict[str, Any]
Labels = dict[str, str]
Matches = Callable[[Json], bool]

_SET = re.compile(r"^\s*(\S+)\s+(in|notin)\s*\(([^)]*)\)\s*$")
_FIELDS: dict[str, Callable[[Json], str]] = {
    "metadata.name": lambda each: each["metadata"]["name"],
    "metadata.namespace": lambda each: each["metadata"].get("namespace", ""),
    "spec.nodeName": lambda each: each.get("spec", {}).get("nodeName", ""),
    "spec.unschedulable": lambda each: str(each.get("spec", {}).get("unschedulable", False)).lower(),
    "status.phase": lambda each: each.get("status", {}).get("phase", ""),
    "status.podIP": lambda each: each.get("status", {}).get("podIP", ""),
    "type": lambda each: each.get("type", ""),
    "reason": lambda each: each.get("reason", ""),
    "involvedObject.name": lambda each: each.get("involvedObject", {}).get("name", ""),
    "involvedObject.namespace": lambda each: each.get("involvedObject", {}).get("namespace", ""),
    "involvedObject.kind": lambda each: each.get("involvedObject", {}).get("kind", ""),
    "involvedObject.uid": lambda each: each.get("involvedObject", {}).get("uid", ""),
}


@lru_cache(maxsize=1024)
def by_labels(text: str) -> Callable[[Labels], bool]:
    """What `a=b,c!=d,e in (f,g),h notin (i),j,!k` selects. Raises a 400 for what cannot be parsed."""
    requirements = [_requirement(part) for part in re.split(r",(?![^(]*\))", text) if part.strip()]
    return lambda labels: all(each(labels) for each in requirements)


def _requirement(text: str) -> Callable[[Labels], bool]:
    found = _SET.match(text)
    if found:
        key, wanted = found[1], {each.strip() for each in found[3].split(",")}
        if found[2] == "in":
            return lambda labels: labels.get(key) in wanted
        return lambda labels: labels.get(key) not in wanted
    text = text.strip()
    for operator in ("!=", "==", "="):
        key, there, value = (each.strip() for each in text.partition(operator))
        if there:
            if operator == "!=":
                return lambda labels: labels.get(key) != value
            return lambda labels: labels.get(key) == value
    if not re.fullmatch(r"!?[\w./-]+", text):
        raise bad_request(f"unable to parse requirement: found '{text}', expected: identifier")
    if text.startswith("!"):
        return lambda labels: text[1:] not in labels
    return lambda labels: text in labels


def by_fields(text: str) -> Matches:
    """What `metadata.name=a,status.phase!=Running` selects. Raises a 400 for a field that cannot be selected by."""
    tests: list[tuple[Callable[[Json], str], str, bool]] = []
    for part in text.split(","):
        negated = "!=" in part
        name, _, value = part.replace("!=", "=").replace("==", "=").partition("=")
        if name not in _FIELDS:
            raise bad_request(f'field label not supported: "{name}"')
        tests.append((_FIELDS[name], value, negated))
    return lambda each: all((read(each) == value) is not negated for read, value, negated in tests)


def of_query(labels: str, fields: str) -> Matches | None:
    """Both selectors of a list or watch; None where there is none."""
    by_label = by_labels(labels) if labels else None
    by_field = by_fields(fields) if fields else None
    if by_label is None:
        return by_field
    return lambda each: by_label(each["metadata"].get("labels", {})) and (by_field is None or by_field(each))


def matches(selector: Json, labels: Labels) -> bool:
    """A LabelSelector of a spec (matchLabels, matchExpressions)."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(expression_holds(each, labels) for each in selector.get("matchExpressions", ()))


def expression_holds(expression: Json, labels: Labels) -> bool:
    """One expression of a LabelSelector or of a node affinity."""
    key, values = expression["key"], expression.get("values", [])
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case "Gt":
            return key in labels and int(labels[key]) > int(values[0])
        case "Lt":
            return key in labels and int(labels[key]) < int(values[0])
    return False


def in_words(selector: Json) -> str:
    """A LabelSelector as the scale subresource writes it: `a=b,c=d`."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector.get("matchLabels", {}).items()))
