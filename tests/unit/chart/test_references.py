"""What refers to something finds it: selectors, ports, accounts, ConfigMaps, Secrets and the variables in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from freehold.common import ports
from tests.factories import charts
from tests.factories.charts import CASES, CHART, Manifest

DOCUMENTED = (CHART.parents[1] / "docs" / "configuration.md").read_text()
KUBERNETES_OWN = {"POD_NAME", "POD_NAMESPACE"}
# What pods may take from elsewhere: the Secrets of the cases' own values.
OURS = re.compile(r"(freehold|hosting)-(keys|database|redis-url|redis|s3|postgresql)")

every_case = pytest.mark.parametrize("case", CASES)


def given_names(values: Any, key: str) -> Iterator[str]:
    """Every value of a key, at any depth."""
    if isinstance(values, dict):
        for name, value in values.items():
            if name == key and isinstance(value, str):
                yield value
            yield from given_names(value, key)


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in selector.items())


def named(case: str, kind: str) -> dict[str, Manifest]:
    return {item["metadata"]["name"]: item for item in charts.rendered(case) if item["kind"] == kind}


@every_case
def test_workloads_select_their_own_pods_and_no_others(case: str) -> None:
    pods = dict(charts.templates(charts.rendered(case)))
    for manifest in charts.rendered(case):
        if manifest["kind"] in {"Deployment", "StatefulSet"}:
            selector = manifest["spec"]["selector"]["matchLabels"]
            chosen = [where for where, pod in pods.items() if matches(selector, pod["metadata"]["labels"])]
            assert chosen == [f"{manifest['kind']}/{manifest['metadata']['name']}"]


@every_case
def test_selectors_hold_nothing_that_an_upgrade_changes(case: str) -> None:
    for manifest in charts.rendered(case):
        if manifest["kind"] in {"Deployment", "StatefulSet"}:
            allowed = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
            assert set(manifest["spec"]["selector"]["matchLabels"]) <= allowed | {"freehold.dev/pool"}


@every_case
def test_services_budgets_and_policies_select_pods_and_ports_that_exist(case: str) -> None:
    pods = [pod for _, pod in charts.templates(charts.rendered(case))]
    for manifest in charts.rendered(case):
        match manifest["kind"]:
            case "Service":
                selector = manifest["spec"]["selector"]
            case "PodDisruptionBudget":
                selector = manifest["spec"]["selector"]["matchLabels"]
            case "NetworkPolicy":
                selector = manifest["spec"]["podSelector"]["matchLabels"]
            case _:
                continue
        chosen = [pod for pod in pods if matches(selector, pod["metadata"]["labels"])]
        assert chosen, manifest["metadata"]["name"]
        for port in manifest["spec"].get("ports", ()) if manifest["kind"] == "Service" else ():
            for pod in chosen:
                assert port["targetPort"] in {p["name"] for c in pod["spec"]["containers"] for p in c["ports"]}


@every_case
def test_scalers_scale_something_that_has_no_number_of_its_own(case: str) -> None:
    for scaler in named(case, "HorizontalPodAutoscaler").values():
        target = scaler["spec"]["scaleTargetRef"]
        assert "replicas" not in named(case, target["kind"])[target["name"]]["spec"]


@every_case
def test_headless_services_of_statefulsets_exist(case: str) -> None:
    for workload in named(case, "StatefulSet").values():
        assert named(case, "Service")[workload["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"


@every_case
def test_routes_lead_to_services_and_ports_that_exist(case: str) -> None:
    services = named(case, "Service")
    for ingress in named(case, "Ingress").values():
        for rule in ingress["spec"]["rules"]:
            backend = rule["http"]["paths"][0]["backend"]["service"]
            assert backend["port"]["name"] in {p["name"] for p in services[backend["name"]]["spec"]["ports"]}
    for route in named(case, "HTTPRoute").values():
        for backend in route["spec"]["rules"][0]["backendRefs"]:
            assert backend["port"] in {p["port"] for p in services[backend["name"]]["spec"]["ports"]}


@every_case
def test_accounts_exist_and_only_three_kinds_of_pods_hold_a_token(case: str) -> None:
    accounts = named(case, "ServiceAccount")
    for account in accounts.values():
        assert account["automountServiceAccountToken"] is False
    holders = set()
    used = set()
    for where, template in charts.templates(charts.rendered(case)):
        used.add(template["spec"]["serviceAccountName"])
        if template["spec"]["automountServiceAccountToken"]:
            holders.add(template["metadata"]["labels"]["app.kubernetes.io/component"])
        assert template["spec"]["enableServiceLinks"] is False, where
    assert used == set(accounts)
    assert holders <= {"worker", "watcher", "replay"}


@every_case
def test_roles_are_bound_to_accounts_that_exist(case: str) -> None:
    accounts = named(case, "ServiceAccount")
    for kind, role_kind in (("RoleBinding", "Role"), ("ClusterRoleBinding", "ClusterRole")):
        roles = named(case, role_kind)
        bindings = named(case, kind)
        assert {binding["roleRef"]["name"] for binding in bindings.values()} == set(roles)
        for binding in bindings.values():
            for subject in binding["subjects"]:
                assert subject["name"] in accounts
                assert subject["namespace"] == charts.NAMESPACE


@every_case
def test_configmaps_and_secrets_exist_or_are_the_operators_own(case: str) -> None:
    configmaps, secrets = named(case, "ConfigMap"), named(case, "Secret")
    own = set(given_names(charts.values(case), "existingSecret"))
    for where, template in charts.templates(charts.rendered(case)):
        for name in _configmaps(template):
            assert name in configmaps, where
        for name, key in _secrets(template):
            if name in own:
                continue
            assert OURS.fullmatch(name), where
            assert key in secrets[name]["stringData"], f"{where}: {name} has no {key}"


def _configmaps(template: Manifest) -> Iterator[str]:
    for volume in template["spec"]["volumes"]:
        if "configMap" in volume:
            yield volume["configMap"]["name"]
    for container in charts.containers(template):
        for source in container.get("envFrom", ()):
            yield source["configMapRef"]["name"]


def _secrets(template: Manifest) -> Iterator[tuple[str, str]]:
    for container in charts.containers(template):
        for variable in container.get("env", ()):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield reference["name"], reference["key"]
    for volume in template["spec"]["volumes"]:
        for item in volume.get("secret", {}).get("items", ()):
            yield volume["secret"]["secretName"], item["key"]


@every_case
def test_every_variable_is_documented_and_set_once(case: str) -> None:
    configmaps = named(case, "ConfigMap")
    for where, template in charts.templates(charts.rendered(case)):
        if template["metadata"]["labels"]["app.kubernetes.io/component"] in {"postgresql", "redis"}:
            continue
        for container in charts.containers(template):
            names = [variable["name"] for variable in container.get("env", ())]
            for source in container.get("envFrom", ()):
                names += configmaps[source["configMapRef"]["name"]]["data"]
            assert len(names) == len(set(names)), f"{where}: {sorted(names)}"
            for name in set(names) - KUBERNETES_OWN:
                assert is_documented(name), f"{name} is not in docs/configuration.md"


def is_documented(name: str) -> bool:
    """A row of several is shortened there: `GATEWAY_CONNECT_SECONDS`, `…_FIRST_TOKEN_…`, `…_DRAIN_SECONDS`."""
    rest = name.removeprefix("GATEWAY")
    written = (name, f"…{rest}", f"…{rest.removesuffix('SECONDS')}…")
    return any(f"`{form}`" in DOCUMENTED for form in written)


@every_case
def test_secrets_are_in_no_configmap_and_no_argument(case: str) -> None:
    for manifest in named(case, "ConfigMap").values():
        assert not {"SECRET_KEY", "DATABASE_URL", "REDIS_URL", "S3_SECRET_ACCESS_KEY"} & set(manifest["data"])
    for where, template in charts.templates(charts.rendered(case)):
        for container in charts.containers(template):
            assert not re.search(r"://[^/\s]*:[^/\s]*@", str(container)), where


@every_case
def test_only_the_migration_knows_the_owner_of_the_tables(case: str) -> None:
    for where, template in charts.templates(charts.rendered(case)):
        for container in charts.containers(template):
            if "DATABASE_MIGRATE_URL" in {variable["name"] for variable in container.get("env", ())}:
                assert where.startswith("Job/"), where


def test_ports_are_those_of_the_code() -> None:
    shown = {"web": {ports.WEB}, "gateway": {ports.GATEWAY, ports.GATEWAY_METRICS}, "watcher": {ports.CONTROL_METRICS}}
    for _, template in charts.templates(charts.rendered("minimum")):
        component = template["metadata"]["labels"]["app.kubernetes.io/component"]
        for container in template["spec"]["containers"]:
            found = {port["containerPort"] for port in container.get("ports", ())}
            assert found == shown.get(component, set()), component
