"""The watcher: changes are hinted at soon whatever becomes of its streams, and logs that somebody looks at are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import redis

from freehold.common import clock
from freehold.db.rls import system_scope
from freehold.serving.choices import Phase
from freehold.serving.claims import endpoints_touch
from freehold.serving.models import Endpoint
from freehold.wire import hints
from tests.fakes.kubernetes import Emulator
from tests.fakes.kubernetes import resources as kinds
from tests.fakes.kubernetes.deletion import DeleteOptions, delete
from tests.integration.api.client import api_of
from tests.integration.kubernetes.world import EDITOR, World, eventually, register, rotate
from workers.manifests.kubernetes import names
from workers.reconcile.clusters import cluster_reconcile
from workers.runtimes.kubernetes.pods import replica_of
from workers.watch import clusters, kubernetes, stream
from workers.watch.clusters import ClusterWatches
from workers.watch.kubernetes import ClusterWatch

STREAMS = 2  # pods and deployments


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in production waits hardly here."""
    monkeypatch.setattr(stream, "_PAUSE_FIRST", 0.02)
    monkeypatch.setattr(stream, "_PAUSE_MOST", 0.1)


@contextmanager
def following(world: World, *, silence: float = stream.SILENCE_SECONDS) -> Iterator[ClusterWatch]:
    """A watch that runs and has read its first lists."""
    watch = world.watch()
    for each in watch._streams.values():
        each._silence_seconds = silence
    watch.start()
    try:
        eventually(lambda: watch.synced, "the first lists")
        eventually(lambda: len(watches(world)) == STREAMS, "both are watched")
        yield watch
    finally:
        watch.stop()


def watches(world: World) -> list[object]:
    """Watches that the server has open."""
    return [each for each in list(world.api._connections.open) if each.watch is not None]


def told(watch: ClusterWatch, endpoint: Endpoint, seconds: float = 4.0) -> float:
    """Waits until the watch names the endpoint; how long that took."""
    began = time.monotonic()
    eventually(lambda: endpoint.public_id in watch.take(), "the change is told", seconds=seconds)
    return time.monotonic() - began


def quiet(watch: ClusterWatch) -> None:
    """Nothing more is to be told: the server's version has come through every stream."""
    eventually(lambda: not watch.take(), "quiet")


def lists(world: World) -> int:
    return world.api.counters.of("list", "pods") + world.api.counters.of("list", "deployments")


# Changes


def test_a_pod_that_became_ready_is_hinted_at_within_a_second(world: World, redis_client: redis.Redis) -> None:
    endpoint = world.deploy()
    world.settle()
    with system_scope("tests"):
        Endpoint.objects.update(next_reconcile_at=clock.now() + timedelta(hours=1))
    watched = ClusterWatches()
    try:
        watched.tick()
        (watch,) = [each for _, each in watched._watches.values()]
        assert isinstance(watch, ClusterWatch)
        eventually(lambda: watch.synced and len(watches(world)) == STREAMS, "synced")
        redis_client.delete(hints.DEFAULT)
        began = time.monotonic()
        world.api.cluster.pods.ready(world.pod(endpoint))

        def hinted() -> bool:
            watched.tick()
            return bool(redis_client.llen(hints.DEFAULT))

        eventually(hinted, "a hint")
        assert time.monotonic() - began < 1
    finally:
        watched.stop()
    assert cluster_reconcile(world.cluster.pk).claimed == 1
    assert world.again(endpoint).phase == Phase.READY


def test_edits_and_deletions_of_workloads_are_told_and_what_says_nothing_new_is_not(world: World) -> None:
    endpoint = world.ready()
    with following(world) as watch:
        assert watch.take() == set(), "what was there already is no news"
        name = names.of(endpoint.public_id)
        world.edit(kinds.DEPLOYMENTS, name, {"spec": {"replicas": 2}})
        told(watch, endpoint)
        quiet(watch)
        delete(world.api.objects, kinds.DEPLOYMENTS, world.namespace, name, DeleteOptions())
        told(watch, endpoint)


def test_objects_of_other_installations_are_not_seen(world: World) -> None:
    endpoint = world.ready()
    with following(world) as watch:
        labels = {names.MANAGED_BY: names.MANAGER, names.CLUSTER: "cls_other", names.ENDPOINT: endpoint.public_id}
        deployment = world.get(kinds.DEPLOYMENTS, names.of(endpoint.public_id))
        assert deployment is not None
        body = {"metadata": {"name": "theirs", "labels": labels}, "spec": deployment["spec"]}
        world.api.objects.create(kinds.DEPLOYMENTS, world.namespace, body, EDITOR)
        world.api.cluster.pods.crash(world.pod(endpoint))
        told(watch, endpoint)
        assert watch.replicas(endpoint.public_id) == [world.pod(endpoint)]


def test_a_tell_of_what_is_no_endpoint_is_nobodys(world: World) -> None:
    clusters.tell({"not-an-id", "ep_00000000000000000000000000"})
    assert endpoints_touch(endpoint_ids=[]) == set()


