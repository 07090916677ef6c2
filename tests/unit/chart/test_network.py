"""Who may speak to whom: default deny, then what each needs; and how the outside comes in."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.common import ports
from tests.factories import charts
from tests.factories.charts import CASES, Manifest, pick
from workers.manifests.kubernetes import manifest, names

CASES_WITH_POLICIES = [case for case in CASES if case != "no-network-policies"]


def policy(component: str, case: str = "minimum", **changes: Any) -> Manifest:
    found = charts.objects(charts.values(case, **changes)) if changes else charts.rendered(case)
    return dict(pick(found, "NetworkPolicy", f"freehold-{component}")["spec"])


def ports_of(rule: dict[str, Any]) -> set[int]:
    return {port["port"] for port in rule["ports"]}


def reached(component: str, case: str = "minimum") -> set[int]:
    return {port for rule in policy(component, case).get("egress", ()) for port in ports_of(rule)}


@pytest.mark.parametrize("case", CASES_WITH_POLICIES)
def test_every_pod_is_denied_everything_that_no_policy_allows(case: str) -> None:
    policies = [item["spec"] for item in charts.rendered(case) if item["kind"] == "NetworkPolicy"]
    for spec in policies:
        assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    for where, template in charts.templates(charts.rendered(case)):
        labels = template["metadata"]["labels"]
        chosen = [spec for spec in policies if spec["podSelector"]["matchLabels"].items() <= labels.items()]
        assert len(chosen) == 2, where


def test_there_are_none_where_they_are_switched_off() -> None:
    assert not [item for item in charts.rendered("no-network-policies") if item["kind"] == "NetworkPolicy"]


def test_each_reaches_what_it_needs_and_no_more() -> None:
    database, redis, store, kubernetes = {5432}, {6379}, {443}, {443, 6443}
    assert reached("web") == database | redis | store
    assert reached("worker") == database | redis | store | kubernetes
    assert reached("watcher") == database | redis | kubernetes
    assert reached("beat") == database | redis
    assert reached("migrate") == database
    assert reached("gateway") == redis | {8000}
    assert reached("replay") == kubernetes
    assert reached("replay-job") == redis


def test_only_web_gateway_and_watcher_are_spoken_to() -> None:
    heard = {
        name: {port for rule in policy(name).get("ingress", ()) for port in ports_of(rule)}
        for name in ("web", "gateway", "watcher", "worker", "beat", "migrate", "replay", "replay-job", "test")
    }
    assert {name: heard for name, heard in heard.items() if heard} == {
        "web": {ports.WEB},
        "gateway": {ports.GATEWAY, ports.GATEWAY_METRICS},
        "watcher": {ports.CONTROL_METRICS},
    }


def test_the_gateway_reaches_engines_in_tenants_namespaces_alone() -> None:
    (rule,) = [rule for rule in policy("gateway")["egress"] if ports_of(rule) == {8000}]
    assert rule["to"] == [{"namespaceSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "freehold"}}}]


TENANTS = {"namespaceSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "freehold"}}}
CLIENTS = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}}}]


def test_engines_fetch_from_web_whoever_its_clients_are() -> None:
    (rule,) = policy("web", networkPolicy={"clients": {"peers": CLIENTS}})["ingress"]
    assert TENANTS in rule["from"]
    assert ports_of(rule) == {ports.WEB}
    labels = manifest.labels(cluster="cl_a", tenant="tnt_a", component=names.TENANCY)
    assert TENANTS["namespaceSelector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize(("component", "case"), [("gateway", "minimum"), ("web", "remote-clusters")])
def test_engines_reach_nothing_else_of_ours(component: str, case: str) -> None:
    for rule in policy(
        component, case, networkPolicy={"clients": {"peers": CLIENTS}, "prometheus": {"peers": CLIENTS}}
    )["ingress"]:
        assert TENANTS not in rule["from"]


def test_metadata_services_are_out_of_reach() -> None:
    """Imports fetch addresses that customers name."""
    for rule in policy("worker")["egress"]:
        for peer in rule["to"]:
            if "ipBlock" in peer:
                blocked = peer["ipBlock"]["except"]
                assert "169.254.0.0/16" in blocked or "fd00:ec2::254/128" in blocked


def test_imports_reach_no_pod_of_the_cluster() -> None:
    imports = policy("worker")["egress"][-1]
    assert all("ipBlock" in peer for peer in imports["to"])


def test_evaluation_databases_are_reached_by_label_and_only_by_us() -> None:
    for component, port in (("postgresql", 5432), ("redis", 6379)):
        (rule,) = policy(component, "evaluation")["ingress"]
        assert ports_of(rule) == {port}
        allowed = set(rule["from"][0]["podSelector"]["matchExpressions"][0]["values"])
        for name in ("web", "worker", "watcher", "beat", "migrate", "gateway", "replay-job"):
            egress = str(policy(name, "evaluation").get("egress", ""))
            assert (f"'{component}'" in egress) is (name in allowed), name


def test_peers_of_the_operators_own_replace_the_open_ones() -> None:
    mine = [{"namespaceSelector": {"matchLabels": {"team": "databases"}}}]
    spec = policy("beat", networkPolicy={"database": {"peers": mine, "ports": [6432]}})
    assert spec["egress"][0] == {"to": mine, "ports": [{"port": 6432, "protocol": "TCP"}]}


def test_the_test_pod_gets_in_beside_the_ingress_controller() -> None:
    (rule,) = policy("web", "ingress")["ingress"]
    assert {next(iter(peer)) for peer in rule["from"]} == {"namespaceSelector", "podSelector"}


# Routes


def test_an_ingress_takes_its_host_from_the_public_address() -> None:
    found = charts.rendered("ingress")
    web = pick(found, "Ingress", "freehold-web")["spec"]
    gateway = pick(found, "Ingress", "freehold-gateway")["spec"]
    assert web["rules"][0]["host"] == "freehold.example.com"
    assert gateway["rules"][0]["host"] == "api.freehold.example.com"
    assert web["tls"] == [{"secretName": "freehold-tls", "hosts": ["freehold.example.com"]}]


def test_an_https_port_is_no_part_of_the_host() -> None:
    given = charts.values("ingress", publicUrl="https://freehold.example.com:8443")
    found = charts.objects(given)
    assert pick(found, "Ingress", "freehold-web")["spec"]["rules"][0]["host"] == "freehold.example.com"
    hosts = pick(found, "ConfigMap", "freehold-config")["data"]["ALLOWED_HOSTS"]
    assert hosts.split(",")[0] == "freehold.example.com"


def test_a_route_of_the_gateway_api_sets_streams_no_deadline() -> None:
    for name in ("web", "gateway"):
        (rule,) = pick(charts.rendered("gateway-api"), "HTTPRoute", f"freehold-{name}")["spec"]["rules"]
        assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
