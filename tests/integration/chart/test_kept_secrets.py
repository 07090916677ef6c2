"""Generated secrets against an API server: made once, found again by every upgrade and after an uninstallation."""

from __future__ import annotations

import base64
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


@pytest.fixture
def api() -> Iterator[Emulator]:
    with Emulator() as emulator:
        post(emulator, "namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        yield emulator


def post(api: Emulator, path: str, manifest: dict[str, Any]) -> None:
    request = urllib.request.Request(  # noqa: S310 - the emulator on loopback
        f"{api.url}/api/v1/{path}",
        data=json.dumps(manifest).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request):  # noqa: S310 - the same
        pass


def secrets(api: Emulator, case: str, *, upgrade: bool = False) -> dict[str, dict[str, str]]:
    """Every Secret that Helm would apply, with the cluster before its eyes: name → content."""
    with helm_python.Config(kubeconfig_content=api.kubeconfig(), namespace=NAMESPACE) as helm:
        rendered = helm.render(
            charts.chart(),
            charts.values(case),
            name=charts.RELEASE,
            namespace=NAMESPACE,
            is_install=not upgrade,
            is_upgrade=upgrade,
        )
    documents = [item for name, text in rendered.items() if name.endswith(".yaml") for item in yaml.safe_load_all(text)]
    return {item["metadata"]["name"]: item["stringData"] for item in documents if item and item["kind"] == "Secret"}


def install(api: Emulator, case: str) -> dict[str, dict[str, str]]:
    """The first installation: its Secrets are in the cluster then."""
    made = secrets(api, case)
    for name, content in made.items():
        data = {key: base64.b64encode(value.encode()).decode() for key, value in content.items()}
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "data": data}
        post(api, f"namespaces/{NAMESPACE}/secrets", manifest)
    return made


@pytest.mark.parametrize("case", ["minimum", "evaluation"])
def test_an_upgrade_keeps_every_generated_secret(api: Emulator, case: str) -> None:
    made = install(api, case)
    assert secrets(api, case, upgrade=True) == made


def test_an_installation_after_an_uninstallation_finds_the_keys_again(api: Emulator) -> None:
    made = install(api, "minimum")
    assert secrets(api, "minimum")["freehold-keys"] == made["freehold-keys"]


def test_a_lost_secret_stops_the_upgrade(api: Emulator) -> None:
    with pytest.raises(helm_python.HelmError, match="restore it from your backup"):
        secrets(api, "minimum", upgrade=True)


def test_two_installations_have_different_keys(api: Emulator) -> None:
    assert secrets(api, "minimum") != secrets(api, "minimum")