# Streams that end


def test_a_watch_that_the_server_ends_goes_on_where_it_was_without_a_list(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "WATCH_SECONDS", (1, 1))
    world.api.options.bookmark_seconds = 0.1
    endpoint = world.ready()
    with following(world) as watch:
        before = lists(world)
        began = world.api.counters.of("watch", "pods")
        elsewhere = {"metadata": {"name": "elsewhere"}, "data": {}}
        world.api.objects.create(kinds.CONFIGMAPS, world.namespace, elsewhere, EDITOR)
        now = world.api.store.version
        versions = [each._version for each in watch._streams.values()]
        assert all(int(version) < now for version in versions)
        eventually(lambda: all(int(each._version) >= now for each in watch._streams.values()), "a bookmark")
        world.api.expire_watch_cache()
        eventually(lambda: world.api.counters.of("watch", "pods") > began, "it was ended, and begun again")
        world.api.cluster.pods.crash(world.pod(endpoint))
        told(watch, endpoint)
        assert lists(world) == before


@pytest.mark.parametrize("as_event", [True, False], ids=["event", "answer"])
def test_a_version_that_was_forgotten_means_a_list_and_nothing_is_missed(world: World, as_event: bool) -> None:
    endpoint = world.ready()
    with following(world) as watch:
        before = lists(world)
        world.api.down()
        world.api.cluster.pods.crash(world.pod(endpoint), message="while nobody looked")
        world.api.expire_watch_cache(as_event=as_event)
        world.api.up()
        told(watch, endpoint)
        assert lists(world) > before
        quiet(watch)
        world.api.cluster.pods.ready(world.pod(endpoint))
        told(watch, endpoint)


def test_a_version_forgotten_in_the_middle_of_a_good_stream_means_a_list(world: World) -> None:
    endpoint = world.ready()
    with following(world) as watch:
        before = lists(world)
        world.api.expire_watch_cache(break_open=True)
        eventually(lambda: lists(world) == before + STREAMS, "both are listed anew")
        world.api.cluster.pods.crash(world.pod(endpoint))
        told(watch, endpoint)


def test_a_server_that_forgets_at_once_is_not_asked_all_the_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_PAUSE_FIRST", 0.1)
    world.ready()
    world.api.faults.answer(410, times=float("inf"), verb="watch")
    watch = world.watch()
    began = time.monotonic()
    watch.start()
    try:
        eventually(lambda: world.api.counters.of("watch", "pods") >= 4, "it is asked again")
        assert time.monotonic() - began > 3 * 0.08, "with pauses in between"
    finally:
        watch.stop()


def test_a_half_open_stream_is_noticed_by_its_silence(world: World) -> None:
    endpoint = world.ready()
    world.api.options.bookmark_seconds = 0.1
    with following(world, silence=0.4) as watch:
        world.api.faults.freeze_watches()
        world.api.cluster.pods.crash(world.pod(endpoint))
        began = world.api.counters.of("watch", "pods")
        eventually(lambda: world.api.counters.of("watch", "pods") > began, "it was begun anew")
        world.api.faults.clear()
        told(watch, endpoint)


def test_a_stream_cut_in_the_middle_of_a_line_goes_on(world: World) -> None:
    endpoint = world.ready()
    with following(world) as watch:
        before = lists(world)
        world.api.faults.cut_watch(path="/pods")
        world.api.cluster.pods.crash(world.pod(endpoint))
        told(watch, endpoint)
        assert lists(world) == before, "from the last version"


def test_a_server_that_was_away_is_followed_again(world: World) -> None:
    endpoint = world.ready()
    with following(world) as watch:
        world.api.down()
        world.api.cluster.pods.crash(world.pod(endpoint))
        assert watch.take() == set()
        world.api.up()
        told(watch, endpoint)


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_server_that_refuses_for_a_while_is_followed_again(world: World, status: int) -> None:
    endpoint = world.ready()
    with following(world) as watch:
        if status == 401:
            token, world.api.options.token = world.api.options.token, "another"
        else:
            world.api.faults.answer(status, times=4, verb="watch|list")
        world.api.down()
        world.api.up()
        world.api.cluster.pods.crash(world.pod(endpoint))
        if status == 401:
            eventually(lambda: world.api.counters.of("watch", "pods") > 2, "it was refused")
            world.api.options.token = token
        told(watch, endpoint)


def test_a_stream_that_hangs_is_replaced_and_what_it_missed_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = world.ready()
    with following(world) as watch:
        world.api.faults.freeze_watches()
        world.api.cluster.pods.crash(world.pod(endpoint))
        assert watch.take() == set()
        monkeypatch.setattr(stream, "STALLED_SECONDS", 0.0)
        at_once = watch.take()
        monkeypatch.setattr(stream, "STALLED_SECONDS", 200.0)
        world.api.faults.clear()
        if endpoint.public_id not in at_once:
            told(watch, endpoint)


