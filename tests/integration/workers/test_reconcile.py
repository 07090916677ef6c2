"""The reconcile loop on the real PostgreSQL and Redis; only the engines are played."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta

import pytest
import redis
from django.db import connection

from freehold.common import clock
from freehold.common.errors import Conflict, NotFound
from freehold.db.rls import system_scope, tenant_scope
from freehold.metering.models import ReplicaInterval
from freehold.registry.models import ModelRepo, RevisionHold
from freehold.registry.services import model_delete
from freehold.serving import publication
from freehold.serving.choices import Phase
from freehold.serving.claims import endpoint_status_record, endpoints_claim
from freehold.serving.errors import StaleLock
from freehold.serving.models import Endpoint
from freehold.serving.services import endpoint_create, endpoint_delete, endpoint_scale
from freehold.tenancy.models import Tenant
from freehold.wire import names
from freehold.wire.publish import split
from freehold.wire.records import RouteRecord, decode
from tests.factories.tenants import actor_in, make_endpoint, make_fleet, make_revision, make_tenant
from tests.fakes.runtime import MemoryRuntime
from workers.reconcile import status
from workers.reconcile.loop import reconcile_cluster
from workers.runtimes.base import Action, FetchToken, Verb

pytestmark = pytest.mark.usefixtures("committed_db")


@pytest.fixture
def tenant() -> Tenant:
    tenant = make_tenant()
    make_fleet()
    make_revision(tenant)
    return tenant


def due_now() -> None:
    with system_scope("tests"):
        Endpoint.objects.update(next_reconcile_at=clock.now())


def run(runtime: MemoryRuntime, *, passes: int = 1) -> None:
    for _ in range(passes):
        due_now()
        with system_scope("tests"):
            cluster_id = Endpoint.objects.values_list("cluster_id", flat=True)[0]
        reconcile_cluster(cluster_id, runtime)


def again(endpoint: Endpoint) -> Endpoint:
    with system_scope("tests"):
        return Endpoint.objects.get(pk=endpoint.pk)


def route(client: redis.Redis, name: str = "acme/chat") -> RouteRecord | None:
    value = client.hget(names.section(names.Section.ROUTES), name)
    assert isinstance(value, bytes)
    data = split(value)[1]
    return decode(data, RouteRecord) if data else None


def test_a_new_endpoint_is_started_becomes_ready_and_is_routed(tenant: Tenant, redis_client: redis.Redis) -> None:
    endpoint, runtime = make_endpoint(tenant, replicas=2), MemoryRuntime()
    run(runtime)
    assert [action.verb for action in runtime.applied] == [Verb.CREATE, Verb.CREATE]
    assert all(runtime.tokens)
    run(runtime)
    assert again(endpoint).phase == Phase.STARTING
    runtime.all_ready()
    run(runtime)
    found = again(endpoint)
    assert (found.phase, found.ready_replicas, found.observed_generation) == (Phase.READY, 2, 1)
    published = route(redis_client)
    assert published is not None
    assert {replica.id for replica in published.replicas} == set(runtime.replicas)
    applied = len(runtime.applied)
    run(runtime, passes=3)
    assert len(runtime.applied) == applied, "a converged endpoint is left alone"


def test_an_endpoint_that_is_not_due_is_not_touched(tenant: Tenant) -> None:
    endpoint, runtime = make_endpoint(tenant), MemoryRuntime()
    with system_scope("tests"):
        Endpoint.objects.update(next_reconcile_at=clock.now() + timedelta(hours=1))
    assert reconcile_cluster(endpoint.cluster_id, runtime).claimed == 0


def test_scaling_and_deletion_converge_and_release_the_revision(tenant: Tenant, redis_client: redis.Redis) -> None:
    endpoint, runtime, actor = make_endpoint(tenant), MemoryRuntime(), actor_in(tenant)
    run(runtime)
    runtime.all_ready()
    endpoint_scale(actor=actor, tenant_id=tenant.pk, endpoint_id=endpoint.pk, replicas=3)
    run(runtime)
    runtime.all_ready()
    run(runtime)
    assert (again(endpoint).ready_replicas, again(endpoint).observed_generation) == (3, 2)

    endpoint_scale(actor=actor, tenant_id=tenant.pk, endpoint_id=endpoint.pk, replicas=0)
    run(runtime, passes=3)
    assert again(endpoint).phase == Phase.STOPPED
    published = route(redis_client)
    assert published is not None, "a stopped endpoint is known, so that the gateway can say it is stopped"
    assert published.replicas == ()

    endpoint_delete(actor=actor, tenant_id=tenant.pk, endpoint_id=endpoint.pk)
    assert route(redis_client) is None
    run(runtime, passes=2)
    assert again(endpoint).phase == Phase.DELETED
    with tenant_scope(tenant.pk):
        assert not RevisionHold.objects.exists()
    with tenant_scope(tenant.pk):
        model = ModelRepo.objects.get()
    make_endpoint(tenant)  # the name is free again
    with pytest.raises(Conflict, match="in use"):
        model_delete(actor=actor, tenant_id=tenant.pk, model_id=model.pk)
    assert route(redis_client) is not None


def test_a_model_can_be_deleted_once_nothing_serves_it(tenant: Tenant) -> None:
    endpoint, runtime, actor = make_endpoint(tenant), MemoryRuntime(), actor_in(tenant)
    endpoint_delete(actor=actor, tenant_id=tenant.pk, endpoint_id=endpoint.pk)
    run(runtime, passes=2)
    with tenant_scope(tenant.pk):
        model = ModelRepo.objects.get()
    model_delete(actor=actor, tenant_id=tenant.pk, model_id=model.pk)


def test_routes_are_withdrawn_before_a_replica_is_ended(tenant: Tenant, redis_client: redis.Redis) -> None:
    endpoint, runtime = make_endpoint(tenant), MemoryRuntime()
    run(runtime)
    runtime.all_ready()
    run(runtime)
    endpoint_scale(actor=actor_in(tenant), tenant_id=tenant.pk, endpoint_id=endpoint.pk, replicas=0)
    routed_at_delete: list[int] = []
    original = runtime.apply

    def watched(action: Action, *, endpoint: str, fetch_token: FetchToken | None) -> str:
        if action.verb is Verb.DELETE:
            published = route(redis_client)
            routed_at_delete.append(-1 if published is None else len(published.replicas))
        return original(action, endpoint=endpoint, fetch_token=fetch_token)

    runtime.apply = watched  # type: ignore[method-assign]
    run(runtime)
    assert routed_at_delete == [0]


def test_a_crash_becomes_a_condition_and_is_restarted_after_the_backoff(tenant: Tenant) -> None:
    endpoint, runtime = make_endpoint(tenant), MemoryRuntime()
    run(runtime)
    (name,) = runtime.replicas
    runtime.exit(name, message="ValueError: max_model_len is too large")
    run(runtime)
    found = again(endpoint)
    assert found.phase == Phase.FAILED
    failing = found.condition("Failing")
    assert failing is not None
    assert failing["message"].startswith("ValueError: max_model_len is too large")
    assert [action.verb for action in runtime.applied] == [Verb.CREATE]
    runtime.exit(name, message="ValueError: max_model_len is too large", at=clock.now() - timedelta(seconds=6))
    run(runtime)
    assert [action.verb for action in runtime.applied] == [Verb.CREATE, Verb.CREATE]
    assert runtime.applied[-1].failures == 1


def test_a_cluster_that_cannot_be_reached_makes_endpoints_unknown_and_nothing_is_done(
    tenant: Tenant, redis_client: redis.Redis
) -> None:
    endpoint, runtime = make_endpoint(tenant), MemoryRuntime()
    run(runtime)
    runtime.all_ready()
    run(runtime)
    applied = len(runtime.applied)
    runtime.unreachable = True
    run(runtime)
    assert again(endpoint).phase == Phase.UNKNOWN
    assert len(runtime.applied) == applied
    published = route(redis_client)
    assert published is not None
    assert len(published.replicas) == 1, "what served a moment ago goes on serving"
    runtime.unreachable = False
    run(runtime)
    assert again(endpoint).phase == Phase.READY


def test_a_step_that_cannot_be_taken_is_told_and_holds_up_nobody_else(tenant: Tenant) -> None:
    first, second, runtime = make_endpoint(tenant, "a"), make_endpoint(tenant, "b"), MemoryRuntime()
    runtime.refuse = first.public_id
    run(runtime)
    progressing = again(first).condition("Progressing")
    assert progressing is not None
    assert (progressing["reason"], progressing["message"]) == ("Blocked", "no room")
    assert {replica.endpoint for replica in runtime.replicas.values()} == {second.public_id}
    runtime.refuse = ""
    run(runtime)
    assert len(runtime.replicas) == 2


def test_trouble_with_one_endpoint_holds_up_nobody_else(tenant: Tenant) -> None:
    first, second, runtime = make_endpoint(tenant, "a"), make_endpoint(tenant, "b"), MemoryRuntime()
    original = runtime.apply

    def poisoned(action: Action, *, endpoint: str, fetch_token: FetchToken | None) -> str:
        if endpoint == first.public_id:
            raise ValueError("nobody thought of this")
        return original(action, endpoint=endpoint, fetch_token=fetch_token)

    runtime.apply = poisoned  # type: ignore[method-assign]
    run(runtime)
    assert {replica.endpoint for replica in runtime.replicas.values()} == {second.public_id}
    with system_scope("tests"):
        assert not Endpoint.objects.exclude(lock_token=None).exists()


def test_what_an_engine_says_cannot_break_the_record(tenant: Tenant) -> None:
    endpoint, runtime = make_endpoint(tenant), MemoryRuntime()
    run(runtime)
    (name,) = runtime.replicas
    runtime.exit(name, message="ValueError: Unsupported activation: x\0")
    run(runtime)
    failing = again(endpoint).condition("Failing")
    assert failing is not None
    assert failing["message"].startswith("ValueError: Unsupported activation: x\ufffd")


def test_a_lost_claim_writes_nothing(tenant: Tenant) -> None:
    endpoint = make_endpoint(tenant)
    (claim,) = endpoints_claim(cluster_id=endpoint.cluster_id)
    assert endpoints_claim(cluster_id=endpoint.cluster_id) == [], "claimed is claimed"
    with system_scope("tests"):
        Endpoint.objects.update(lock_expires_at=clock.now() - timedelta(seconds=1))
    (successor,) = endpoints_claim(cluster_id=endpoint.cluster_id)
    assert successor.token != claim.token
    with pytest.raises(StaleLock):
        endpoint_status_record(claim=claim, status=status.unknown(Phase.READY, "late"))
    assert again(endpoint).phase == Phase.PENDING
    endpoint_status_record(claim=successor, status=status.unknown(Phase.READY, "now"))
    assert again(endpoint).phase == Phase.UNKNOWN


def test_a_change_during_a_pass_makes_the_endpoint_due_at_once(tenant: Tenant) -> None:
    endpoint, runtime = make_endpoint(tenant), MemoryRuntime()
    (claim,) = endpoints_claim(cluster_id=endpoint.cluster_id)
    endpoint_scale(actor=actor_in(tenant), tenant_id=tenant.pk, endpoint_id=endpoint.pk, replicas=2)
    endpoint_status_record(claim=claim, status=status.unknown(Phase.READY, "before the change"))
    assert reconcile_cluster(endpoint.cluster_id, runtime).steps == 2


def test_a_deletion_during_a_pass_is_not_overwritten(tenant: Tenant) -> None:
    endpoint = make_endpoint(tenant)
    (claim,) = endpoints_claim(cluster_id=endpoint.cluster_id)
    endpoint_delete(actor=actor_in(tenant), tenant_id=tenant.pk, endpoint_id=endpoint.pk)
    endpoint_status_record(claim=claim, status=status.unknown(Phase.READY, "before the change"))
    assert again(endpoint).phase == Phase.DELETING


def test_workers_at_once_share_the_work_and_start_nothing_twice(tenant: Tenant) -> None:
    for number in range(12):
        make_endpoint(tenant, f"chat-{number}")
    runtime = MemoryRuntime()
    with system_scope("tests"):
        cluster_id = Endpoint.objects.values_list("cluster_id", flat=True)[0]
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait(timeout=10)
        try:
            reconcile_cluster(cluster_id, runtime, limit=3)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    started = [action.spec.endpoint for action in runtime.applied if action.spec is not None]
    assert len(started) == len(set(started)) == 12


def test_replica_states_become_intervals_that_gpu_seconds_are_billed_from(tenant: Tenant) -> None:
    endpoint, runtime = make_endpoint(tenant), MemoryRuntime()
    run(runtime, passes=2)
    runtime.all_ready()
    run(runtime)
    endpoint_scale(actor=actor_in(tenant), tenant_id=tenant.pk, endpoint_id=endpoint.pk, replicas=0)
    run(runtime, passes=3)
    with tenant_scope(tenant.pk):
        intervals = list(ReplicaInterval.objects.filter(endpoint_id=endpoint.pk).order_by("started_at"))
    assert [interval.state for interval in intervals] == ["starting", "ready", "stopping"]
    assert all(interval.ended_at is not None for interval in intervals)


def test_a_lost_publication_is_repaired_by_the_resync(tenant: Tenant, redis_client: redis.Redis) -> None:
    make_endpoint(tenant)
    redis_client.flushall()
    assert publication.publish_all() == 1
    assert route(redis_client) is not None
    assert publication.publish_all() == 0


def test_a_name_is_unique_a_foreign_model_is_not_found_and_a_foreign_endpoint_too(tenant: Tenant) -> None:
    endpoint = make_endpoint(tenant)
    with pytest.raises(Conflict):
        make_endpoint(tenant)
    other = make_tenant("other")
    make_revision(other, "theirs")
    with pytest.raises(NotFound):
        endpoint_create(actor=actor_in(tenant), tenant_id=tenant.pk, name="b", model="other/tiny")
    with pytest.raises(NotFound):
        make_endpoint(tenant, "b", model="theirs")
    with pytest.raises(NotFound):
        endpoint_delete(actor=actor_in(other), tenant_id=other.pk, endpoint_id=endpoint.pk)
    with pytest.raises(NotFound):
        endpoint_delete(actor=actor_in(other), tenant_id=tenant.pk, endpoint_id=endpoint.pk)
    with pytest.raises(NotFound):
        endpoint_scale(actor=actor_in(tenant), tenant_id=tenant.pk, endpoint_id=uuid.uuid4(), replicas=1)
