"""What an operator may say about a cluster; what is wrong is said at once and names its field."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.common.errors import InvalidInput
from freehold.fleet.cluster_settings import ClusterSettings, parse


def test_nothing_said_is_a_plain_cluster() -> None:
    assert parse({}) == ClusterSettings()


def test_what_is_said_is_taken_and_the_rest_stays() -> None:
    found = parse({"resources": {"scratch": "50Gi"}, "scheduling": {"tolerations": [{"operator": "Exists"}]}})
    assert (found.resources.scratch, found.resources.shared_memory) == ("50Gi", "16Gi")
    assert found.scheduling.tolerations == ({"operator": "Exists"},)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"colour": "blue"}, "settings"),
        ({"resources": {"scratsh": "1Gi"}}, "settings.resources"),
        ({"engine_port": "http"}, "settings.engine_port"),
        ({"engine_port": 0}, "settings.engine_port"),
        ({"engine_host": "localhost"}, "settings.engine_host"),
        ({"resources": {"others": {"rdma/hca": "some"}}}, "settings.resources.others"),
        ({"resources": {"scratch": "lots"}}, "settings.resources.scratch"),
        ({"resources": {"shared_memory": "0"}}, "settings.resources.shared_memory"),
        ({"weights_cache": {"size": "-1Gi"}}, "settings.weights_cache.size"),
        ({"weights_cache": {"storage_class": "Fast_Disk"}}, "settings.weights_cache.storage_class"),
        ({"images": {"fetcher": "example.com/freehold:latest"}}, "settings.images.fetcher"),
        ({"images": {"fetcher": "example.com/freehold@sha256:abc"}}, "settings.images.fetcher"),
        ({"images": {"engine": "vllm/vllm-openai:v0.33.0"}}, "settings.images.engine"),
        ({"images": {"engine_by_resource": {"amd.com/gpu": "a b"}}}, "settings.images.engine_by_resource"),
        ({"images": {"pull_secrets": ["My Secret"]}}, "settings.images.pull_secrets"),
        ({"network": {"hub_url": "hub.example.com"}}, "settings.network.hub_url"),
        ({"network": {"hub_ports": [{"port": 70000}]}}, "settings.network"),
        ({"network": {"blocked": ["metadata"]}}, "settings.network.blocked"),
        ({"network": {"gateway": [{}]}}, "settings.network.gateway"),
        ({"network": {"gateway": [{"podSelektor": {}}]}}, "settings.network.gateway"),
        ({"network": {"hub": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}}, "settings.network.hub"),
        ({"network": {"hub": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}}, "settings.network.hub"),
        ({"network": {"hub": [{"ipBlock": "10.0.0.0/8"}]}}, "settings.network.hub"),
        ({"network": {"hub": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/9"]}}]}}, "settings.network.hub"),
        ({"network": {"dns": [{"ipBlock": {"cidr": "169.254.20.10/32"}}]}}, "settings.network.dns"),
        ({"scheduling": {"node_selector": {"a b": "c"}}}, "settings.scheduling.node_selector"),
        ({"scheduling": {"node_selector": {"a": "-"}}}, "settings.scheduling.node_selector"),
        ({"scheduling": {"tolerations": [{"key": "a", "operater": "Exists"}]}}, "settings.scheduling.tolerations"),
        ({"scheduling": {"tolerations": [{"value": "x"}]}}, "settings.scheduling.tolerations"),
        ({"scheduling": {"priority_class": "High"}}, "settings.scheduling.priority_class"),
        ({"scheduling": {"spread_by": ["zone", "zone"]}}, "settings.scheduling.spread_by"),
        ({"scheduling": {"pod_labels": {"freehold.dev/endpoint": "x"}}}, "settings.scheduling.pod_labels"),
        ({"scheduling": {"pod_annotations": {"freehold.dev/template": "x"}}}, "settings.scheduling.pod_annotations"),
        ({"quota": {"hard": {"pods": "many"}}}, "settings.quota.hard"),
        ({"quota": {"default_request": {"cpu": "2"}}}, "settings.quota.default_request"),
        ({"timing": {"shutdown": 0}}, "settings.timing.shutdown"),
        ({"timing": {"start_base": 10**9}}, "settings.timing.start_base"),
        ({"timing": {"load_bytes_per_second": 1}}, "settings.timing.load_bytes_per_second"),
        ({"rollout": {"max_disrupted": 0}}, "settings.rollout.max_disrupted"),
        ({"user_id": 0}, "settings.user_id"),
        ({"namespace_prefix": "Tenants_"}, "settings.namespace_prefix"),
        ({"namespace_prefix": "a" * 40}, "settings.namespace_prefix"),
        ({"engine_arguments": ["--trust_remote_code"]}, "settings.engine_arguments"),
        ({"engine_arguments": ["--api-key=x"]}, "settings.engine_arguments"),
        ({"engine_environment": {"VLLM_SERVER_DEV_MODE": "1"}}, "settings.engine_environment"),
        ({"engine_environment": {"A B": "1"}}, "settings.engine_environment"),
    ],
)
def test_what_kubernetes_would_refuse_later_is_refused_now(document: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(document)
    assert error.value.field == field


def test_a_whole_range_may_be_named_although_parts_are_blocked() -> None:
    everywhere = {"ipBlock": {"cidr": "0.0.0.0/0"}}
    assert parse({"network": {"object_store": [everywhere]}}).network.object_store == (everywhere,)
