"""Whether drift knows which lists and maps are owned as a whole: held against Kubernetes' own schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.unit.manifests.cases import CASES
from workers.manifests.kubernetes.drift import differences
from workers.manifests.kubernetes.manifest import Manifest

_DEFINITIONS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema/v1.36.0-local/_definitions.json"
_SCHEMAS = {
    "Namespace": "core.v1.Namespace",
    "NetworkPolicy": "networking.v1.NetworkPolicy",
    "ResourceQuota": "core.v1.ResourceQuota",
    "LimitRange": "core.v1.LimitRange",
    "ServiceAccount": "core.v1.ServiceAccount",
    "PersistentVolumeClaim": "core.v1.PersistentVolumeClaim",
    "Service": "core.v1.Service",
    "PodDisruptionBudget": "policy.v1.PodDisruptionBudget",
    "Deployment": "apps.v1.Deployment",
}
Steps = tuple[str | int, ...]


@cache
def _definitions() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_DEFINITIONS.read_text())["$defs"]
    return found


def _resolve(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    target = _definitions()[schema["$ref"].rpartition("/")[2]]
    return {**target, **{key: value for key, value in schema.items() if key.startswith("x-")}}


def _collections(
    value: Any, schema: dict[str, Any], steps: Steps = (), *, whole: bool = False
) -> Iterator[tuple[Steps, bool]]:
    """Every list and map in `value`, and whether it, or what it lies in, is owned as a whole."""
    schema = _resolve(schema)
    if isinstance(value, dict):
        whole = whole or schema.get("x-kubernetes-map-type") == "atomic"
        yield steps, whole
        for key, item in value.items():
            of_key = schema.get("properties", {}).get(key) or schema.get("additionalProperties") or {}
            yield from _collections(item, of_key, (*steps, key), whole=whole)
    elif isinstance(value, list):
        whole = whole or schema.get("x-kubernetes-list-type", "atomic") == "atomic"
        yield steps, whole
        for index, item in enumerate(value):
            yield from _collections(item, schema["items"], (*steps, index), whole=whole)


def _leaves(value: Any, steps: Steps = ()) -> Iterator[Steps]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _leaves(item, (*steps, key))
    else:
        yield steps


def _at(value: Any, steps: Steps) -> Any:
    for step in steps:
        value = value[step]
    return value


def _schema_of(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = _definitions()[f"io.k8s.api.{_SCHEMAS[manifest['kind']]}"]
    return found


def _manifests() -> list[Manifest]:
    found = [
        manifest for name in ("tensor-parallel-pvc", "gvisor-priority-spread") for manifest in CASES[name].objects()
    ]
    return [manifest for manifest in found if manifest["kind"] in _SCHEMAS]


@pytest.mark.parametrize("manifest", _manifests(), ids=lambda manifest: str(manifest["kind"]))
def test_an_addition_is_drift_exactly_where_a_field_is_owned_as_a_whole(manifest: Manifest) -> None:
    for steps, whole in _collections(manifest, _schema_of(manifest)):
        live = json.loads(json.dumps(manifest))
        found = _at(live, steps)
        if isinstance(found, dict):
            found["added"] = "by somebody"
        elif found and isinstance(found[0], dict):
            found.append({key: "added" if isinstance(value, str) else value for key, value in found[0].items()})
        else:
            found.append("added")
        assert bool(differences(manifest, live)) == whole, steps


@pytest.mark.parametrize("manifest", _manifests(), ids=lambda manifest: str(manifest["kind"]))
def test_whatever_is_changed_or_removed_is_drift(manifest: Manifest) -> None:
    for steps in _leaves(manifest):
        if steps[0] in {"kind", "apiVersion"}:
            continue
        live = json.loads(json.dumps(manifest))
        owner = _at(live, steps[:-1])
        value = owner[steps[-1]]
        owner[steps[-1]] = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else "changed"
        assert differences(manifest, live), steps
        del owner[steps[-1]]
        if steps[-1] not in {"protocol", "publishNotReadyAddresses"}:  # absent, they say the same
            assert differences(manifest, live), steps
