"""What goes wrong between workers and clusters: nothing is lost, nothing is deleted, others go on, and it is said."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from freehold.common import clock
from freehold.db.rls import system_scope
from freehold.fleet.choices import ClusterConditionType
from freehold.fleet.models import Cluster
from freehold.fleet.observations import cluster_get_for_work
from freehold.serving.choices import ConditionType, Phase
from freehold.serving.claims import LEASE
from freehold.serving.models import Endpoint
from tests.factories.clusters import make_cluster, observe
from tests.factories.ports import free_port
from tests.factories.reconciled import due_now
from tests.factories.tenants import make_revision, make_tenant
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.deletion import DeleteOptions, delete
from tests.fakes.runtime import MemoryRuntime
from tests.integration.kubernetes.world import EDITOR, World, register, rotate, settings, verbs
from workers import tasks
from workers.manifests.kubernetes import names
from workers.reconcile import loop
from workers.reconcile.clusters import cluster_check, cluster_reconcile
from workers.runtimes.base import Action, ObjectKey, Observed, RuntimeUnavailable, Scope, Verb
from workers.runtimes.kubernetes import client, discovery
from workers.runtimes.kubernetes.runtime import KubernetesRuntime
from workers.runtimes.registry import kubernetes_runtime

READY, PROGRESSING = ConditionType.READY, ConditionType.PROGRESSING


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_LONGEST_PAUSE", 0.01)


def before_step(monkeypatch: pytest.MonkeyPatch, number: int, what: Callable[[], None]) -> None:
    """Something happens just before the pass takes its `number`th step."""
    apply, lock, taken = KubernetesRuntime.apply, threading.Lock(), [0]

    def counted(self: KubernetesRuntime, action: Action, **options: Any) -> str:
        with lock:
            taken[0] += 1
            now = taken[0] == number
        if now:
            what()
        return apply(self, action, **options)

    monkeypatch.setattr(KubernetesRuntime, "apply", counted)


def move_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """It is so much later, and time goes on."""
    before = clock.now
    monkeypatch.setattr(clock, "now", lambda: before() + timedelta(seconds=seconds))


def reachable(cluster: Cluster) -> tuple[str, str, str]:
    """Status, reason and message."""
    cluster.refresh_from_db()
    found = cluster.condition(ClusterConditionType.REACHABLE)
    assert found is not None
    return found["status"], found["reason"], found["message"]


# The server refuses


def test_a_conflict_about_nothing_is_overcome_and_blamed_on_nobody(world: World) -> None:
    world.api.faults.answer(409, times=1, verb="apply", path="/deployments/")
    endpoint = world.deploy()
    world.settle()
    assert world.ours(kinds.DEPLOYMENTS)
    assert not [text for text in world.messages(endpoint) if "taken back" in text]


def test_another_manager_who_owns_a_field_loses_it_and_is_named(world: World) -> None:
    endpoint = world.ready()
    world.edit(kinds.DEPLOYMENTS, names.of(endpoint.public_id), {"spec": {"replicas": 0}})
    world.scale(endpoint, 2)
    world.reconcile()
    deployment = world.get(kinds.DEPLOYMENTS, names.of(endpoint.public_id))
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 2
    assert any(text.endswith("(taken back from kubectl-edit: .spec.replicas)") for text in world.messages(endpoint))


def test_an_object_that_was_replaced_meanwhile_is_not_deleted(world: World) -> None:
    endpoint = world.ready()
    name = names.of(endpoint.public_id)
    key = ObjectKey("Service", world.namespace, name)
    stale = Action(verb=Verb.DELETE, object=key, uid="0c7a0f6e-0000-0000-0000-000000000000", reason="tests")
    runtime = kubernetes_runtime(cluster_get_for_work(cluster_id=world.cluster.pk))
    assert runtime.apply(stale, endpoint=endpoint.public_id, fetch_token=None) == ""
    assert world.get(kinds.SERVICES, name) is not None


@pytest.mark.parametrize("verb", ["apply", "list"])
def test_a_busy_server_is_asked_again(world: World, verb: str) -> None:
    endpoint = world.deploy()
    world.api.faults.answer(429, times=2, verb=verb, retry_after=1)
    done = world.reconcile()
    assert not done.unreachable
    assert world.ours(kinds.DEPLOYMENTS)
    assert world.again(endpoint).phase == Phase.STARTING


def test_a_server_that_stays_busy_holds_up_what_it_refuses_and_says_so(world: World) -> None:
    endpoint = world.deploy()
    world.api.faults.answer(429, times=float("inf"), verb="apply", path="/services/", retry_after=1)
    world.reconcile()
    status, reason, message = world.condition(endpoint, PROGRESSING)
    assert (status, reason) == ("False", "Blocked")
    assert "busy" in message
    assert ("Warning", "Blocked", message) in world.events(endpoint)
    world.api.faults.clear()
    world.settle()
    assert world.condition(endpoint, PROGRESSING)[1] != "Blocked"


def test_an_error_about_one_endpoint_is_that_endpoints_alone(world: World) -> None:
    hit, other = world.deploy("hit"), world.deploy("other")
    world.api.faults.answer(500, times=1, verb="apply", path=f"/deployments/{names.of(hit.public_id)}")
    done = world.reconcile()
    assert not done.unreachable
    assert world.condition(hit, PROGRESSING)[1] == "Blocked"
    world.all_ready(other)
    assert world.again(other).phase == Phase.READY
    world.settle()
    assert world.condition(hit, PROGRESSING)[1] != "Blocked"


@pytest.mark.parametrize("status", [500, 503, 403])
def test_a_cluster_that_cannot_be_read_changes_nothing_but_what_is_said(world: World, status: int) -> None:
    endpoint = world.ready()
    before, intervals = world.addresses(), world.intervals(endpoint)
    world.api.counters.reset()
    world.api.faults.answer(status, times=float("inf"), verb="list", path="/pods")
    assert world.reconcile().unreachable
    found = world.again(endpoint)
    assert (found.phase, found.ready_replicas) == (Phase.UNKNOWN, 1)
    assert world.condition(endpoint, READY)[:2] == ("Unknown", "ClusterUnreachable")
    assert world.api.counters.writes == []
    assert (world.addresses(), world.intervals(endpoint)) == (before, intervals)


def test_credentials_that_are_not_taken_any_more_are_said_with_what_to_do(world: World) -> None:
    endpoint = world.ready()
    world.api.options.token = "another"
    assert "credentials" in world.reconcile().unreachable
    status, reason, message = reachable(world.cluster)
    assert (status, reason) == ("False", "NoAnswer")
    assert "new kubeconfig" in message
    rotate(world.cluster, world.api.kubeconfig())
    cluster_check(world.cluster.pk)
    world.reconcile()
    assert reachable(world.cluster)[0] == "True"
    assert world.again(endpoint).phase == Phase.READY


# The server is away


def test_a_server_that_goes_away_in_the_middle_is_gone_on_with_where_it_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = world.ready("running")
    routes, intervals = world.addresses("acme/running"), world.intervals(running)
    fresh = world.deploy("fresh")
    with monkeypatch.context() as patched:
        before_step(patched, 3, world.api.down)
        done = world.reconcile()
    assert done.unreachable
    assert done.steps == 2
    assert world.again(running).phase == Phase.UNKNOWN
    assert (world.addresses("acme/running"), world.intervals(running)) == (routes, intervals)
    assert world.again(fresh).phase == Phase.PENDING
    made = [text for text in world.messages(fresh) if text.endswith("is missing")]
    assert len(made) == 2, "what was still done is told"
    assert reachable(world.cluster)[0] == "False"

    world.api.up()
    move_clock(monkeypatch, 61)
    cluster_check(world.cluster.pk)
    world.settle()
    world.all_ready(fresh)
    assert (world.again(running).phase, world.again(fresh).phase) == (Phase.READY, Phase.READY)
    applied = [write.path for write in world.api.counters.writes if write.verb == "apply" and write.status < 300]
    assert len(applied) == len(set(applied)), "each object was applied once"
    assert (world.addresses("acme/running"), world.intervals(running)) == (routes, intervals)


def test_two_minutes_without_the_server_are_waited_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = world.ready()
    routes = world.addresses()
    world.api.down()
    due_now()
    for _ in range(12):
        cluster_reconcile(world.cluster.pk)
        move_clock(monkeypatch, 10)
        assert world.again(endpoint).phase == Phase.UNKNOWN
        assert world.addresses() == routes
    told = [message for message in world.messages(endpoint) if "does not answer" in message or "cannot be" in message]
    assert len(told) <= 2, "said once, not every time"
    world.cluster.refresh_from_db()
    assert world.cluster.retry_at is not None
    assert world.cluster.retry_at - clock.now() <= timedelta(seconds=60)
    world.api.up()
    move_clock(monkeypatch, 61)
    cluster_reconcile(world.cluster.pk)
    assert world.again(endpoint).phase == Phase.READY
    assert world.reconcile().steps == 0
    assert [lasts for *_, lasts in world.intervals(endpoint)].count(True) == 1, "GPU-seconds went on"


def test_deletion_waits_for_the_server_and_is_not_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = world.ready()
    world.api.down()
    world.delete(endpoint)
    world.reconcile()
    assert world.again(endpoint).phase == Phase.DELETING
    assert world.route() is None
    world.api.up()
    move_clock(monkeypatch, 61)
    for _ in range(6):
        world.step()
    assert world.again(endpoint).phase == Phase.DELETED
    assert not world.ours(kinds.NAMESPACES)


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


@contextmanager
def web_server() -> Iterator[int]:
    """A port behind which something answers every request with a page."""
    body = b"<html>Welcome!</html>"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def pointing_at(port: int) -> str:
    """A kubeconfig."""
    return (
        "{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}],"
        f" clusters: [{{name: a, cluster: {{server: 'http://127.0.0.1:{port}'}}}}],"
        " users: [{name: a, user: {token: t}}]}"
    )


def test_a_kubeconfig_that_points_nowhere_is_said_within_ten_seconds(world: World) -> None:
    assert client.CONNECT_SECONDS + discovery._ANSWER_SECONDS < 10
    cluster = make_cluster("nowhere", kubeconfig=pointing_at(free_port()), settings=settings())
    began = time.monotonic()
    tasks.check_cluster(str(cluster.pk))
    assert time.monotonic() - began < 10
    status, reason, message = reachable(cluster)
    assert (status, reason) == ("False", "NoAnswer")
    assert "cannot be reached" in message


def test_a_kubeconfig_that_points_at_what_never_answers_is_said_soon(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "_ANSWER_SECONDS", 0.2)
    with silent() as port:
        cluster = make_cluster("mute", kubeconfig=pointing_at(port), settings=settings())
        began = time.monotonic()
        tasks.check_cluster(str(cluster.pk))
        assert time.monotonic() - began < 2
    assert reachable(cluster)[:2] == ("False", "NoAnswer")


def test_a_kubeconfig_that_points_at_a_web_page_is_said(world: World) -> None:
    with web_server() as port:
        cluster = make_cluster("page", kubeconfig=pointing_at(port), settings=settings())
        tasks.check_cluster(str(cluster.pk))
    status, _, message = reachable(cluster)
    assert status == "False"
    assert "no Kubernetes API" in message


def test_dead_clusters_hold_up_no_other(world: World) -> None:
    endpoint = world.deploy()
    with silent() as port:
        dead = [
            make_cluster("refuses", kubeconfig=pointing_at(free_port()), settings=settings()),
            make_cluster("mute", kubeconfig=pointing_at(port), settings=settings()),
        ]
        strangers = []
        for number, cluster in enumerate(dead):
            tenant = make_tenant(f"tenant-{number}")
            make_revision(tenant)
            stranger = world.deploy("chat", tenant=tenant)
            strangers.append(stranger)
            with system_scope("tests"):
                Endpoint.objects.filter(pk=stranger.pk).update(cluster=cluster)
        due_now()
        threads = [threading.Thread(target=_in_thread, args=(cluster_reconcile, cluster.pk)) for cluster in dead]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        assert cluster_reconcile(world.cluster.pk).steps == 10
        assert time.monotonic() - began < 2
        assert world.again(endpoint).phase == Phase.STARTING
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    for stranger in strangers:
        assert world.condition(stranger, READY)[:2] == ("Unknown", "ClusterUnreachable")


def _in_thread(work: Callable[[Any], object], argument: object) -> None:
    try:
        work(argument)
    finally:
        connection.close()


# Workers


def test_a_claim_that_expires_in_the_middle_writes_nothing_and_another_worker_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = world.ready()
    world.api.cluster.pods.crash(world.pod(endpoint), message="RuntimeError: slow")
    world.scale(endpoint, 2)
    intervals = world.intervals(endpoint)
    second: list[int] = []

    def overtaken() -> None:
        """The first worker stands still for longer than its claim lasts; another one takes over."""
        move_clock(monkeypatch, LEASE.total_seconds() + 1)
        with system_scope("tests"):
            before = Endpoint.objects.get(pk=endpoint.pk)
            assert before.lock_token is not None
        second.append(loop.reconcile_cluster(world.cluster.pk, LostCluster()).claimed)

    with monkeypatch.context() as patched:
        before_step(patched, 1, overtaken)
        done = world.reconcile()
    assert second == [1]
    assert done.stale == 1
    assert world.intervals(endpoint) == intervals, "not even GPU-seconds"
    assert world.condition(endpoint, READY)[:2] == ("Unknown", "ClusterUnreachable"), "the second worker's words stand"
    found = world.again(endpoint)
    assert (found.phase, found.observed_generation) == (Phase.UNKNOWN, 1), "nothing was seen of the new spec"
    world.settle()
    world.all_ready(endpoint)
    assert world.again(endpoint).phase == Phase.READY
    assert world.again(endpoint).ready_replicas == 2


class LostCluster(MemoryRuntime):
    """What a second worker says over this is easily told from what the first one would say."""

    def observe(self, scope: Scope | None = None) -> Observed:
        raise RuntimeUnavailable("the second worker was here")


def test_a_slow_pass_stops_before_its_claims_end_and_the_next_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = world.deploy()
    with monkeypatch.context() as patched:
        before_step(patched, 4, lambda: move_clock(monkeypatch, LEASE.total_seconds() - 10))
        done = world.reconcile()
    assert (done.steps, done.stale) == (4, 0)
    found = world.again(endpoint)
    assert found.lock_token is None, "given back, not left to expire"
    assert world.condition(endpoint, PROGRESSING)[1] != "Blocked", "nothing of which the customer need know"
    assert len([text for text in world.messages(endpoint) if text.endswith("is missing")]) == 4
    assert cluster_reconcile(world.cluster.pk).steps == 6, "it is due at once"


def test_two_workers_at_once_make_everything_once(world: World) -> None:
    endpoints = [world.deploy(f"e{number}") for number in range(6)]
    due_now()
    barrier = threading.Barrier(2)

    def work(_: object) -> None:
        barrier.wait()
        for _ in range(4):
            cluster_reconcile(world.cluster.pk)

    threads = [threading.Thread(target=_in_thread, args=(work, None)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    applied = [write.path for write in world.api.counters.writes if write.verb == "apply"]
    own = [path for path in applied if any(names.of(e.public_id) in path for e in endpoints)]
    assert len(own) == len(set(own)) == 6 * 4
    assert {write.status for write in world.api.counters.writes} <= {200, 201}
    assert {world.again(endpoint).phase for endpoint in endpoints} == {Phase.STARTING}
    assert all(world.again(endpoint).lock_token is None for endpoint in endpoints)
    assert world.reconcile().steps == 0


class Killed(BaseException):
    """kill -9, as far as a test can have it."""


@pytest.mark.parametrize("number", [1, 4, 8, 10])
def test_a_worker_that_is_killed_in_the_middle_is_followed_by_another(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    endpoint = world.deploy()

    def kill() -> None:
        raise Killed

    with monkeypatch.context() as patched:
        before_step(patched, number, kill)
        with pytest.raises(Killed):
            world.reconcile()
    assert world.reconcile().claimed == 0, "its claim still holds"
    move_clock(monkeypatch, LEASE.total_seconds() + 1)
    world.settle()
    world.all_ready(endpoint)
    assert world.again(endpoint).phase == Phase.READY
    applied = [write.path for write in world.api.counters.writes if write.verb == "apply"]
    assert len(applied) == len(set(applied)) == 10


# Namespaces and orphans


def test_a_namespace_that_is_being_removed_is_waited_for_and_made_again(world: World) -> None:
    first = world.ready("a")
    world.delete(first)
    world.api.cluster.kubelets.terminate = False
    delete(world.api.objects, kinds.NAMESPACES, "", world.namespace, DeleteOptions())
    second = world.deploy("b")
    for _ in range(3):
        world.step()
    status, reason, message = world.condition(second, PROGRESSING)
    assert (status, reason) == ("False", "Blocked")
    assert "still being removed" in message
    world.api.cluster.kubelets.terminate = True
    world.api.cluster.settle(resync=True)
    for _ in range(4):
        world.step()
    world.settle()
    world.all_ready(second)
    assert world.again(first).phase == Phase.DELETED
    assert world.again(second).phase == Phase.READY


def test_orphans_are_removed_once_they_are_old_and_strangers_never(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = world.ready("kept")
    lost = world.ready("lost")
    with system_scope("tests"):
        world.cluster.settings = settings(timing={"drain": 0, "orphan_grace": 300})
        world.cluster.save(update_fields=["settings"])
        Endpoint.objects.filter(pk=lost.pk).update(deleted_at=clock.now())
    other = {names.MANAGED_BY: names.MANAGER, names.CLUSTER: "cls_somebodyelse", names.ENDPOINT: lost.public_id}
    odd = {**other, names.CLUSTER: world.cluster.public_id, names.ENDPOINT: "not-an-id"}
    for name, labels in (("theirs", other), ("odd", odd)):
        body = {"metadata": {"name": name, "labels": labels}, "spec": {"ports": [{"port": 1}], "selector": {"a": "b"}}}
        world.api.objects.create(kinds.SERVICES, world.namespace, body, EDITOR)
    cluster_check(world.cluster.pk)
    assert world.get(kinds.DEPLOYMENTS, names.of(lost.public_id)) is not None, "it is young"
    move_clock(monkeypatch, 301)
    cluster_check(world.cluster.pk)
    world.elsewhere()
    for resource in (kinds.DEPLOYMENTS, kinds.SERVICES, kinds.BUDGETS):
        assert world.get(resource, names.of(lost.public_id)) is None
        assert world.get(resource, names.of(kept.public_id)) is not None
    assert world.get(kinds.SERVICES, "theirs") is not None
    assert world.get(kinds.SERVICES, "odd") is not None
    assert world.ours(kinds.NAMESPACES)


def test_the_namespace_of_a_tenant_without_endpoints_is_an_orphan(world: World) -> None:
    endpoint = world.ready()
    with system_scope("tests"):
        Endpoint.objects.filter(pk=endpoint.pk).update(deleted_at=clock.now() - timedelta(hours=1))
    time_passes = time.monotonic() + 2
    while world.ours(kinds.NAMESPACES) and time.monotonic() < time_passes:
        cluster_check(world.cluster.pk)
        world.elsewhere()
    assert not world.ours(kinds.NAMESPACES)
    assert world.api.store.all(kinds.PODS) == []


def test_leader_worker_sets_that_are_uninstalled_are_no_outage(world: World) -> None:
    endpoint = world.ready()
    observe(world.cluster, has_leader_worker_sets=True)
    assert world.reconcile().unreachable, "the kind cannot be listed"
    cluster_check(world.cluster.pk)
    assert reachable(world.cluster)[0] == "True"
    assert not world.cluster.has_leader_worker_sets
    world.reconcile()
    assert world.again(endpoint).phase == Phase.READY


# Pages


def test_everything_is_seen_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints = [world.ready(f"e{number}") for number in range(4)]
    monkeypatch.setattr(client, "PAGE_SIZE", 3)
    world.api.counters.reset()
    assert world.reconcile().steps == 0
    assert world.api.counters.of("list", "pods") == 2
    assert {world.again(endpoint).ready_replicas for endpoint in endpoints} == {1}


def test_a_list_that_expires_between_pages_begins_anew_and_counts_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints = [world.ready(f"e{number}") for number in range(4)]
    monkeypatch.setattr(client, "PAGE_SIZE", 3)
    ask = client.Api._ask
    expired: list[str] = []

    def expiring(self: client.Api, method: str, path: str, query: Any = None, *rest: Any, **options: Any) -> bytes:
        if (query or {}).get("continue") and path.endswith("/pods") and not expired:
            expired.append(path)
            world.api.faults.answer(410, times=1, verb="list", path="/pods")
        return ask(self, method, path, query, *rest, **options)

    monkeypatch.setattr(client.Api, "_ask", expiring)
    assert world.reconcile().steps == 0
    assert expired
    assert {world.again(endpoint).ready_replicas for endpoint in endpoints} == {1}
    assert {len(world.again(endpoint).replicas_observed) for endpoint in endpoints} == {1}


def test_a_cluster_registered_twice_over_is_two_clusters(world: World) -> None:
    endpoint = world.ready()
    twin = register(world.api, "fra-2", "eu-central", settings=settings(namespace_prefix="twin-"))
    cluster_check(twin.pk)
    assert world.reconcile().steps == 0, "what carries another cluster's label is not ours"
    assert world.again(endpoint).phase == Phase.READY
    assert verbs(world.api, "delete") == []
