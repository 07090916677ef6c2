"""Autoscaling takes over from as many pods as there are: Helm looks at the cluster."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import helm_python
import pytest
import yaml

from tests.factories import charts
from tests.fakes.kubernetes import Emulator

NAMESPACE = charts.NAMESPACE
SCALED = ("freehold-web", "freehold-worker-default")


@pytest.fixture
def api() -> Iterator[Emulator]:
    with Emulator() as emulator:
        post(emulator, "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        yield emulator


def post(api: Emulator, path: str, manifest: dict[str, Any]) -> None:
    request = urllib.request.Request(  # noqa: S310 - the emulator on loopback
        f"{api.url}{path}",
        data=json.dumps(manifest).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request):  # noqa: S310 - the same
        pass


def deployed(api: Emulator, count: int) -> None:
    """The Deployments are there, each with so many pods."""
    for name in SCALED:
        manifest = charts.pick(charts.rendered("high-availability"), "Deployment", name)
        manifest["spec"] = {**manifest["spec"], "replicas": count}
        post(api, f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", manifest)


def replicas(api: Emulator, case: str) -> list[int | None]:
    """Of what Helm would apply; None where it says nothing."""
    with helm_python.Config(kubeconfig_content=api.kubeconfig(), namespace=NAMESPACE) as helm:
        rendered = helm.render(charts.chart(), charts.values(case), name=charts.RELEASE, namespace=NAMESPACE)
    documents = [item for name, text in rendered.items() if name.endswith(".yaml") for item in yaml.safe_load_all(text)]
    found = [item for item in documents if item]
    return [charts.pick(found, "Deployment", name)["spec"].get("replicas") for name in SCALED]


def test_an_autoscaler_begins_with_what_is_there(api: Emulator) -> None:
    deployed(api, 5)
    assert replicas(api, "autoscaling") == [5, 5]


def test_without_anything_there_the_autoscaler_decides_alone(api: Emulator) -> None:
    assert replicas(api, "autoscaling") == [None, None]


def test_a_fixed_number_is_the_values(api: Emulator) -> None:
    deployed(api, 5)
    assert replicas(api, "high-availability") == [3, 3]
