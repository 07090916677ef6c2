"""The types of the API: which fields exist, which lists are keyed, what is atomic.

Read from the OpenAPI document of Kubernetes 1.36 that `kubernetes-validate` carries, with the `x-kubernetes-*`
extensions that server-side apply and strategic merge patches go by.
"""

from __future__ import annotations

from enum import Enum
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec

from tests.fakes.kubernetes.leaderworkerset_schema import LEADERWORKERSET

Json = dict[str, Any]

_DOCUMENT = "kubernetes-json-schema/v1.36.0-local/_definitions.json"
_KEY_DEFAULTS = {"protocol": "TCP"}  # the only list key that the API fills in: of container and service ports


class Shape(Enum):
    """What a value looks like."""

    SCALAR = "scalar"
    QUANTITY = "quantity"
    ANY = "any"  # free JSON: RawExtension, FieldsV1
    STRUCT = "struct"
    MAP = "map"
    LIST = "list"


class Node:
    """The type of one place in an object. Children are made on first use: the document is recursive."""

    def __init__(self, raw: Json) -> None:
        if "$ref" in raw:
            raw = {**_definitions()[raw["$ref"].rsplit("/", 1)[1]], **raw}
        self._raw = raw
        kind = raw.get("type")
        self.type: str = (next(each for each in kind if each != "null") if isinstance(kind, list) else kind) or ""
        self.format: str = raw.get("format", "")
        self.required: frozenset[str] = frozenset(raw.get("required", ()))
        self.merge_key: str = raw.get("x-kubernetes-patch-merge-key", "")
        self.merges = "merge" in raw.get("x-kubernetes-patch-strategy", "").split(",")
        self.retains_keys = "retainKeys" in raw.get("x-kubernetes-patch-strategy", "").split(",")
        self.shape = self._shape()
        self.keys: tuple[str, ...] = tuple(sorted(raw.get("x-kubernetes-list-map-keys", ())))
        list_type = raw.get("x-kubernetes-list-type", "atomic")
        self.is_set = list_type == "set"
        self.leaf = (  # owned as a whole
            self.shape in {Shape.SCALAR, Shape.QUANTITY, Shape.ANY}
            or raw.get("x-kubernetes-map-type") == "atomic"
            or (self.shape is Shape.LIST and list_type == "atomic")
        )

    def _shape(self) -> Shape:
        raw = self._raw
        if "oneOf" in raw:
            types = {name for each in raw["oneOf"] for name in each["type"]}
            return Shape.QUANTITY if "number" in types else Shape.SCALAR
        if self.type == "array":
            return Shape.LIST
        if self.type == "object":
            if "properties" in raw:
                return Shape.STRUCT
            return Shape.MAP if "additionalProperties" in raw else Shape.ANY
        return Shape.SCALAR if self.type else Shape.ANY

    @cached_property
    def fields(self) -> dict[str, Node]:
        """Of a struct: its fields."""
        return {name: Node(raw) for name, raw in self._raw.get("properties", {}).items()}

    @cached_property
    def element(self) -> Node:
        """Of a list or a map: what is inside."""
        return Node(self._raw["items"] if self.shape is Shape.LIST else self._raw["additionalProperties"])

    def child(self, name: str) -> Node:
        """The type behind a key of a struct or a map; ANY for a field nobody declared."""
        if self.shape is Shape.STRUCT:
            return self.fields.get(name, _ANY)
        return self.element if self.shape is Shape.MAP else _ANY

    def key(self, item: Any) -> tuple[Any, ...] | None:
        """What tells a list's item from the others; None where a key is missing."""
        if self.is_set:
            return (item,)
        if not isinstance(item, dict):
            return None
        values = tuple(item.get(name, _KEY_DEFAULTS.get(name)) for name in self.keys)
        return None if None in values else values


_ANY = Node({})


@cache
def _definitions() -> dict[str, Json]:
    path = Path(kubernetes_validate.__file__).parent / _DOCUMENT
    definitions: dict[str, Json] = msgspec.json.decode(path.read_bytes())["$defs"]
    return {**definitions, "leaderworkerset": LEADERWORKERSET}


@cache
def of(name: str) -> Node:
    """The type of a definition, by its name in the document."""
    return Node(_definitions()[name])
