"""For any settings an operator may give and any endpoint: valid, restricted, stable."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from freehold.fleet.cluster_settings import ClusterSettings, parse
from tests.unit.manifests import cases
from tests.unit.manifests.checks import check, templates
from workers.manifests.kubernetes import names
from workers.manifests.kubernetes.drift import differences
from workers.manifests.kubernetes.endpoint import endpoint_objects
from workers.manifests.kubernetes.manifest import fingerprint
from workers.manifests.kubernetes.tenant import tenant_objects
from workers.manifests.spec import FlavorSpec, WeightsRef, WorkloadSpec

_few = hypothesis_settings(
    max_examples=20,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # shrinking would validate against large schemas for minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
_names = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
_keys = st.builds("{}.example.com/{}".format, _names, _names)
_labels = st.dictionaries(_keys, _names, max_size=3)
_quantities = st.builds("{}{}".format, st.integers(1, 4000), st.sampled_from(["", "Mi", "Gi", "M", "k"]))
_cpus = st.builds("{}{}".format, st.integers(1, 4000), st.sampled_from(["", "m"]))
_blocks = st.builds(lambda first: {"ipBlock": {"cidr": f"{first}.0.0.0/16"}}, st.integers(1, 99))
_pods = st.builds(lambda labels: {"podSelector": {"matchLabels": labels}}, _labels)
_peers = st.lists(st.one_of(_blocks, _pods, st.just({"ipBlock": {"cidr": "0.0.0.0/0"}})), max_size=3)
_documents = st.fixed_dictionaries(
    {},
    optional={
        "namespace_prefix": _names.map(lambda name: f"{name[:10]}-"),
        "images": st.fixed_dictionaries(
            {"fetcher": st.just(f"example.com/freehold@sha256:{'f' * 64}")},
            optional={"pull_secrets": st.lists(_names, max_size=2, unique=True)},
        ),
        "network": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("gateway", "metrics", "dns", "hub", "object_store"), _peers)
        ),
        "weights_cache": st.fixed_dictionaries(
            {}, optional={"kind": st.sampled_from(["pvc", "emptyDir"]), "size": _quantities, "storage_class": _names}
        ),
        "resources": st.fixed_dictionaries(
            {},
            optional={
                "cpu_per_accelerator": _cpus,
                "memory_per_accelerator": _quantities,
                "shared_memory": _quantities,
                "scratch": _quantities,
                "reserve_storage": st.booleans(),
            },
        ),
        "scheduling": st.fixed_dictionaries(
            {},
            optional={
                "node_selector": _labels,
                "priority_class": _names,
                "runtime_class": _names,
                "scheduler": _names,
                "spread_by": st.lists(_keys, max_size=2, unique=True),
                "pod_labels": _labels,
                "pod_annotations": _labels,
                "group_topology": _keys,
            },
        ),
        "timing": st.fixed_dictionaries(
            {},
            optional={
                "withdraw": st.integers(0, 60),
                "shutdown": st.integers(1, 3600),
                "start_base": st.integers(1, 3600),
                "load_bytes_per_second": st.integers(1024**2, 10**10),
            },
        ),
        "rollout": st.fixed_dictionaries(
            {}, optional={"strategy": st.sampled_from(["surge", "in-place"]), "min_ready": st.integers(0, 60)}
        ),
        "user_id": st.integers(1, 2**31 - 1),
        "engine_port": st.integers(1, 65535),
    },
)  # fmt: skip
_settings = _documents.map(parse)


def _spec(nodes: int, per_node: int, resource: str, size: int, replicas: int, **changes: Any) -> WorkloadSpec:
    flavor = FlavorSpec(
        name="any",
        accelerator="any",
        accelerators=nodes * per_node,
        nodes=nodes,
        resource=resource,
        node_labels=changes.pop("node_labels"),
    )
    weights = WeightsRef(tenant=cases.TENANT, repo="acme/any", commit_id="c" * 40, digest="d" * 64, bytes=size)
    return replace(cases.spec(), flavor=flavor, weights=weights, replicas=replicas, **changes)


_specs = st.builds(
    _spec,
    nodes=st.integers(1, 4),
    per_node=st.integers(1, 8),
    resource=st.sampled_from(["nvidia.com/gpu", "amd.com/gpu", "nvidia.com/mig-2g.20gb", ""]),
    size=st.integers(0, 2 * 10**12),
    replicas=st.integers(0, 5),
    task=st.sampled_from(["generate", "embed"]),
    node_labels=_labels,
    arguments=st.fixed_dictionaries({}, optional={"max_model_len": st.integers(16, 10**6)}),
)


@_few
@given(spec=_specs, settings=_settings)
def test_every_object_is_valid_and_restricted(spec: WorkloadSpec, settings: ClusterSettings) -> None:
    tenant = tenant_objects(tenant=cases.TENANT, slug="acme", cluster=cases.CLUSTER, settings=settings)
    for manifest in (*tenant, *endpoint_objects(spec, settings)):
        check(manifest, "1.31", "1.37")
        assert differences(manifest, json.loads(json.dumps(manifest))) == ()
        assert manifest["metadata"]["annotations"][names.APPLIED] == fingerprint(manifest)


@_few
@given(one=_specs, two=_specs, first=_settings, second=_settings)
def test_what_selects_pods_never_changes(
    one: WorkloadSpec, two: WorkloadSpec, first: ClusterSettings, second: ClusterSettings
) -> None:
    selector = {names.ENDPOINT: cases.ENDPOINT}
    for spec, settings in ((one, first), (two, second)):
        _secret, service, budget, *_, workload = endpoint_objects(spec, settings)
        assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"] == selector
        if workload["kind"] == "Deployment":
            assert workload["spec"]["selector"] == {"matchLabels": selector}
        for template in templates(workload):
            assert selector.items() <= template["metadata"]["labels"].items()


@_few
@given(one=_specs, two=_specs, settings=_settings)
def test_the_hash_changes_exactly_with_the_content(
    one: WorkloadSpec, two: WorkloadSpec, settings: ClusterSettings
) -> None:
    again = endpoint_objects(one, settings)
    for left, same in zip(endpoint_objects(one, settings), again, strict=True):
        assert left == same
    for left, right in zip(again, endpoint_objects(two, settings), strict=False):
        hashes = [manifest["metadata"]["annotations"].pop(names.APPLIED) for manifest in (left, right)]
        assert (hashes[0] == hashes[1]) == (left == right)


@_few
@given(settings=_settings)
def test_no_policy_opens_a_namespace_to_everybody(settings: ClusterSettings) -> None:
    for manifest in tenant_objects(tenant=cases.TENANT, slug="acme", cluster=cases.CLUSTER, settings=settings):
        if manifest["kind"] == "NetworkPolicy":
            for way, side in (("ingress", "from"), ("egress", "to")):
                for rule in manifest["spec"].get(way, ()):
                    assert rule[side]
                    assert rule["ports"]
