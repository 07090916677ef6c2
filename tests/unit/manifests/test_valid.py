"""Every object is one that Kubernetes takes, under the restricted Pod Security Standard."""

from __future__ import annotations

import pytest

from tests.unit.manifests.cases import CASES
from tests.unit.manifests.checks import VERSIONS, check


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CASES)
def test_every_version_of_kubernetes_takes_the_objects(name: str, version: str) -> None:
    for manifest in CASES[name].objects():
        check(manifest, version)


@pytest.mark.parametrize("name", CASES)
def test_a_tenant_is_few_objects_and_an_endpoint_fewer(name: str) -> None:
    case = CASES[name]
    assert len(case.tenant()) <= 9
    assert len(case.objects()) - len(case.tenant()) == (5 if case.spec.flavor.nodes > 1 else 4)
