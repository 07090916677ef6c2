"""NetworkPolicies: nothing in, nothing out, but what an engine needs (invariant 7).

Rules add up in Kubernetes, so the first policy closes a namespace and the others open it. A rule without peers would
open it to everybody: where the settings name nobody there is no rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from freehold.fleet import peers
from freehold.fleet.cluster_settings import ClusterSettings, Port
from workers.manifests.kubernetes import manifest, names
from workers.manifests.kubernetes.manifest import Manifest

API_VERSION = "networking.k8s.io/v1"
_BOTH_WAYS = ["Ingress", "Egress"]


def tenant_policies(*, labels: dict[str, str], namespace: str, settings: ClusterSettings) -> tuple[Manifest, Manifest]:
    """Closes a tenant's namespace, and opens engines to the gateway and their fetchers to the hub."""
    network = settings.network
    sources = [*_peers(settings, "gateway"), *_peers(settings, "metrics")]
    engine_port = [{"port": settings.engine_port, "protocol": "TCP"}]
    egress = [
        {"to": found, "ports": _ports(ports)}
        for name, ports in (
            ("dns", network.dns_ports),
            ("hub", network.hub_ports),
            ("object_store", network.object_store_ports),
        )
        if ports and (found := _peers(settings, name))
    ]
    closed = {"podSelector": {}, "policyTypes": _BOTH_WAYS}
    opened = {
        "podSelector": {"matchLabels": {names.COMPONENT: names.ENGINE}},
        "policyTypes": _BOTH_WAYS,
        "ingress": [{"from": sources, "ports": engine_port}] if sources else [],
        "egress": egress,
    }
    common: dict[str, Any] = {"labels": labels, "namespace": namespace}
    return (
        manifest.of("NetworkPolicy", API_VERSION, names.DENY_POLICY, **common, spec=closed),
        manifest.of("NetworkPolicy", API_VERSION, names.ENGINE_POLICY, **common, spec=opened),
    )


def group_policy(*, name: str, labels: dict[str, str], namespace: str, selector: dict[str, str]) -> Manifest:
    """Lets the pods of one multi-node endpoint speak with each other, on any port: NCCL and Gloo choose theirs."""
    pods = {"podSelector": {"matchLabels": selector}}
    spec = {**pods, "policyTypes": _BOTH_WAYS, "ingress": [{"from": [pods]}], "egress": [{"to": [pods]}]}
    return manifest.of("NetworkPolicy", API_VERSION, name, labels=labels, namespace=namespace, spec=spec)


def _peers(settings: ClusterSettings, name: str) -> list[peers.Peer]:
    network = settings.network
    return peers.without(getattr(network, name), network.blocked, field=f"settings.network.{name}")


def _ports(ports: Iterable[Port]) -> list[dict[str, Any]]:
    return [{"port": port.port, "protocol": port.protocol} for port in ports]
