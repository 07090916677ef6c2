"""A tenant's namespace: its own, restricted, closed."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.common.errors import InvalidInput
from freehold.fleet.cluster_settings import ClusterSettings
from tests.unit.manifests.cases import CLUSTER, TENANT, settings
from workers.manifests.kubernetes.manifest import Manifest
from workers.manifests.kubernetes.tenant import tenant_objects


def _objects(cluster: ClusterSettings | None = None) -> tuple[Manifest, ...]:
    return tenant_objects(tenant=TENANT, slug="acme", cluster=CLUSTER, settings=cluster or settings())


def _engine_policy(**network: Any) -> dict[str, Any]:
    spec: dict[str, Any] = _objects(settings(network=network))[2]["spec"]
    return spec


def test_the_namespace_comes_first_and_is_restricted() -> None:
    namespace, *rest = _objects()
    labels = namespace["metadata"]["labels"]
    assert namespace["metadata"]["name"] == "fh-" + TENANT.replace("_", "-")
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}
    assert {manifest["metadata"]["namespace"] for manifest in rest} == {namespace["metadata"]["name"]}


def test_nothing_comes_in_or_goes_out_unless_another_policy_says_so() -> None:
    deny = _objects()[1]
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_only_the_named_peers_reach_engines_and_only_at_their_port() -> None:
    metrics = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    policy = _engine_policy(metrics=[metrics])
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"port": 8000, "protocol": "TCP"}]]
    assert len(policy["ingress"][0]["from"]) == 2
    assert metrics in policy["ingress"][0]["from"]


def test_a_way_without_peers_is_closed_and_not_open_to_all() -> None:
    policy = _engine_policy(gateway=[], dns=[], hub=[])
    assert (policy["ingress"], policy["egress"]) == ([], [])


def test_a_way_without_ports_is_closed_and_not_open_on_all() -> None:
    policy = _engine_policy(hub_ports=[], dns_ports=[])
    assert policy["egress"] == []


def test_metadata_services_are_cut_out_of_every_address_range() -> None:
    policy = _engine_policy(
        object_store=[{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}, {"ipBlock": {"cidr": "::/0"}}],
        hub=[{"ipBlock": {"cidr": "100.64.0.0/10"}}],
    )
    blocks = [peer["ipBlock"] for rule in policy["egress"] for peer in rule["to"] if "ipBlock" in peer]
    assert blocks == [
        {"cidr": "100.64.0.0/10", "except": ["100.100.100.200/32"]},
        {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32"]},
        {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128"]},
    ]


@pytest.mark.parametrize("cidr", ["169.254.169.254/32", "169.254.0.0/16", "fd00:ec2::254/128"])
def test_a_metadata_service_cannot_be_named_as_a_peer(cidr: str) -> None:
    with pytest.raises(InvalidInput, match=r"settings\.network\.blocked") as error:
        settings(network={"object_store": [{"ipBlock": {"cidr": cidr}}]})
    assert error.value.field == "settings.network.object_store"


def test_a_cache_is_one_claim_of_the_tenant() -> None:
    assert {manifest["kind"] for manifest in _objects()} == {
        "Namespace", "NetworkPolicy", "ResourceQuota", "LimitRange", "ServiceAccount",
    }  # fmt: skip
    claim = _objects(settings(weights_cache={"kind": "pvc", "size": "2Ti"}))[-1]
    assert claim["kind"] == "PersistentVolumeClaim"
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Ti"
    assert "storageClassName" not in claim["spec"]  # the cluster's default; an empty name would mean none at all


def test_the_service_account_has_no_token() -> None:
    account = next(manifest for manifest in _objects() if manifest["kind"] == "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