def test_a_pod_that_cannot_be_read_does_not_end_the_watch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = world.ready()
    read, odd = replica_of, threading.Event()

    def reading(pod: dict[str, object], *, port: int) -> object:
        if odd.is_set():
            odd.clear()
            raise KeyError("something that nobody thought of")
        return read(pod, port=port)

    monkeypatch.setattr(kubernetes, "replica_of", reading)
    with following(world) as watch:
        threads = {each.name for each in threading.enumerate()}
        odd.set()
        world.api.cluster.pods.crash(world.pod(endpoint))
        told(watch, endpoint)
        assert {each.name for each in threading.enumerate()} >= threads


def test_stopping_is_prompt_and_leaves_no_thread(world: World) -> None:
    world.ready()
    before = set(threading.enumerate())
    with following(world):
        mine = set(threading.enumerate()) - before
        assert len(mine) >= STREAMS + 1
        began = time.monotonic()
    for thread in mine:
        thread.join(2)
        assert not thread.is_alive(), thread.name
    assert time.monotonic() - began < 2


# Clusters


def test_new_changed_and_removed_clusters_are_followed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "REFRESH_SECONDS", 0.0)
    watched = ClusterWatches()
    try:
        watched.tick()
        assert set(watched._watches) == {world.cluster.pk}
        with Emulator() as other:
            second = register(other, "osl-1", "eu-north")
            watched.tick()
            assert set(watched._watches) == {world.cluster.pk, second.pk}
            eventually(lambda: other.counters.of("watch", "pods") == 1, "the new one is watched")
            other.options.token = "rotated"
            rotate(second, other.kubeconfig())
            (old,) = [each for key, (_, each) in watched._watches.items() if key == second.pk]
            watched.tick()
            (new,) = [each for key, (_, each) in watched._watches.items() if key == second.pk]
            assert new is not old
            eventually(lambda: other.counters.of("watch", "pods") >= 2, "with the new credentials")
            watched.tick()
            assert watched._watches[second.pk][1] is new, "what has not changed is left alone"
            with system_scope("tests"):
                second.delete()
            watched.tick()
            assert set(watched._watches) == {world.cluster.pk}
    finally:
        watched.stop()


def test_without_a_watcher_the_resync_alone_converges(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = world.deploy()
    moment = clock.now()
    for second in range(0, 60, 2):  # the beat's
        later = moment + timedelta(seconds=second)
        monkeypatch.setattr(clock, "now", lambda later=later: later)
        cluster_reconcile(world.cluster.pk)
        world.elsewhere()
        if second == 20:
            world.api.cluster.pods.ready(world.pod(endpoint))
    assert world.again(endpoint).phase == Phase.READY
    assert world.addresses()


# Logs


def lines(world: World, endpoint: Endpoint) -> list[str]:
    """What the API answers; asking makes the watcher look."""
    answer = api_of(endpoint.tenant).get(f"/endpoints/{endpoint.public_id}/logs")
    assert answer.status == 200, answer.body
    return [line["text"] for line in answer.body["data"]]


def test_logs_reach_the_api_the_fetchers_before_the_engines_and_the_ended_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "LOG_SECONDS", 0.02)
    monkeypatch.setattr("workers.watch.logs.PERIOD_SECONDS", 0.02)
    endpoint = world.deploy()
    world.settle()
    pods, pod = world.api.cluster.pods, world.pod(endpoint)
    pods.fetching(pod)
    pods.set_log(pod, names.FETCH_CONTAINER, ["fetching 1 of 2", "fetching 2 of 2"])
    with following(world):

        def has(*wanted: str) -> None:
            eventually(lambda: lines(world, endpoint)[-len(wanted) :] == list(wanted), f"{wanted}")

        has("fetching 1 of 2", "fetching 2 of 2")
        pods.starting(pod)
        pods.set_log(pod, names.ENGINE_CONTAINER, ["INFO loading weights"])
        has("fetching 2 of 2", "INFO loading weights")
        pods.set_log(pod, names.ENGINE_CONTAINER, ["INFO loading weights", "INFO ready"])
        has("INFO loading weights", "INFO ready")
        pods.crash(pod, message="RuntimeError: gone")
        pods.set_log(pod, names.ENGINE_CONTAINER, [])
        pods.set_log(pod, names.ENGINE_CONTAINER, ["INFO ready", "RuntimeError: gone"], previous=True)
        has("INFO ready", "RuntimeError: gone")


def test_a_log_that_cannot_be_read_keeps_back_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "LOG_SECONDS", 0.02)
    monkeypatch.setattr("workers.watch.logs.PERIOD_SECONDS", 0.02)
    endpoint = world.ready(replicas=2)
    silent, speaking = world.pods(endpoint)
    world.api.cluster.pods.set_log(speaking, names.ENGINE_CONTAINER, ["INFO here"])
    world.api.faults.answer(500, times=float("inf"), path=f"/pods/{silent}/log")
    with following(world):
        eventually(lambda: lines(world, endpoint) == ["INFO here"], "the other pod's log")
