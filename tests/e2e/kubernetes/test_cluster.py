"""What workers do in a real cluster: everything they apply is accepted, and what the server makes of it is no drift."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from freehold.db.rls import system_scope
from freehold.fleet.choices import ClusterConditionType
from freehold.fleet.kubeconfig import parse
from freehold.fleet.models import GpuFlavor
from freehold.serving.choices import ConditionType, Phase
from freehold.serving.models import Endpoint
from tests.e2e.kubernetes.world import World, api, end_pods, kubeconfig, watcher_kubeconfig, world
from workers.manifests.kubernetes import names
from workers.reconcile.clusters import cluster_check
from workers.runtimes.kubernetes import resources
from workers.runtimes.kubernetes.client import Api
from workers.runtimes.kubernetes.resources import Resource
from workers.watch.kubernetes import ClusterWatch

__all__ = ["api", "kubeconfig", "watcher_kubeconfig", "world"]  # fixtures

OF_THE_TENANT = (
    (resources.NETWORK_POLICY, names.DENY_POLICY),
    (resources.NETWORK_POLICY, names.ENGINE_POLICY),
    (resources.QUOTA, names.QUOTA),
    (resources.LIMITS, names.LIMITS),
    (resources.SERVICE_ACCOUNT, names.SERVICE_ACCOUNT),
)


def of_the_endpoint(endpoint: Endpoint) -> list[tuple[Resource, str]]:
    name = names.of(endpoint.public_id)
    return [
        (resources.SECRET, names.token_secret(endpoint.public_id)),
        (resources.SERVICE, name),
        (resources.DISRUPTION_BUDGET, name),
        (resources.DEPLOYMENT, name),
    ]


def patched(world: World, resource: Resource, name: str, patch: Mapping[str, Any]) -> None:
    """An edit by hand, by another field manager."""
    world.api._ask(
        "PATCH",
        resource.path(world.namespace, name),
        {"fieldManager": "kubectl-edit"},
        json.dumps(patch).encode(),
        "application/merge-patch+json",
    )


def test_the_cluster_answers_and_says_what_it_is(world: World) -> None:
    reachable = world.cluster.condition(ClusterConditionType.REACHABLE)
    assert reachable is not None
    assert reachable["status"] == "True"
    assert world.cluster.version.startswith("v1.")
    permitted = world.cluster.condition(ClusterConditionType.PERMITTED)
    assert permitted is not None
    assert permitted["status"] == "True", permitted["message"]


def test_what_is_applied_is_accepted_and_not_applied_again(world: World) -> None:
    endpoint = world.deploy(replicas=2)
    first = world.reconcile()
    assert first.steps == len(OF_THE_TENANT) + 1 + 4
    for resource, name in (*OF_THE_TENANT, *of_the_endpoint(endpoint)):
        assert world.exists(resource, name), f"{resource.kind} {name}"
    world.eventually(
        lambda: world.get(resources.DEPLOYMENT, names.of(endpoint.public_id)).get("status", {}).get("replicas") == 2,
        "the controller makes two pods",
    )
    assert world.reconcile().steps == 0, "defaulted fields and the controllers' own are no drift"
    assert world.reconcile().steps == 0
    found = world.again(endpoint)
    assert found.phase == Phase.STARTING
    assert len(found.replicas_observed) == 2
    assert f"Deployment {names.of(endpoint.public_id)}: is missing" in world.messages(endpoint)


def test_pods_pass_the_restricted_standard_and_are_placed_or_say_why_not(world: World) -> None:
    endpoint = world.deploy()
    world.settle()

    def explained() -> bool:
        world.reconcile()
        found = world.again(endpoint)
        return bool(found.replicas_observed) and all(r["state"] == "pending" for r in found.replicas_observed)

    world.eventually(explained, "the pod is made")
    unschedulable = world.again(endpoint).condition(ConditionType.UNSCHEDULABLE)
    assert unschedulable is not None
    assert unschedulable["reason"] in {"HasRoom", "InsufficientCapacity"}, "and not PodSecurityRefused"


def test_an_edit_by_hand_is_taken_back_and_said(world: World) -> None:
    endpoint = world.deploy()
    world.settle()
    name = names.of(endpoint.public_id)
    patched(world, resources.DEPLOYMENT, name, {"spec": {"replicas": 3}})
    patched(world, resources.NETWORK_POLICY, names.ENGINE_POLICY, {"spec": {"egress": [{}]}})
    assert world.reconcile().steps == 2
    assert world.get(resources.DEPLOYMENT, name)["spec"]["replicas"] == 1
    assert {} not in world.get(resources.NETWORK_POLICY, names.ENGINE_POLICY)["spec"]["egress"]
    told = next(message for message in world.messages(endpoint) if "spec.replicas" in message)
    assert "was changed by somebody else" in told
    assert "kubectl-edit" in told
    assert world.reconcile().steps == 0


def test_what_others_add_beside_ours_is_theirs(world: World) -> None:
    endpoint = world.deploy()
    world.settle()
    name = names.of(endpoint.public_id)
    patched(world, resources.DEPLOYMENT, name, {"metadata": {"annotations": {"example.com/note": "theirs"}}})
    assert world.reconcile().steps == 0
    world.scale(endpoint, 2)
    world.settle()
    assert world.get(resources.DEPLOYMENT, name)["metadata"]["annotations"]["example.com/note"] == "theirs"


@pytest.mark.parametrize("kind", ["Secret", "Service", "PodDisruptionBudget", "Deployment", "NetworkPolicy"])
def test_a_deleted_child_is_made_again(world: World, kind: str) -> None:
    endpoint = world.deploy()
    world.settle()
    owned = dict([*of_the_endpoint(endpoint), (resources.NETWORK_POLICY, names.DENY_POLICY)])
    resource = resources.BY_KIND[kind]
    uid = world.get(resource, owned[resource])["metadata"]["uid"]
    world.api.delete(resource, world.namespace, owned[resource], uid=uid)
    world.eventually(lambda: not world.exists(resource, owned[resource]), "it is gone")
    world.settle()
    assert world.get(resource, owned[resource])["metadata"]["uid"] != uid


def test_scaling_changes_the_workload_alone(world: World) -> None:
    endpoint = world.deploy()
    world.settle()
    world.scale(endpoint, 0)
    assert world.reconcile().steps == 1
    assert world.get(resources.DEPLOYMENT, names.of(endpoint.public_id))["spec"]["replicas"] == 0

    def stopped() -> bool:
        end_pods(world.api, world.namespace)
        world.reconcile()
        return world.again(endpoint).phase == Phase.STOPPED

    world.eventually(stopped, "phase Stopped")


def test_replicas_over_nodes_need_leader_worker_sets_and_say_so_where_there_are_none(world: World) -> None:
    endpoint = world.deploy("wide", flavor="test-2n", replicas=1) if world.cluster.has_leader_worker_sets else None
    if endpoint is None:
        # The fleet would not place it; one that was placed before they were removed must not crash anything.
        endpoint = world.deploy("wide")
        with system_scope("tests"):
            endpoint.specs.update(flavor=GpuFlavor.objects.get(name="test-2n"))
        world.reconcile()
        progressing = world.again(endpoint).condition(ConditionType.PROGRESSING)
        assert progressing is not None
        assert progressing["reason"] == "Blocked"
        assert "LeaderWorkerSet" in progressing["message"]
        return
    world.settle()
    group = world.get(resources.LEADER_WORKER_SET, names.of(endpoint.public_id))
    assert group["spec"]["leaderWorkerTemplate"]["size"] == 2
    assert world.reconcile().steps == 0


def test_deletion_removes_everything_and_the_namespace_with_the_last_endpoint(world: World) -> None:
    first, second = world.deploy("a"), world.deploy("b")
    world.settle()
    for endpoint, namespace_stays in ((first, True), (second, False)):
        world.delete(endpoint)

        def deleted(endpoint: Endpoint = endpoint) -> bool:
            world.reconcile()
            end_pods(world.api, world.namespace)
            return world.again(endpoint).phase == Phase.DELETED

        world.eventually(deleted, "phase Deleted")
        for resource, name in of_the_endpoint(endpoint):
            assert not world.exists(resource, name), f"{resource.kind} {name}"
        if namespace_stays:
            assert world.exists(resources.NAMESPACE, world.namespace)
    world.eventually(lambda: not world.exists(resources.NAMESPACE, world.namespace), "the namespace is gone")


def test_an_endpoint_made_while_the_namespace_goes_waits_and_gets_a_new_one(world: World) -> None:
    first = world.deploy("a")
    world.settle()
    world.delete(first)

    def deleted() -> bool:
        world.reconcile()
        end_pods(world.api, world.namespace)
        return world.again(first).phase == Phase.DELETED

    world.eventually(deleted, "phase Deleted")
    second = world.deploy("b")

    def there() -> bool:
        world.reconcile()
        return world.exists(resources.DEPLOYMENT, names.of(second.public_id))

    world.eventually(there, "the second endpoint's workload")


def test_orphans_are_found_by_label_and_removed_and_strangers_are_left(world: World) -> None:
    endpoint = world.deploy()
    world.settle()
    name = names.of(endpoint.public_id)
    stranger = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "stranger", "namespace": world.namespace},
        "data": {},
    }
    world.api._ask(
        "POST",
        f"/api/v1/namespaces/{world.namespace}/configmaps",
        None,
        json.dumps(stranger).encode(),
        "application/json",
    )
    cluster_check(world.cluster.pk)
    assert world.exists(resources.DEPLOYMENT, name), "what an endpoint knows is kept"
    with system_scope("tests"):
        Endpoint.objects.filter(pk=endpoint.pk).update(deleted_at=endpoint.created_at)
    cluster_check(world.cluster.pk)

    def gone() -> bool:
        end_pods(world.api, world.namespace)
        return not world.exists(resources.DEPLOYMENT, name)

    world.eventually(gone, "the orphan")


def test_the_watcher_sees_edits_new_pods_and_deletions(world: World, watcher_kubeconfig: str) -> None:
    watch = ClusterWatch(
        Api.of_access(parse(watcher_kubeconfig)), cluster=world.cluster.public_id, name="test", groups=False, port=8000
    )
    watch.start()
    try:
        world.eventually(lambda: watch.synced, "the first lists")
        assert watch.take() == set()
        endpoint = world.deploy()
        world.settle()
        world.eventually(lambda: endpoint.public_id in watch.take(), "the new workload and its pod")
        world.eventually(lambda: len(watch.replicas(endpoint.public_id)) == 1, "the pod, for its log")
        name = names.of(endpoint.public_id)
        world.eventually(lambda: not watch.take(), "quiet")
        patched(world, resources.DEPLOYMENT, name, {"spec": {"replicas": 2}})
        world.eventually(lambda: endpoint.public_id in watch.take(), "the edit")
        uid = world.get(resources.DEPLOYMENT, name)["metadata"]["uid"]
        world.eventually(lambda: not watch.take(), "quiet")
        world.api.delete(resources.DEPLOYMENT, world.namespace, name, uid=uid)
        world.eventually(lambda: endpoint.public_id in watch.take(), "the deletion")
    finally:
        watch.stop()
