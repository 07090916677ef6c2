"""An endpoint's objects: what customers, operators and the scheduler rely on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.unit.manifests.cases import CASES, ENDPOINT, GB, flavor, settings, spec, weights
from tests.unit.manifests.checks import pod_of
from workers.manifests.kubernetes import names
from workers.manifests.kubernetes.endpoint import endpoint_objects


def _pod(**changes: Any) -> dict[str, Any]:
    return pod_of(endpoint_objects(spec(), settings(**changes)))


def _engine(pod: dict[str, Any]) -> dict[str, Any]:
    engine: dict[str, Any] = pod["containers"][0]
    return engine


def _flags(pod: dict[str, Any]) -> dict[str, str]:
    return dict(pairwise(_engine(pod)["args"]))


def _two_nodes() -> Any:
    return endpoint_objects(spec(flavor=flavor(accelerators=16, nodes=2)), settings())


@pytest.mark.parametrize("name", CASES)
def test_objects_come_in_the_order_to_apply(name: str) -> None:
    case = CASES[name]
    kinds = [manifest["kind"] for manifest in case.objects()[len(case.tenant()) :]]
    workload = ["NetworkPolicy", "LeaderWorkerSet"] if case.spec.flavor.nodes > 1 else ["Deployment"]
    assert kinds == ["Secret", "Service", "PodDisruptionBudget", *workload]


@pytest.mark.parametrize("name", CASES)
def test_every_object_says_whose_it_is(name: str) -> None:
    for manifest in CASES[name].objects():
        labels = manifest["metadata"]["labels"]
        assert {names.MANAGED_BY, names.CLUSTER, names.TENANT, names.COMPONENT} <= labels.keys()
        assert len(manifest["metadata"]["annotations"][names.APPLIED]) == 16
    assert manifest["metadata"]["labels"][names.ENDPOINT] == ENDPOINT


def test_the_pull_token_is_seen_by_the_fetcher_alone() -> None:
    pod = _pod()
    fetcher = pod["initContainers"][0]
    assert [mount["name"] for mount in fetcher["volumeMounts"]] == ["weights", "pull-token"]
    assert "pull-token" not in {mount["name"] for mount in _engine(pod)["volumeMounts"]}
    assert not any("secretKeyRef" in str(variable) for variable in (*fetcher["env"], *_engine(pod)["env"]))
    secret = endpoint_objects(spec(), settings())[0]
    assert (secret["metadata"]["name"], "data" in secret, "stringData" in secret) == (
        names.token_secret(ENDPOINT), False, False,
    )  # fmt: skip


def test_the_engine_reads_the_pinned_weights_and_cannot_write_them() -> None:
    pod = _pod()
    path = f"/weights/{'d' * 64}"
    target = {variable["name"]: variable["value"] for variable in pod["initContainers"][0]["env"]}
    assert target["FREEHOLD_FETCH_TARGET"] == _flags(pod)["--model"] == path
    assert target["FREEHOLD_FETCH_DIGEST"] == "d" * 64
    assert {"name": "weights", "mountPath": "/weights", "readOnly": True} in _engine(pod)["volumeMounts"]


def test_everything_the_engine_writes_is_in_its_scratch() -> None:
    paths = {
        variable["name"]: variable["value"]
        for variable in _engine(_pod())["env"]
        if variable["name"].endswith(("HOME", "ROOT", "DIR", "PATH", "BASE"))
    }
    assert {"HOME", "TMPDIR", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"} <= paths.keys()
    assert all(path.startswith("/tmp") for path in paths.values())


def test_the_image_is_the_pinned_digest() -> None:
    assert _engine(_pod())["image"] == f"docker.io/vllm/vllm-openai@sha256:{'e' * 64}"


def test_an_operator_adds_environment_but_does_not_take_the_engine_online() -> None:
    pod = _pod(engine_environment={"HF_HUB_OFFLINE": "0", "NCCL_DEBUG": "INFO"})
    values = {variable["name"]: variable["value"] for variable in _engine(pod)["env"]}
    assert (values["HF_HUB_OFFLINE"], values["NCCL_DEBUG"]) == ("1", "INFO")


def test_a_large_model_is_given_longer_to_start() -> None:
    small, large = _pod(), pod_of(endpoint_objects(spec(weights=weights(1400 * GB)), settings()))
    seconds = [
        probe["failureThreshold"] * probe["periodSeconds"]
        for probe in (_engine(small)["startupProbe"], _engine(large)["startupProbe"])
    ]
    assert seconds[0] >= 600 + 16 * GB / (200 * 1024**2)
    assert seconds[1] >= 600 + 1400 * GB / (200 * 1024**2)
    assert seconds[1] < 3 * 3600


def test_a_rollout_is_called_stuck_only_after_fetch_and_start() -> None:
    for size in (0, 16 * GB, 1400 * GB):
        deployment = endpoint_objects(spec(weights=weights(size)), settings())[-1]["spec"]
        probe = _engine(deployment["template"]["spec"])["startupProbe"]
        start = probe["failureThreshold"] * probe["periodSeconds"]
        assert deployment["progressDeadlineSeconds"] >= size / (20 * 1024**2) + start + deployment["minReadySeconds"]


def test_requests_under_way_end_before_the_pod_is_killed() -> None:
    pod = _pod(timing={"withdraw": 7, "shutdown": 200})
    assert _engine(pod)["lifecycle"]["preStop"] == {"sleep": {"seconds": 7}}
    assert _flags(pod)["--shutdown-timeout"] == "200"
    assert pod["terminationGracePeriodSeconds"] >= 7 + 200 + 30
    assert "lifecycle" not in _engine(_pod(timing={"withdraw": 0}))


def test_a_change_surges_unless_the_cluster_is_full() -> None:
    strategies = [
        endpoint_objects(spec(), settings(rollout={"strategy": strategy}))[-1]["spec"]["strategy"]["rollingUpdate"]
        for strategy in ("surge", "in-place")
    ]
    assert strategies == [{"maxUnavailable": 0, "maxSurge": 1}, {"maxUnavailable": 1, "maxSurge": 0}]


def test_a_node_can_be_drained_even_from_the_only_replica() -> None:
    budget = endpoint_objects(spec(replicas=1), settings())[2]["spec"]
    assert (budget["maxUnavailable"], "minAvailable" in budget) == (1, False)
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "amd.com/gpu"])
def test_accelerators_are_requested_by_the_flavors_resource(resource: str) -> None:
    pod = pod_of(endpoint_objects(spec(flavor=flavor(resource=resource, accelerators=2)), settings()))
    resources = _engine(pod)["resources"]
    assert resources["limits"][resource] == resources["requests"][resource] == "2"
    assert resources["limits"]["cpu"] == "8"
    assert resources["limits"]["memory"] == "64Gi"


def test_a_cpu_flavor_asks_for_no_accelerator_and_has_memory_for_weights_and_cache() -> None:
    pod = pod_of(CASES["cpu"].objects())
    engine = _engine(pod)
    assert not any("/" in name for name in engine["resources"]["limits"])
    assert int(engine["resources"]["limits"]["memory"].removesuffix("Mi")) >= (4 + 4) * 1024 + 953
    values = {variable["name"]: variable["value"] for variable in engine["env"]}
    assert (values["VLLM_CPU_KVCACHE_SPACE"], values["OMP_NUM_THREADS"]) == ("4", "8")


def test_a_pod_goes_where_flavor_and_operator_say() -> None:
    pod = pod_of(CASES["gvisor-priority-spread"].objects())
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [
        {
            "matchExpressions": [
                {"key": "example.com/pool", "operator": "In", "values": ["tenants"]},
                {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-H100-80GB-HBM3"]},
            ]
        }
    ]
    assert (pod["runtimeClassName"], pod["priorityClassName"], pod["schedulerName"]) == ("gvisor", "inference", "kueue")
    assert [constraint["topologyKey"] for constraint in pod["topologySpreadConstraints"]] == [
        "topology.kubernetes.io/zone", "kubernetes.io/hostname",
    ]  # fmt: skip


def test_a_pod_asks_for_the_disk_it_fills_where_that_is_known() -> None:
    def disk(pod: dict[str, Any]) -> int:
        return int(_engine(pod)["resources"]["requests"]["ephemeral-storage"].removesuffix("Mi")) * 1024**2

    assert disk(_pod()) > 16 * GB + 20 * 1024**3
    assert disk(_pod(weights_cache={"kind": "pvc"})) == 20 * 1024**3
    assert "ephemeral-storage" not in _engine(_pod(resources={"reserve_storage": False}))["resources"]["requests"]


def test_a_customers_words_are_not_replaced_by_kubernetes() -> None:
    pod = pod_of(endpoint_objects(spec(served_model_name="$(HOME)"), settings()))
    assert _flags(pod)["--served-model-name"] == "$$(HOME)"


def test_nodes_of_a_replica_form_one_group_of_which_the_leader_answers() -> None:
    objects = _two_nodes()
    group = objects[-1]["spec"]["leaderWorkerTemplate"]
    assert group["size"] == 2
    leader, worker = pod_of(objects, 0), pod_of(objects, 1)
    for pod in (leader, worker):
        flags = _flags(pod)
        assert (flags["--tensor-parallel-size"], flags["--pipeline-parallel-size"], flags["--nnodes"]) == (
            "8",
            "2",
            "2",
        )
        assert (flags["--node-rank"], flags["--master-addr"]) == ("$(LWS_WORKER_INDEX)", "$(LWS_LEADER_ADDRESS)")
        assert "--model" not in flags
        assert _engine(pod)["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert ("--headless" in _engine(leader)["args"], "--headless" in _engine(worker)["args"]) == (False, True)
    assert ("readinessProbe" in _engine(leader), "readinessProbe" in _engine(worker)) == (True, False)


def test_a_worker_outlives_the_streams_of_its_leader() -> None:
    objects = _two_nodes()
    pauses = [_engine(pod_of(objects, index))["lifecycle"]["preStop"]["sleep"]["seconds"] for index in (0, 1)]
    assert pauses == [5, 125]


def test_the_nodes_of_a_group_find_each_other_before_they_are_ready() -> None:
    _secret, service, _budget, policy, group = _two_nodes()
    assert service["metadata"]["name"] == group["metadata"]["name"]  # the subdomain that LeaderWorkerSet gives its pods
    assert service["spec"]["publishNotReadyAddresses"] is True
    pods = {"podSelector": {"matchLabels": {names.ENDPOINT: ENDPOINT}}}
    assert policy["spec"]["ingress"] == [{"from": [pods]}]
    assert policy["spec"]["egress"] == [{"to": [pods]}]
    assert endpoint_objects(spec(), settings())[1]["spec"]["publishNotReadyAddresses"] is False


def test_no_replicas_keeps_the_workload() -> None:
    deployment = CASES["no-replicas"].objects()[-1]
    assert (deployment["kind"], deployment["spec"]["replicas"]) == ("Deployment", 0)


def test_scaling_changes_no_pod() -> None:
    one, two = (endpoint_objects(spec(replicas=replicas), settings())[-1] for replicas in (1, 2))
    assert one["spec"]["template"] == two["spec"]["template"]
    assert one["metadata"]["annotations"][names.APPLIED] != two["metadata"]["annotations"][names.APPLIED]
