"""The cluster behind the emulator: controllers and kubelets, as a client sees their work."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes import client

from tests.fakes.kubernetes import Emulator
from tests.integration.kubernetes.clients import (
    apply_deployment,
    core_of,
    deployment,
    eventually,
    namespace,
    official,
    told,
)

Json = dict[str, Any]


@pytest.fixture
def space(api: Emulator) -> str:
    return namespace(api)


@pytest.fixture
def core(api: Emulator) -> Any:
    return core_of(api)


@pytest.fixture
def apps(api: Emulator) -> Any:
    return client.AppsV1Api(official(api))


def _pods(api: Emulator, prefix: str = "ep-1-") -> list[Json]:
    return [each.body for each in api.cluster.pods.all(prefix)]


def _scheduled(pod: Json) -> str:
    return next(str(each.get("message", "")) for each in pod["status"]["conditions"] if each["type"] == "PodScheduled")


def test_a_deployment_gets_pods_and_becomes_available(api: Emulator, space: str, apps: Any) -> None:
    apply_deployment(api, deployment("ep-1", replicas=2))
    api.cluster.settle()
    pods = _pods(api)
    assert {each["spec"]["nodeName"] for each in pods} == {"gpu-0", "gpu-1"}
    assert {each["metadata"]["ownerReferences"][0]["kind"] for each in pods} == {"ReplicaSet"}
    for pod in pods:
        api.cluster.pods.ready(pod["metadata"]["name"])
    api.cluster.settle()
    status = apps.read_namespaced_deployment("ep-1", space).status
    assert (status.ready_replicas, status.available_replicas, status.updated_replicas) == (2, 2, 2)
    assert {each.type: each.reason for each in status.conditions} == {
        "Available": "MinimumReplicasAvailable",
        "Progressing": "NewReplicaSetAvailable",
    }


def test_a_new_template_rolls_out_pod_by_pod(api: Emulator, space: str, apps: Any) -> None:
    apply_deployment(api, deployment("ep-1", replicas=2))
    api.cluster.kubelets.auto_ready = True
    api.cluster.settle()
    before = {each["metadata"]["uid"] for each in _pods(api)}
    api.cluster.kubelets.auto_ready = False
    body = deployment("ep-1", replicas=2)
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "engine:2"
    apply_deployment(api, body)
    api.cluster.settle()
    pods = _pods(api)
    fresh = [each for each in pods if each["metadata"]["uid"] not in before]
    assert (len(pods), len(fresh)) == (3, 1)  # one more than wanted, none less
    api.cluster.kubelets.auto_ready = True
    api.cluster.pods.ready(fresh[0]["metadata"]["name"])
    api.cluster.settle()
    assert not before & {each["metadata"]["uid"] for each in _pods(api)}
    status = apps.read_namespaced_deployment("ep-1", space).status
    assert (status.replicas, status.updated_replicas, status.available_replicas) == (2, 2, 2)


def test_scaling_to_zero_takes_every_pod(api: Emulator, space: str, apps: Any) -> None:
    apply_deployment(api, deployment("ep-1", replicas=2))
    api.cluster.settle()
    apps.patch_namespaced_deployment_scale("ep-1", space, {"spec": {"replicas": 0}})
    api.cluster.settle()
    assert _pods(api) == []


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_a_deleted_deployment_takes_everything_with_it(api: Emulator, space: str, apps: Any, policy: str) -> None:
    apply_deployment(api, deployment("ep-1"))
    api.cluster.settle()
    apps.delete_namespaced_deployment("ep-1", space, propagation_policy=policy)
    api.cluster.settle()
    assert apps.list_namespaced_deployment(space).items == []
    assert apps.list_namespaced_replica_set(space).items == []
    assert _pods(api) == []


def test_orphans_stay(api: Emulator, space: str, apps: Any) -> None:
    apply_deployment(api, deployment("ep-1"))
    api.cluster.settle()
    apps.delete_namespaced_deployment("ep-1", space, propagation_policy="Orphan")
    api.cluster.settle()
    assert apps.list_namespaced_deployment(space).items == []
    assert [each.metadata.owner_references for each in apps.list_namespaced_replica_set(space).items] == [None]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gpus": 16}, "2 Insufficient nvidia.com/gpu."),
        ({"nodeSelector": {"nvidia.com/gpu.product": "B200"}}, "2 node(s) didn't match Pod's node affinity/selector."),
    ],
)
def test_a_pod_without_a_place_says_what_is_missing(api: Emulator, space: str, change: Json, words: str) -> None:
    apply_deployment(api, deployment("ep-1", **change))
    api.cluster.settle()
    assert _scheduled(_pods(api)[0]) == (
        f"0/2 nodes are available: {words} no new claims to deallocate, preemption: 0/2 nodes are available: "
        "2 Preemption is not helpful for scheduling."
    )


def test_required_affinity_and_taints_are_honoured(api: Emulator, space: str) -> None:
    api.cluster.add_node(
        "b200-0", product="NVIDIA-B200", taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    )
    expression = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-B200"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    apply_deployment(api, deployment("ep-1", affinity=affinity))
    apply_deployment(api, deployment("ep-2", affinity=affinity, tolerations=tolerations))
    api.cluster.settle()
    assert _pods(api, "ep-2-")[0]["spec"]["nodeName"] == "b200-0"
    assert "1 node(s) had untolerated taint(s), 2 node(s) didn't match" in _scheduled(_pods(api)[0])


def test_a_pod_that_waits_is_placed_once_there_is_room(api: Emulator, space: str, apps: Any) -> None:
    for name in ("ep-1", "ep-2", "ep-3"):
        apply_deployment(api, deployment(name, gpus=8))
    api.cluster.settle()
    placed = [each for each in _pods(api, "ep-") if each["spec"].get("nodeName")]
    assert len(placed) == 2
    assert "2 No preemption victims found for incoming pod." in _scheduled(
        next(each for each in _pods(api, "ep-") if not each["spec"].get("nodeName"))
    )
    apps.delete_namespaced_deployment(placed[0]["metadata"]["labels"]["app"], space)
    api.cluster.settle()
    assert all(each["spec"].get("nodeName") for each in _pods(api, "ep-"))


def test_a_namespace_ends_with_its_content(api: Emulator, space: str, core: Any) -> None:
    apply_deployment(api, deployment("ep-1"))
    api.cluster.settle()
    core.delete_namespace(space)
    api.cluster.settle()
    assert [each.metadata.name for each in core.list_namespace().items] == []
    assert core.list_pod_for_all_namespaces().items == []


def test_controllers_can_work_by_themselves(api: Emulator, space: str, apps: Any) -> None:
    api.cluster.kubelets.auto_ready = True
    with api.cluster.run_controllers():
        apply_deployment(api, deployment("ep-1"))
        eventually(lambda: apps.read_namespaced_deployment("ep-1", space).status.available_replicas == 1)
        apps.delete_namespaced_deployment("ep-1", space)
        eventually(lambda: not _pods(api))


def _container(pod: Json, field: str = "containerStatuses") -> Json:
    found: Json = pod["status"][field][0]
    return found


def test_a_pods_life_is_told_as_a_kubelet_tells_it(api: Emulator, space: str) -> None:
    apply_deployment(api, deployment("ep-1", fetch=True))
    api.cluster.settle()
    pods = api.cluster.pods

    fetching = pods.fetching("ep-1")
    assert fetching["status"]["phase"] == "Pending"
    assert "running" in _container(fetching, "initContainerStatuses")["state"]
    assert _container(fetching)["state"]["waiting"]["reason"] == "PodInitializing"

    failed = pods.init_failed("ep-1", 3, "checksum of model.safetensors is wrong")
    ended = _container(failed, "initContainerStatuses")
    assert ended["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert (ended["lastState"]["terminated"]["exitCode"], ended["restartCount"]) == (3, 1)
    assert ended["lastState"]["terminated"]["message"] == "checksum of model.safetensors is wrong"

    starting = pods.starting("ep-1")
    assert starting["status"]["phase"] == "Running"
    assert (_container(starting)["ready"], _container(starting)["started"]) == (False, False)

    ready = pods.ready("ep-1", "10.0.0.5")
    assert ready["status"]["podIP"] == "10.0.0.5"
    assert {each["type"]: each["status"] for each in ready["status"]["conditions"]}["Ready"] == "True"

    crashed = pods.crash("ep-1", 137, "OOMKilled")
    assert _container(crashed)["state"]["terminated"]["reason"] == "OOMKilled"
    looping = pods.crash_loop("ep-1")
    assert _container(looping)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert _container(looping)["lastState"]["terminated"]["exitCode"] == 137
    assert _container(looping)["restartCount"] == 1

    again = pods.ready("ep-1")
    assert (_container(again)["ready"], _container(again)["restartCount"]) == (True, 2)


def test_an_image_that_cannot_be_pulled_is_told(api: Emulator, space: str) -> None:
    apply_deployment(api, deployment("ep-1"))
    api.cluster.settle()
    state = _container(api.cluster.pods.image_pull_backoff("ep-1", "no such image"))["state"]
    assert state["waiting"] == {"reason": "ImagePullBackOff", "message": "no such image"}


def test_an_evicted_pod_stays_failed_and_is_replaced(api: Emulator, space: str, core: Any) -> None:
    apply_deployment(api, deployment("ep-1"))
    api.cluster.settle()
    api.cluster.pods.ready("ep-1")
    api.cluster.pods.evict("ep-1")
    api.cluster.settle()
    failed = core.list_namespaced_pod(space, field_selector="status.phase=Failed").items
    assert [each.status.reason for each in failed] == ["Evicted"]
    assert len(_pods(api)) == 1


def test_a_lost_node_makes_its_pods_unready_and_their_deletion_hangs(api: Emulator, space: str, core: Any) -> None:
    apply_deployment(api, deployment("ep-1"))
    api.cluster.settle()
    node = api.cluster.pods.ready("ep-1")["spec"]["nodeName"]
    api.cluster.node_lost(node, evicted=True)
    api.cluster.settle()
    ready = next(each for each in core.read_node(node).status.conditions if each.type == "Ready")
    assert (ready.status, ready.reason) == ("Unknown", "NodeStatusUnknown")
    hanging = core.list_namespaced_pod(space, field_selector=f"spec.nodeName={node}").items
    assert [each.metadata.deletion_timestamp is not None for each in hanging] == [True]
    assert [each["spec"]["nodeName"] != node for each in _pods(api)] == [True]
    api.cluster.node_back(node)
    api.cluster.settle()
    assert core.list_namespaced_pod(space, field_selector=f"spec.nodeName={node}").items == []


def test_logs_are_read_by_container_and_tail(api: Emulator, space: str, core: Any) -> None:
    apply_deployment(api, deployment("ep-1", fetch=True))
    api.cluster.settle()
    name = _pods(api)[0]["metadata"]["name"]
    with pytest.raises(client.ApiException) as waiting:
        core.read_namespaced_pod_log(name, space, container="engine")
    assert "is waiting to start" in told(waiting.value)["message"]
    api.cluster.pods.ready("ep-1")
    api.cluster.pods.set_log("ep-1", "engine", ["one", "two", "three"])
    api.cluster.pods.set_log("ep-1", "engine", ["before"], previous=True)
    assert core.read_namespaced_pod_log(name, space, container="engine", tail_lines=2) == "two\nthree\n"
    assert core.read_namespaced_pod_log(name, space, container="engine", previous=True) == "before\n"
    stamped = core.read_namespaced_pod_log(name, space, container="engine", timestamps=True, since_seconds=60)
    assert stamped.splitlines()[0].endswith("Z one")
    with pytest.raises(client.ApiException) as unknown:
        core.read_namespaced_pod_log(name, space, container="none")
    assert f"container none is not valid for pod {name}" in told(unknown.value)["message"]


def test_leader_worker_sets_get_groups_of_pods() -> None:
    with Emulator(leader_worker_sets=True) as api:
        api.cluster.add_node("gpu-0")
        api.cluster.kubelets.auto_ready = True
        space = namespace(api)
        container = {"name": "engine", "image": "e:1", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
        template = {"spec": {"containers": [container]}}
        group = ("leaderworkerset.x-k8s.io", "v1", space, "leaderworkersets")
        body = {
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": "LeaderWorkerSet",
            "metadata": {"name": "ep-1"},
            "spec": {"replicas": 2, "leaderWorkerTemplate": {"size": 2, "workerTemplate": template}},
        }
        objects: Any = client.CustomObjectsApi(official(api))
        objects.create_namespaced_custom_object(*group, body)
        api.cluster.settle()
        labels = [each["metadata"]["labels"] for each in _pods(api)]
        prefix = "leaderworkerset.sigs.k8s.io"
        assert sorted((each[f"{prefix}/group-index"], each[f"{prefix}/worker-index"]) for each in labels) == [
            ("0", "0"),
            ("0", "1"),
            ("1", "0"),
            ("1", "1"),
        ]
        status = objects.get_namespaced_custom_object(*group, "ep-1")["status"]
        assert status["readyReplicas"] == 2
        objects.delete_namespaced_custom_object(*group, "ep-1")
        api.cluster.settle()
        assert _pods(api) == []


def test_a_rollout_that_does_not_progress_misses_its_deadline(api: Emulator, space: str, apps: Any) -> None:
    body = deployment("ep-1", gpus=16)
    body["spec"].update(progressDeadlineSeconds=1, minReadySeconds=0)
    apply_deployment(api, body)
    api.cluster.settle()

    def reason() -> bool:
        api.cluster.settle(resync=True)
        conditions = apps.read_namespaced_deployment("ep-1", space).status.conditions
        return bool({each.type: each.reason for each in conditions}["Progressing"] == "ProgressDeadlineExceeded")

    eventually(reason)


def test_what_a_quota_forbids_comes_once_there_is_room(api: Emulator, space: str, core: Any, apps: Any) -> None:
    quota = {"metadata": {"name": "gpu"}, "spec": {"hard": {"requests.nvidia.com/gpu": "1"}}}
    core.create_namespaced_resource_quota(space, quota)
    apply_deployment(api, deployment("ep-1", replicas=2))
    api.cluster.settle()
    assert len(_pods(api)) == 1
    conditions = {each.type: each.message for each in apps.read_namespaced_deployment("ep-1", space).status.conditions}
    assert "exceeded quota: gpu, requested: requests.nvidia.com/gpu=1" in conditions["ReplicaFailure"]
    core.patch_namespaced_resource_quota("gpu", space, {"spec": {"hard": {"requests.nvidia.com/gpu": "2"}}})
    api.cluster.settle()
    assert len(_pods(api)) == 2
    conditions = {each.type: each.message for each in apps.read_namespaced_deployment("ep-1", space).status.conditions}
    assert "ReplicaFailure" not in conditions


def test_a_pod_that_is_not_restricted_is_kept_out(api: Emulator, core: Any) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace(api, "strict", **labels)
    with pytest.raises(client.ApiException) as refused:
        core.create_namespaced_pod("strict", {"metadata": {"name": "p"}, "spec": {"containers": [_root()]}})
    assert refused.value.status == 403
    assert 'violates PodSecurity "restricted:latest"' in told(refused.value)["message"]


def _root() -> Json:
    return {"name": "c", "image": "x:1", "securityContext": {"runAsUser": 0}}


def test_a_limit_range_gives_defaults_to_what_says_nothing(api: Emulator, space: str, core: Any) -> None:
    limits = [{"type": "Container", "default": {"cpu": "4"}, "defaultRequest": {"cpu": "1"}}]
    core.create_namespaced_limit_range(space, {"metadata": {"name": "defaults"}, "spec": {"limits": limits}})
    core.create_namespaced_pod(
        space, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    )
    pod = core.read_namespaced_pod("p", space)
    assert (pod.spec.containers[0].resources.requests, pod.spec.containers[0].resources.limits) == (
        {"cpu": "1"},
        {"cpu": "4"},
    )
    assert "LimitRanger plugin set" in pod.metadata.annotations["kubernetes.io/limit-ranger"]
