"""What must not happen whatever is in a cluster or a database: strangers taken for ours, ours taken for strangers'."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from freehold.common import clock
from freehold.common.errors import InvalidInput
from freehold.db.rls import system_scope
from freehold.fleet import services as fleet
from freehold.fleet.choices import ClusterConditionType
from freehold.metering.models import ReplicaInterval
from freehold.registry.moves import model_rename
from freehold.serving.choices import ConditionType, Phase
from freehold.serving.models import Endpoint
from tests.factories.reconciled import due_now
from tests.factories.tenants import SYSTEM, actor_in
from tests.fakes.kubernetes import resources as kinds
from tests.integration.kubernetes.test_faults import move_clock, reachable
from tests.integration.kubernetes.world import EDITOR, IMAGE, World, register, settings
from workers.manifests.kubernetes import names
from workers.reconcile.clusters import cluster_check, cluster_reconcile
from workers.runtimes.base import ObservedReplica
from workers.runtimes.kubernetes.pods import replica_of
from workers.watch.clusters import ClusterWatches


def create(world: World, kind: Any, namespace: str, body: dict[str, Any]) -> None:
    world.api.objects.create(kind, namespace, body, EDITOR)


def forged(world: World, endpoint: Endpoint, namespace: str) -> dict[str, Any]:
    """A pod with all of our labels, by somebody who may make pods there."""
    labels = {
        names.MANAGED_BY: names.MANAGER,
        names.CLUSTER: world.cluster.public_id,
        names.TENANT: endpoint.tenant.public_id,
        names.ENDPOINT: endpoint.public_id,
    }
    containers = [{"name": names.ENGINE_CONTAINER, "image": "evil"}]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "evil", "uid": "1", "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "evil", "namespace": namespace, "labels": labels, "ownerReferences": [owner]},
        "spec": {"containers": containers},
    }


def test_a_pod_elsewhere_with_our_labels_is_nobodys_replica(world: World) -> None:
    endpoint = world.ready()
    create(world, kinds.NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "evil"}})
    create(world, kinds.PODS, "evil", forged(world, endpoint, "evil"))
    world.reconcile()
    assert [replica["id"] for replica in world.again(endpoint).replicas_observed] == world.pods(endpoint)


def test_a_namespace_that_was_given_our_labels_is_not_ours_to_delete(world: World) -> None:
    labels = {
        names.MANAGED_BY: names.MANAGER,
        names.CLUSTER: world.cluster.public_id,
        names.TENANT: world.tenant.public_id,
    }
    metadata = {"name": "production", "labels": labels}
    create(world, kinds.NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    cluster_check(world.cluster.pk)
    assert world.get(kinds.NAMESPACES, "production") is not None
    endpoint = world.ready()
    world.delete(endpoint)
    world.settle()
    assert world.again(endpoint).phase == Phase.DELETED
    assert world.get(kinds.NAMESPACES, "production") is not None


def test_an_older_database_does_not_remove_what_it_has_never_heard_of(world: World) -> None:
    made = [world.ready(f"chat-{number}") for number in range(6)]
    with system_scope("tests"):
        Endpoint.objects.update(deleted_at=clock.now())  # as good as never made
    cluster_check(world.cluster.pk)
    assert all(world.get(kinds.DEPLOYMENTS, names.of(endpoint.public_id)) for endpoint in made)
    world.cluster.refresh_from_db()
    left = world.cluster.condition(ClusterConditionType.ORPHANS)
    assert left is not None
    assert (left["status"], left["reason"]) == ("True", "ManyFound")
    assert "orphans_at_once" in left["message"]

    timing = {"drain": 0, "orphan_grace": 0, "orphans_at_once": 10}
    fleet.cluster_update(actor=SYSTEM, cluster=world.cluster, settings=settings(timing=timing))
    cluster_check(world.cluster.pk)
    world.api.cluster.settle()
    assert not any(world.get(kinds.DEPLOYMENTS, names.of(endpoint.public_id)) for endpoint in made)


def test_the_same_cluster_under_two_names_is_worked_on_under_the_first_alone(world: World) -> None:
    system = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}}
    create(world, kinds.NAMESPACES, "", system)
    cluster_check(world.cluster.pk)
    second = register(world.api, "again", "us-east")
    assert reachable(second) == (
        "False", "AlreadyRegistered", "This is the cluster 'fra-1' by another address. Remove one of the two.",
    )  # fmt: skip
    assert reachable(world.cluster)[0] == "True"


def test_renaming_a_model_leaves_the_pods_that_serve_it_alone(world: World) -> None:
    endpoint = world.ready()
    pods = world.pods(endpoint)
    with system_scope("tests"):
        repo = endpoint.specs.select_related("revision__repo").get().revision.repo
    model_rename(actor=actor_in(world.tenant), tenant_id=world.tenant.pk, model_id=repo.pk, name="other")
    world.api.counters.reset()
    world.settle()
    assert world.api.counters.writes == []
    assert world.pods(endpoint) == pods


def test_an_endpoint_can_be_stopped_whatever_is_in_the_way_of_running_it(world: World) -> None:
    endpoint = world.ready()
    fleet.cluster_update(actor=SYSTEM, cluster=world.cluster, settings=settings(images={}))
    world.reconcile()
    assert world.condition(endpoint, ConditionType.PROGRESSING)[1] == "Blocked"
    assert len(world.pods(endpoint)) == 1, "what runs goes on running"
    world.scale(endpoint, 0)
    world.settle()
    assert world.pods(endpoint) == []
    assert world.again(endpoint).phase == Phase.STOPPED
    assert not any(lasting for *_, lasting in world.intervals(endpoint))

    fleet.cluster_update(actor=SYSTEM, cluster=world.cluster, settings=settings(images={"fetcher": IMAGE}))
    world.scale(endpoint, 1)
    world.settle()
    assert len(world.pods(endpoint)) == 1


def test_being_blocked_is_told_once(world: World) -> None:
    endpoint = world.ready()
    fleet.cluster_update(actor=SYSTEM, cluster=world.cluster, settings=settings(images={}))
    for _ in range(4):
        world.reconcile()
    blocked = [event for event in world.events(endpoint) if event[1] == "Blocked"]
    assert len(blocked) == 1


def test_a_silence_after_which_a_replica_is_gone_is_not_billed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = world.ready()
    world.api.down()
    world.reconcile()
    assert world.again(endpoint).phase == Phase.UNKNOWN
    silent_since = clock.now()
    move_clock(monkeypatch, 12 * 3600)
    world.api.up()
    for pod in world.pods(endpoint):
        world.api.cluster.pods.gone(pod)
    cluster_check(world.cluster.pk)
    world.settle()
    with system_scope("tests"):
        ended = ReplicaInterval.objects.filter(endpoint_id=endpoint.pk, state="ready").exclude(ended_at=None).get()
    assert ended.ended_at is not None
    assert abs(ended.ended_at - silent_since) < timedelta(seconds=60)


def test_namespaces_are_not_renamed_under_running_endpoints(world: World) -> None:
    world.ready()
    with pytest.raises(InvalidInput, match="namespace_prefix would end all of them"):
        fleet.cluster_update(actor=SYSTEM, cluster=world.cluster, settings=settings(namespace_prefix="other-"))


def test_a_kubeconfig_that_no_key_opens_is_said_and_holds_up_nobody_else(world: World) -> None:
    endpoint = world.ready()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE fleet_clustercredential SET kubeconfig = 'gAAAAA-of-another-key'")
    due_now()
    cluster_reconcile(world.cluster.pk)
    status, reason, message = reachable(world.cluster)
    assert (status, reason) == ("False", "Misconfigured")
    assert "cannot be decrypted" in message
    assert world.again(endpoint).phase == Phase.UNKNOWN
    ClusterWatches().tick()


def test_a_cluster_that_answers_again_has_its_endpoints_back_at_once(world: World) -> None:
    endpoint = world.ready()
    world.api.down()
    world.reconcile()
    cluster_check(world.cluster.pk)
    world.api.up()
    cluster_check(world.cluster.pk)
    cluster_reconcile(world.cluster.pk)  # nobody made anything due but the check
    assert world.again(endpoint).phase == Phase.READY


def test_a_pod_that_cannot_be_read_holds_up_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    strange, other = world.ready("strange"), world.ready("other")
    pod = world.pod(strange)

    def picky(item: dict[str, Any], *, port: int) -> ObservedReplica | None:
        if item["metadata"]["name"] == pod:
            raise ValueError("a time that is none")
        return replica_of(item, port=port)

    monkeypatch.setattr("workers.runtimes.kubernetes.observation.replica_of", picky)
    world.reconcile()
    assert world.again(other).phase == Phase.READY
    assert world.again(strange).phase == Phase.STARTING
