"""A new release of the platform replaces its own pods and nobody's engine."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.manifests.cases import flavor, settings, spec
from workers.manifests.kubernetes import names
from workers.manifests.kubernetes.continuity import keeping_fetcher
from workers.manifests.kubernetes.drift import differences
from workers.manifests.kubernetes.endpoint import endpoint_objects
from workers.manifests.kubernetes.manifest import Manifest, fingerprint
from workers.manifests.spec import WorkloadSpec

TWO_NODES = spec(flavor=flavor(accelerators=16, nodes=2))


def _release(wanted: WorkloadSpec, digit: str, repository: str = "registry.example.com/freehold") -> Manifest:
    cluster = settings(images={"fetcher": f"{repository}@sha256:{digit * 64}"})
    return endpoint_objects(wanted, cluster)[-1]


def _live(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(manifest))
    return {key: value for key, value in found.items() if key not in {"kind", "apiVersion"}}


@pytest.mark.parametrize("wanted", [spec(), TWO_NODES], ids=["one-node", "two-nodes"])
def test_a_newer_fetcher_alone_changes_nothing(wanted: WorkloadSpec) -> None:
    live = _live(_release(wanted, "1"))
    kept = keeping_fetcher(_release(wanted, "2"), live)
    assert differences(kept, live) == ()
    assert kept["metadata"]["annotations"] == live["metadata"]["annotations"]
    assert kept["metadata"]["annotations"][names.APPLIED] == fingerprint(kept)


def test_scaling_keeps_the_fetcher_too() -> None:
    kept = keeping_fetcher(_release(spec(replicas=4), "2"), _live(_release(spec(), "1")))
    assert kept["spec"]["template"] == _release(spec(), "1")["spec"]["template"]
    assert kept["spec"]["replicas"] == 4


@pytest.mark.parametrize("wanted", [spec(), TWO_NODES], ids=["one-node", "two-nodes"])
def test_any_other_change_of_the_pods_brings_the_new_fetcher(wanted: WorkloadSpec) -> None:
    changed = _release(replace(wanted, engine_digest=f"sha256:{'a' * 64}"), "2")
    assert keeping_fetcher(changed, _live(_release(wanted, "1"))) is changed


def test_an_image_from_elsewhere_is_drift() -> None:
    wanted = _release(spec(), "2")
    live = _live(_release(spec(), "1", "example.org/other"))
    assert keeping_fetcher(wanted, live) is wanted
    assert "spec.template.spec.initContainers[fetch-weights].image" in differences(wanted, live)


def test_what_has_no_pods_is_left_alone() -> None:
    service = endpoint_objects(spec(), settings())[1]
    assert keeping_fetcher(service, {"spec": {}}) is service
    assert keeping_fetcher(wanted := _release(spec(), "1"), {"metadata": {}}) is wanted
