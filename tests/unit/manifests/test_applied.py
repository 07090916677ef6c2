"""Applied to a server that merges, fills in and rewrites as Kubernetes does, nothing reads as drift."""

from __future__ import annotations

import pytest

from tests.fakes.kubernetes import resources
from tests.fakes.kubernetes.objects import Objects, Writing
from tests.fakes.kubernetes.storage import Store
from tests.unit.manifests.cases import CASES, Case, settings, spec
from workers.manifests.kubernetes.drift import differences
from workers.manifests.kubernetes.manifest import Manifest

RESOURCES = {found.kind: found for found in vars(resources).values() if isinstance(found, resources.Resource)}
ODD = Case(
    settings(
        resources={"cpu_per_accelerator": "500m", "memory_per_accelerator": "1024Mi", "scratch": "2048Mi"},
        rollout={"min_ready": 0},
        quota={
            "hard": {"pods": "1k", "requests.cpu": "2000m"},
            "default_limit": {"cpu": "1000m"},
            "default_request": {"cpu": "0.5"},
        },
    ),
    spec(),
)


def _apply(server: Objects, manifest: Manifest) -> tuple[dict[str, object], int]:
    metadata = manifest["metadata"]
    key = RESOURCES[manifest["kind"]], metadata.get("namespace", ""), metadata["name"]
    server.apply(*key, manifest, Writing("freehold", validation="Strict"))
    stored = server.get(*key)
    return stored.body, stored.version


@pytest.mark.parametrize("case", [*CASES.values(), ODD], ids=[*CASES, "odd-quantities"])
def test_what_was_applied_has_not_drifted_and_is_applied_once(case: Case) -> None:
    server = Objects(Store())
    for manifest in case.objects():
        body, version = _apply(server, manifest)
        assert differences(manifest, body) == ()
        assert _apply(server, manifest) == (body, version)
