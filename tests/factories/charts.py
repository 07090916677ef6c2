"""The Helm chart, rendered by the real Helm engine. Every case (charts/freehold/ci) is rendered once a session."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

Manifest = dict[str, Any]
Values = dict[str, Any]

CHART = Path(__file__).resolve().parents[2] / "charts" / "freehold"
CASES = tuple(sorted(file.name.removesuffix("-values.yaml") for file in (CHART / "ci").glob("*-values.yaml")))
RELEASE = NAMESPACE = "freehold"


@cache
def chart() -> helm_python.Chart:
    """Loaded once; Helm charts are immutable."""
    return helm_python.Chart.load(CHART)


@cache
def _values(case: str) -> Values:
    return dict(yaml.safe_load((CHART / "ci" / f"{case}-values.yaml").read_text()))


def values(case: str = "minimum", **changes: Any) -> Values:
    """A case's values; `changes` are merged into them as Helm merges."""
    return merged(copy.deepcopy(_values(case)), changes)


def merged(base: Values, changes: Mapping[str, Any]) -> Values:
    """As Helm does: maps are merged, everything else is replaced."""
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(name), dict)
        base[name] = merged(base[name], value) if both else value
    return base


def files(given: Values, *, revision: int = 1, upgrade: bool = False) -> dict[str, str]:
    """Template → what it renders. Raises helm_python.HelmError."""
    rendered: dict[str, str] = chart().render(
        given, name=RELEASE, namespace=NAMESPACE, revision=revision, is_install=not upgrade, is_upgrade=upgrade
    )
    return rendered


def objects(given: Values, *, revision: int = 1, upgrade: bool = False) -> list[Manifest]:
    """Every object that the values render."""
    found = []
    for name, text in files(given, revision=revision, upgrade=upgrade).items():
        if name.endswith(".yaml"):
            found += [document for document in yaml.safe_load_all(text) if document]
    return found


@cache
def rendered(case: str) -> tuple[Manifest, ...]:
    """Every object of a case. Not to be changed."""
    return tuple(objects(values(case)))


def notes(given: Values) -> str:
    """What Helm prints after installing."""
    return next(text for name, text in files(given).items() if name.endswith("NOTES.txt"))


def pick(found: Any, kind: str, name: str) -> Manifest:
    """The one object of a kind and name."""
    (manifest,) = [item for item in found if item["kind"] == kind and item["metadata"]["name"] == name]
    return dict(manifest)


def templates(found: Any) -> Iterator[tuple[str, Manifest]]:
    """Every pod template: `Kind/name` and {metadata, spec}. The replay's Job is one, though it lies in a ConfigMap."""
    for item in found:
        where = f"{item['kind']}/{item['metadata']['name']}"
        match item["kind"]:
            case "Deployment" | "StatefulSet" | "Job":
                yield where, item["spec"]["template"]
            case "CronJob":
                yield where, item["spec"]["jobTemplate"]["spec"]["template"]
            case "Pod":
                yield where, item
            case "ConfigMap" if "replay-job.json" in item["data"]:
                job = json.loads(item["data"]["replay-job.json"])
                yield f"{where}/replay-job.json", job["spec"]["template"]


def containers(template: Manifest) -> list[Manifest]:
    """Init containers and containers."""
    spec = template["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]
