"""What a cluster's settings leave open, and what the installation makes of it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from freehold.fleet.choices import ClusterAccess, RuntimeKind
from freehold.fleet.cluster_settings import Network, parse
from freehold.fleet.observations import WorkCluster
from workers.runtimes.base import RuntimeUnavailable
from workers.runtimes.registry import target_of

HUB = "http://hosting-web.models.svc:80"
PUBLIC = "https://freehold.example"


@pytest.fixture(autouse=True)
def installation(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the namespace `models`, as the chart says it."""
    monkeypatch.setenv("FREEHOLD_HUB_URL", HUB)
    monkeypatch.setenv("FREEHOLD_PUBLIC_URL", PUBLIC)
    monkeypatch.setenv("FREEHOLD_NAMESPACE", "models")


def network(access: ClusterAccess = ClusterAccess.IN_CLUSTER, **given: Any) -> Network:
    cluster = WorkCluster(
        id=uuid.uuid4(),
        public_id="cl_test",
        name="test",
        region="test",
        runtime=RuntimeKind.KUBERNETES,
        access=access,
        credentials=None,
        settings=parse({"network": given}),
        engine_digest="sha256:" + "0" * 64,
        version="v1.36.2",
        retry_at=None,
        has_leader_worker_sets=False,
    )
    return target_of(cluster).settings.network


def namespaces(found: Network) -> list[str]:
    return [
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in (*found.gateway, *found.hub)
    ]


def test_engines_of_the_cluster_that_freehold_runs_in_come_by_its_service() -> None:
    assert network().hub_url == HUB


def test_engines_of_other_clusters_come_by_the_public_address() -> None:
    assert network(ClusterAccess.KUBECONFIG).hub_url == PUBLIC


def test_without_a_service_there_is_the_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FREEHOLD_HUB_URL")
    assert network().hub_url == PUBLIC


@pytest.mark.parametrize("access", ClusterAccess)
def test_what_the_operator_says_holds(access: ClusterAccess) -> None:
    peers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}}}]
    found = network(access, hub_url="https://hub.example", hub=peers, gateway=peers)
    assert found.hub_url == "https://hub.example"
    assert namespaces(found) == ["edge", "edge"]


def test_the_peers_that_nobody_set_are_in_the_installations_namespace() -> None:
    assert namespaces(network()) == ["models", "models"]
    only_hub = network(gateway=[{"ipBlock": {"cidr": "10.1.0.0/16"}}])
    assert only_hub.gateway == ({"ipBlock": {"cidr": "10.1.0.0/16"}},)
    assert only_hub.hub == ({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "models"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/component": "web"}},
    },)  # fmt: skip


def test_another_cluster_may_have_a_namespace_of_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert namespaces(network(ClusterAccess.KUBECONFIG)) == ["freehold", "freehold"]
    monkeypatch.delenv("FREEHOLD_NAMESPACE")
    assert namespaces(network()) == ["freehold", "freehold"]


def test_an_address_that_is_none_is_the_installations_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEHOLD_HUB_URL", "hosting-web:80")
    with pytest.raises(RuntimeUnavailable, match="is not set up as it should be"):
        network()
