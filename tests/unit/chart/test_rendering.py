"""Every case of values installs: Helm's strict lint, Kubernetes' own schemas, and what those do not see."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from typing import Any

import helm_python
import kubernetes_validate
import pytest
from kubernetes_validate import utils

from tests.factories import charts, pod_security
from tests.factories.charts import CASES, Manifest

KUBERNETES = tuple(f"1.{minor}" for minor in range(31, 38))
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "PriorityClass", "ValidatingAdmissionPolicy"}
CLUSTER_WIDE |= {"ValidatingAdmissionPolicyBinding"}
FOREIGN = {  # kinds of CRDs: their group and what has to be there
    "HTTPRoute": ("gateway.networking.k8s.io/v1", {"parentRefs", "hostnames", "rules"}),
    "ServiceMonitor": ("monitoring.coreos.com/v1", {"selector", "endpoints", "namespaceSelector"}),
    "PrometheusRule": ("monitoring.coreos.com/v1", {"groups"}),
}
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?")
SUFFIXES = {"": Decimal(1), "m": Decimal("0.001")}
SUFFIXES |= {unit: Decimal(1000**power) for power, unit in enumerate("kMGTP", 1)}
SUFFIXES |= {f"{unit}i": Decimal(1024**power) for power, unit in enumerate("KMGTP", 1)}

every_case = pytest.mark.parametrize("case", CASES)


def quantity(text: object) -> Decimal:
    """A Kubernetes quantity as a number."""
    match = QUANTITY.fullmatch(str(text))
    assert match, f"{text!r} is no quantity"
    return Decimal(match[1]) * SUFFIXES[match[2] or ""]


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 12


@every_case
@pytest.mark.parametrize("version", [KUBERNETES[0], KUBERNETES[-1]])
def test_helms_strict_lint_finds_nothing(case: str, version: str) -> None:
    found = helm_python.lint(
        charts.CHART, charts.values(case), strict=True, namespace=charts.NAMESPACE, kube_version=version
    )
    assert found["errors"] == []
    assert [line for line in found["messages"] if line["severity"] > 1] == []


@pytest.fixture(scope="module", autouse=True)
def schemas() -> Iterator[None]:
    """kubernetes_validate reads a version's definitions from disk for every object; once is enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", cache(utils.schema_contents))
        yield


@every_case
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_every_object(case: str, version: str) -> None:
    for manifest in charts.rendered(case):
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, version, strict=True)


@every_case
def test_objects_of_crds_have_what_they_need(case: str) -> None:
    for manifest in charts.rendered(case):
        if manifest["kind"] in FOREIGN:
            version, fields = FOREIGN[manifest["kind"]]
            assert manifest["apiVersion"] == version
            assert fields <= set(manifest["spec"])


def test_the_chart_asks_for_the_oldest_kubernetes_that_it_was_validated_for() -> None:
    assert charts.chart().metadata["kubeVersion"] == f">={KUBERNETES[0]}.0-0"


def test_an_installation_is_what_is_rendered() -> None:
    with helm_python.Config(storage_driver="memory") as helm:
        release = helm.install(
            charts.CHART, charts.RELEASE, charts.values(), namespace=charts.NAMESPACE, dry_run="client"
        )
    assert "kind: StatefulSet" in release["manifest"]
    assert "operator_create" in release["notes"]


@every_case
def test_no_two_objects_have_the_same_name(case: str) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in charts.rendered(case)]
    assert len(names) == len(set(names))


@every_case
def test_names_and_labels_fit_and_every_object_is_labelled(case: str) -> None:
    for manifest in charts.rendered(case):
        name, labels = manifest["metadata"]["name"], manifest["metadata"]["labels"]
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name)
        longest = 253 if manifest["kind"] in CLUSTER_WIDE else 52
        assert len(name) <= longest, name
        assert labels["app.kubernetes.io/part-of"] == "freehold"
        for value in labels.values():
            assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value)


def test_the_longest_names_still_fit() -> None:
    pool = {"abcdefghijklmno": {"queues": ["default"]}}
    given = charts.values(
        "everything", fullnameOverride="f" * 36, workers={"pools": pool}, evaluation={"redis": {"enabled": True}},
        redis={"existingSecret": ""},
    )  # fmt: skip
    for manifest in charts.objects(given, revision=9999):
        if manifest["kind"] not in CLUSTER_WIDE:
            # The StatefulSet's and CronJob's controllers add to the name and need it within 63.
            longest = 52 if manifest["kind"] in {"StatefulSet", "CronJob"} else 63
            assert len(manifest["metadata"]["name"]) <= longest


@every_case
def test_pods_are_restricted(case: str) -> None:
    for where, template in charts.templates(charts.rendered(case)):
        assert pod_security.violations(template["spec"], template["metadata"]) == [], where
        for container in charts.containers(template):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, where


@every_case
def test_no_image_floats(case: str) -> None:
    for where, template in charts.templates(charts.rendered(case)):
        for container in charts.containers(template):
            image = container["image"]
            assert "@sha256:" in image or re.search(r":[0-9][^/]*$", image), f"{where}: {image}"


@every_case
def test_quantities_are_quantities_and_requests_are_within_limits(case: str) -> None:
    for where, template in charts.templates(charts.rendered(case)):
        for container in charts.containers(template):
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), where
            assert "memory" in resources["limits"], where
            for name, limit in resources["limits"].items():
                assert quantity(resources["requests"].get(name, 0)) <= quantity(limit), where
        for volume in template["spec"]["volumes"]:
            if "emptyDir" in volume:
                quantity(volume["emptyDir"]["sizeLimit"])
    for manifest in charts.rendered(case):
        for claim in _claims(manifest):
            quantity(claim["resources"]["requests"]["storage"])


def _claims(manifest: Manifest) -> Iterator[dict[str, Any]]:
    if manifest["kind"] == "PersistentVolumeClaim":
        yield manifest["spec"]
    for claim in manifest["spec"].get("volumeClaimTemplates", ()) if manifest["kind"] == "StatefulSet" else ():
        yield claim["spec"]


@every_case
def test_every_mount_has_its_volume_and_every_volume_is_mounted(case: str) -> None:
    for manifest in charts.rendered(case):
        claims = {claim["metadata"]["name"] for claim in manifest.get("spec", {}).get("volumeClaimTemplates", ())}
        for where, template in charts.templates([manifest]):
            volumes = {volume["name"] for volume in template["spec"]["volumes"]} | claims
            mounts = {mount["name"] for one in charts.containers(template) for mount in one["volumeMounts"]}
            assert mounts == volumes, where


def test_one_release_a_namespace_is_not_the_rule() -> None:
    """Two releases in two namespaces of one cluster do not fight over what is cluster-wide."""
    other = charts.chart().render(charts.values(), name=charts.RELEASE, namespace="elsewhere")
    ours = {m["metadata"]["name"] for m in charts.rendered("minimum") if m["kind"] in CLUSTER_WIDE}
    assert ours
    for name in ours:
        assert not any(f"name: {name}\n" in text for text in other.values())
