"""The life of endpoints in a cluster: made, routed, scaled, repaired, deleted, and what their owners are told."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import redis

from freehold.common import clock
from freehold.common.errors import InvalidInput, PermissionDenied
from freehold.db.rls import system_scope
from freehold.fleet.models import GpuFlavor, NodePool
from freehold.fleet.services import flavor_create, node_pool_set
from freehold.serving.choices import ConditionType, Phase
from freehold.serving.models import Endpoint
from tests.factories.tenants import SYSTEM, make_revision, make_tenant
from tests.fakes.kubernetes import Emulator
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.deletion import DeleteOptions, delete
from tests.fakes.kubernetes.resources import Resource
from tests.integration.kubernetes.world import (
    EDITOR,
    ENDPOINT_KINDS,
    TENANT_KINDS,
    Json,
    World,
    make_world,
    register,
    settings,
    verbs,
)
from workers.manifests.kubernetes import names

READY, PROGRESSING = ConditionType.READY, ConditionType.PROGRESSING
FAILING, UNSCHEDULABLE = ConditionType.FAILING, ConditionType.UNSCHEDULABLE


# A life


def test_an_endpoint_is_followed_from_nothing_to_its_first_request(world: World) -> None:
    endpoint = world.deploy()
    assert world.again(endpoint).phase == Phase.PENDING
    world.reconcile()
    assert world.again(endpoint).phase == Phase.STARTING
    assert world.condition(endpoint, PROGRESSING)[1] == "StartingReplicas"
    pods = world.api.cluster.pods
    world.step()
    assert world.condition(endpoint, PROGRESSING)[1] == "WaitingForNode"
    pods.fetching(world.pod(endpoint))
    world.step()
    assert world.condition(endpoint, PROGRESSING)[1] == "FetchingWeights"
    pods.starting(world.pod(endpoint))
    world.step()
    assert world.condition(endpoint, PROGRESSING)[1] == "LoadingModel"
    assert world.addresses() == set(), "an engine that does not answer gets no requests"
    pods.ready(world.pod(endpoint), ip="10.42.0.77")
    world.step()
    found = world.again(endpoint)
    assert (found.phase, found.ready_replicas, found.observed_generation) == (Phase.READY, 1, 1)
    assert world.addresses() == {"10.42.0.77:8000"}
    route = world.route()
    assert route is not None
    assert (route.region, route.replicas[0].id) == ("eu-central", world.pod(endpoint))
    assert [state for _, state, _ in world.intervals(endpoint)] == ["fetching", "starting", "ready"]
    assert world.intervals(endpoint)[-1][2], "GPU-seconds are counted"
    told = world.events(endpoint)
    assert ("Normal", "ReplicasReady", "1 of 1 replicas answer.") in told
    name = names.of(endpoint.public_id)
    assert ("Normal", "Created", f"Deployment {name}: is missing") in told


def test_scaling_up_and_down_moves_routes_and_billing_with_the_pods(world: World) -> None:
    endpoint = world.ready()
    world.api.counters.reset()
    world.scale(endpoint, 3)
    world.settle()
    assert verbs(world.api) == [("apply", "deployments")], "nothing but the workload is written"
    assert world.again(endpoint).phase == Phase.DEGRADED
    world.all_ready(endpoint)
    assert (world.again(endpoint).phase, len(world.addresses())) == (Phase.READY, 3)
    world.scale(endpoint, 1)
    world.settle()
    assert world.again(endpoint).phase == Phase.READY
    (left,) = world.pods(endpoint)
    assert {replica for replica, _, lasts in world.intervals(endpoint) if lasts} == {left}
    route = world.route()
    assert route is not None
    assert [replica.id for replica in route.replicas] == [left]


def test_an_endpoint_scaled_to_nothing_stops_and_starts_again(world: World) -> None:
    endpoint = world.ready()
    world.scale(endpoint, 0)
    world.settle()
    assert world.again(endpoint).phase == Phase.STOPPED
    assert world.addresses() == set()
    assert world.route() is not None, "it is known, so that the gateway can say it is stopped"
    assert not [lasts for *_, lasts in world.intervals(endpoint) if lasts]
    world.scale(endpoint, 1)
    world.settle()
    world.all_ready(endpoint)
    assert world.again(endpoint).phase == Phase.READY


def test_an_endpoint_with_an_evicted_pod_stops_nevertheless(world: World) -> None:
    endpoint = world.ready()
    world.api.cluster.pods.evict(world.pod(endpoint))
    world.settle()
    world.scale(endpoint, 0)
    world.settle()
    assert world.ours(kinds.PODS) == [] or world.pods(endpoint) == []
    assert world.again(endpoint).phase == Phase.STOPPED


def test_a_crash_withdraws_the_pods_route_and_is_told_in_the_engines_words(world: World) -> None:
    endpoint = world.ready(replicas=2)
    crashed, other = world.pods(endpoint)
    log = "INFO loading\nWARNING low on memory\nRuntimeError: CUDA error: an illegal memory access"
    world.api.cluster.pods.crash(crashed, message=log)
    world.step()
    assert world.again(endpoint).phase == Phase.DEGRADED
    route = world.route()
    assert route is not None
    assert [replica.id for replica in route.replicas] == [other]
    status, reason, message = world.condition(endpoint, FAILING)
    assert (status, reason) == ("True", "EngineExited")
    assert "CUDA error: an illegal memory access" in message
    assert "WARNING low on memory" in message, "the last lines of its log"
    assert any(reason == "EngineExited" and "CUDA error" in text for _, reason, text in world.events(endpoint))
    assert (crashed, "ready", True) not in world.intervals(endpoint)

    world.api.cluster.pods.ready(crashed)
    world.step()
    assert world.again(endpoint).phase == Phase.READY
    assert world.condition(endpoint, FAILING)[0] == "False"
    route = world.route()
    assert route is not None
    assert {replica.id for replica in route.replicas} == {f"{crashed}.1", other}, "a new life has a new id"


def test_deletion_goes_in_order_and_leaves_nothing(world: World) -> None:
    endpoint = world.ready()
    world.api.counters.reset()
    world.delete(endpoint)
    assert world.route() is None, "withdrawn with the request, before anything else"
    for _ in range(8):
        world.step()
    assert world.again(endpoint).phase == Phase.DELETED
    assert verbs(world.api, "delete") == [
        ("delete", "deployments"),
        ("delete", "poddisruptionbudgets"),
        ("delete", "services"),
        ("delete", "secrets"),
        ("delete", "namespaces"),
    ]
    assert verbs(world.api, "apply") == []
    world.elsewhere()
    assert [resource.plural for resource in (*TENANT_KINDS, *ENDPOINT_KINDS, kinds.PODS) if world.ours(resource)] == []
    assert not [lasts for *_, lasts in world.intervals(endpoint) if lasts]


def test_a_workload_is_deleted_only_when_requests_under_way_have_had_their_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = settings(timing={"drain": 30, "orphan_grace": 0})
    register_settings(world, document)
    endpoint = world.ready()
    world.api.counters.reset()
    world.delete(endpoint)
    world.step()
    assert world.api.counters.writes == []
    assert world.condition(endpoint, PROGRESSING)[2] == "Requests under way finish before the engines are stopped."
    later = clock.now() + timedelta(seconds=31)
    monkeypatch.setattr(clock, "now", lambda: later)
    world.step()
    assert verbs(world.api) == [("delete", "deployments")]


def test_a_tenants_namespace_outlives_all_but_its_last_endpoint(world: World) -> None:
    first, second = world.ready("a"), world.ready("b")
    world.delete(first)
    for _ in range(6):
        world.step()
    assert world.again(first).phase == Phase.DELETED
    assert world.again(second).phase == Phase.READY
    assert world.ours(kinds.NAMESPACES)
    world.delete(second)
    for _ in range(6):
        world.step()
    assert world.again(second).phase == Phase.DELETED
    assert not world.ours(kinds.NAMESPACES)


def test_an_endpoint_deleted_before_anybody_looked_leaves_no_trace(world: World) -> None:
    endpoint = world.deploy()
    world.delete(endpoint)
    world.reconcile()
    assert world.again(endpoint).phase == Phase.DELETED
    assert world.api.counters.writes == [] or verbs(world.api, "apply", "delete") == []


# What is wrong, in words


def failing(world: World, endpoint: Endpoint, reason: str) -> str:
    """The message of a failure that the condition and the events both give."""
    world.step()
    status, found, message = world.condition(endpoint, FAILING)
    assert (status, found) == ("True", reason)
    assert any(why == reason and text == message for _, why, text in world.events(endpoint))
    return message


def test_gpus_that_are_missing_are_said(world: World) -> None:
    world.api.cluster.remove_node("gpu-1")
    endpoint = world.deploy(replicas=9)
    world.settle()
    world.step()
    status, reason, message = world.condition(endpoint, UNSCHEDULABLE)
    assert (status, reason) == ("True", "InsufficientCapacity")
    assert "1 Insufficient nvidia.com/gpu" in message
    assert any(why == "InsufficientCapacity" and text == message for _, why, text in world.events(endpoint))
    world.api.cluster.add_node("gpu-2")
    world.step()
    world.step()
    assert world.condition(endpoint, UNSCHEDULABLE)[0] == "False"
    assert any(text == "Unschedulable no longer." for text in world.messages(endpoint))


def test_a_used_up_quota_is_said(world: World) -> None:
    register_settings(world, settings(quota={"hard": {"pods": "1"}}))
    endpoint = world.deploy(replicas=2)
    world.settle()
    world.step()
    status, reason, message = world.condition(endpoint, UNSCHEDULABLE)
    assert (status, reason) == ("True", "QuotaExceeded")
    assert "limited: pods=1" in message
    assert any(why == "QuotaExceeded" and text == message for _, why, text in world.events(endpoint))


def test_an_image_that_cannot_be_pulled_is_said(world: World) -> None:
    endpoint = world.deploy()
    world.settle()
    world.api.cluster.pods.image_pull_backoff(world.pod(endpoint))
    assert "cannot get an image" in failing(world, endpoint, "ImagePullBackOff")


def test_an_engine_out_of_memory_is_said_with_what_to_do(world: World) -> None:
    endpoint = world.ready()
    world.api.cluster.pods.crash(world.pod(endpoint), exit_code=137, reason="OOMKilled")
    assert "Lower max_model_len" in failing(world, endpoint, "OOMKilled")


def test_an_engine_that_keeps_ending_is_said_with_its_last_error(world: World) -> None:
    endpoint = world.ready()
    world.api.cluster.pods.crash(world.pod(endpoint), message="ValueError: No supported config format found")
    world.api.cluster.pods.crash_loop(world.pod(endpoint))
    assert "No supported config format" in failing(world, endpoint, "CrashLoopBackOff")
    assert world.again(endpoint).phase == Phase.FAILED


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (3, "FetchUnauthorized"),
        (4, "WeightsNotFound"),
        (5, "WeightsNotVerified"),
        (6, "DiskFull"),
        (7, "HubUnreachable"),
    ],
)
def test_a_fetcher_that_fails_is_said_in_its_own_words(world: World, code: int, reason: str) -> None:
    endpoint = world.deploy()
    world.settle()
    world.api.cluster.pods.init_failed(world.pod(endpoint), exit_code=code, message="model.safetensors: sha256 differs")
    assert failing(world, endpoint, reason) == "model.safetensors: sha256 differs"
    assert world.addresses() == set()


def test_a_silent_node_is_said_and_its_engines_get_no_requests(world: World) -> None:
    endpoint = world.ready()
    (pod,) = world.pods(endpoint)
    node = world.api.store.get(kinds.PODS, world.namespace, pod)
    assert node is not None
    world.api.cluster.node_lost(node.body["spec"]["nodeName"])
    assert "does not answer any more" in failing(world, endpoint, "NodeLost")
    assert world.addresses() == set()
    world.api.cluster.node_lost(node.body["spec"]["nodeName"], evicted=True)
    world.step()
    (other,) = world.pods(endpoint)
    world.api.cluster.pods.ready(other)
    world.step()
    assert world.again(endpoint).phase == Phase.READY
    route = world.route()
    assert route is not None
    assert [replica.id for replica in route.replicas] == [other]


# Drift


def test_a_converged_pass_writes_nothing_and_lists_every_kind_once(world: World) -> None:
    for name in ("a", "b", "c"):
        world.ready(name)
    world.api.counters.reset()
    for _ in range(2):
        done = world.reconcile()
        assert (done.claimed, done.steps) == (3, 0)
    assert world.api.counters.writes == []
    assert world.api.counters.of("get") == 0
    kinds_read = {resource: count for (verb, resource), count in world.api.counters.counts.items() if verb == "list"}
    assert kinds_read == {r.plural: 2 for r in (*TENANT_KINDS, *ENDPOINT_KINDS, kinds.PODS)}


EDITS: dict[str, tuple[Resource, Callable[[Endpoint], str], dict[str, object]]] = {
    "replicas": (kinds.DEPLOYMENTS, lambda e: names.of(e.public_id), {"spec": {"replicas": 3}}),
    "service": (kinds.SERVICES, lambda e: names.of(e.public_id), {"spec": {"selector": {"app": "mine"}}}),
    "budget": (kinds.BUDGETS, lambda e: names.of(e.public_id), {"spec": {"maxUnavailable": 5}}),
    "policy": (kinds.NETWORKPOLICIES, lambda _: names.ENGINE_POLICY, {"spec": {"egress": [{}]}}),
    "quota": (kinds.QUOTAS, lambda _: names.QUOTA, {"spec": {"hard": {"pods": "1000"}}}),
    "account": (kinds.SERVICEACCOUNTS, lambda _: names.SERVICE_ACCOUNT, {"automountServiceAccountToken": True}),
    "namespace": (
        kinds.NAMESPACES,
        lambda _: "",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}},
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_by_hand_is_taken_back_in_one_pass_and_said(world: World, edit: str) -> None:
    endpoint = world.ready()
    resource, name_of, patch = EDITS[edit]
    name = name_of(endpoint) or world.namespace
    before = world.get(resource, name)
    assert before is not None
    world.edit(resource, name, patch)
    assert world.reconcile().steps == 1
    after = world.get(resource, name)
    assert after is not None
    for part in ("spec", "automountServiceAccountToken"):
        assert after.get(part) == before.get(part)
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    told = next(text for text in world.messages(endpoint) if "was changed by somebody else" in text)
    assert "taken back from kubectl-edit: " in told
    assert world.reconcile().steps == 0


@pytest.mark.parametrize("resource", [*TENANT_KINDS[1:], *ENDPOINT_KINDS], ids=lambda resource: resource.plural)
def test_a_deleted_child_is_made_again_in_one_pass(world: World, resource: Resource) -> None:
    world.ready()
    before = {each.body["metadata"]["name"] for each in world.ours(resource)}
    assert before
    for each in world.ours(resource):
        delete(world.api.objects, resource, world.namespace, each.body["metadata"]["name"], DeleteOptions())
    assert not world.ours(resource)
    assert world.reconcile().steps == len(before)
    assert {each.body["metadata"]["name"] for each in world.ours(resource)} == before
    assert world.reconcile().steps == 0


def test_what_we_no_longer_want_is_removed(world: World) -> None:
    endpoint = world.ready()
    labels = dict(world.ours(kinds.SERVICES)[0].body["metadata"]["labels"])
    extra = {"metadata": {"name": "extra", "labels": labels}, "spec": {"ports": [{"port": 1}], "selector": {"a": "b"}}}
    world.api.objects.create(kinds.SERVICES, world.namespace, extra, EDITOR)
    assert world.reconcile().steps == 1
    assert world.get(kinds.SERVICES, "extra") is None
    assert "Service extra: is no longer part of the endpoint" in world.messages(endpoint)


# The pull token


def test_the_pull_token_is_renewed_only_while_somebody_fetches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = world.deploy()
    world.settle()
    secret = names.token_secret(endpoint.public_id)
    first = world.get(kinds.SECRETS, secret)
    assert first is not None
    world.api.cluster.pods.fetching(world.pod(endpoint))
    later = clock.now() + timedelta(minutes=50)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert world.reconcile().steps == 1
    second = world.get(kinds.SECRETS, secret)
    assert second is not None
    assert expiry(second) > expiry(first)
    world.api.cluster.pods.ready(world.pod(endpoint))
    much_later = later + timedelta(hours=9)
    monkeypatch.setattr(clock, "now", lambda: much_later)
    assert world.reconcile().steps == 0, "an endpoint at rest costs no writes, though its token is long over"
    world.scale(endpoint, 2)
    world.reconcile()
    third = world.get(kinds.SECRETS, secret)
    assert third is not None
    assert expiry(third) > expiry(second), "a new pod gets one that is good"


def test_a_token_that_the_hub_refuses_is_replaced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = world.deploy()
    world.settle()
    secret = names.token_secret(endpoint.public_id)
    first = world.get(kinds.SECRETS, secret)
    later = datetime.now(UTC) + timedelta(minutes=5)
    monkeypatch.setattr(world.api.objects, "timestamp", lambda **_: later.strftime("%Y-%m-%dT%H:%M:%SZ"))
    world.api.cluster.pods.init_failed(world.pod(endpoint), exit_code=3)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert world.reconcile().steps == 1
    second = world.get(kinds.SECRETS, secret)
    assert first is not None
    assert second is not None
    assert expiry(second) > expiry(first)


def test_the_pull_token_is_seen_nowhere_but_in_its_secret(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = world.deploy()
    world.settle()
    name = names.token_secret(endpoint.public_id)
    tokens = [str(secret["data"]["token"]) for secret in (world.get(kinds.SECRETS, name),) if secret]
    world.edit(kinds.SECRETS, name, {"data": {"token": "bWluZQ=="}, "metadata": {"labels": {names.ENDPOINT: None}}})
    world.reconcile()
    tokens += [str(secret["data"]["token"]) for secret in (world.get(kinds.SECRETS, name),) if secret]
    assert "bWluZQ==" not in tokens
    world.api.cluster.pods.init_failed(world.pod(endpoint), exit_code=3)
    world.step()
    said = "".join(capsys.readouterr()) + str(world.events(endpoint)) + str(world.again(endpoint).conditions)
    for resource in world.api.store.all(kinds.PODS) + world.api.store.all(kinds.DEPLOYMENTS):
        said += str(resource.body)
    for token in tokens:
        assert token not in said
        assert base64.b64decode(token).decode() not in said


# Groups, regions


def test_a_replica_over_two_nodes_is_a_leader_worker_set(
    committed_db: None, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEHOLD_PUBLIC_URL", "https://freehold.example")
    with Emulator(leader_worker_sets=True) as api:
        for number in range(2):
            api.cluster.add_node(f"gpu-{number}")
        world = make_world(api, redis_client)
        wide_flavor(world)
        endpoint = world.deploy(flavor="wide")
        world.settle()
        (group,) = world.ours(kinds.LEADERWORKERSETS)
        assert group.body["spec"]["leaderWorkerTemplate"]["size"] == 2
        leader, worker = world.pods(endpoint)
        assert [replica["id"] for replica in world.again(endpoint).replicas_observed] == [leader]
        for pod in (leader, worker):
            api.cluster.pods.ready(pod)
        world.step()
        assert world.again(endpoint).phase == Phase.READY
        assert len(world.addresses()) == 1, "requests go to the leader"
        assert world.reconcile().steps == 0
        world.delete(endpoint)
        for _ in range(8):
            world.step()
        assert world.again(endpoint).phase == Phase.DELETED
        assert verbs(api, "delete")[0] == ("delete", "leaderworkersets")


def test_without_leader_worker_sets_a_wide_endpoint_says_so_and_others_go_on(world: World) -> None:
    narrow, wide = world.deploy("narrow"), world.deploy("wide")
    wide_flavor(world)
    with system_scope("tests"):
        wide.specs.update(flavor=GpuFlavor.objects.get(name="wide"))
    world.settle()
    status, reason, message = world.condition(wide, PROGRESSING)
    assert (status, reason) == ("False", "Blocked")
    assert "LeaderWorkerSets" in message
    world.all_ready(narrow)
    assert world.again(narrow).phase == Phase.READY


def test_two_regions_each_have_their_own_and_residency_is_kept(world: World) -> None:
    with Emulator() as far:
        far.cluster.add_node("gpu-far")
        there = register(far, "osl-1", "eu-north")
        nordic = make_tenant("nordic")
        make_revision(nordic)
        with system_scope("tests"):
            nordic.regions_allowed = ["eu-north"]
            nordic.save()
        second = World(there, nordic, world.prefix, far, world.redis)
        near_endpoint, far_endpoint = world.deploy(), second.deploy()
        assert near_endpoint.cluster_id == world.cluster.pk
        assert far_endpoint.cluster_id == there.pk, "its tenant may be nowhere else"
        world.settle()
        second.settle()
        second.all_ready(far_endpoint)
        assert second.ours(kinds.DEPLOYMENTS)
        assert not [d for d in world.ours(kinds.DEPLOYMENTS) if names.of(far_endpoint.public_id) in str(d.body)]
        route = world.route("nordic/chat")
        assert route is not None
        assert route.region == "eu-north"
        with pytest.raises((InvalidInput, PermissionDenied)):
            second.deploy("other", region="eu-central")


def expiry(secret: Json) -> datetime:
    """Until when a pull token is good."""
    return datetime.fromisoformat(secret["metadata"]["annotations"][names.TOKEN_EXPIRES])


def register_settings(world: World, document: dict[str, object]) -> None:
    """The operator changes the cluster's settings."""
    with system_scope("tests"):
        world.cluster.settings = document
        world.cluster.save(update_fields=["settings"])


def wide_flavor(world: World) -> None:
    """Sixteen accelerators over two nodes."""
    flavor = flavor_create(
        actor=SYSTEM, name="wide", accelerator="NVIDIA-H100-80GB-HBM3", accelerators=16, nodes=2,
        memory_bytes=80 * 1024**3, resource="nvidia.com/gpu",
    )  # fmt: skip
    node_pool_set(actor=SYSTEM, cluster=world.cluster, flavor=flavor, capacity=4)
    assert NodePool.objects.filter(flavor=flavor).exists()
