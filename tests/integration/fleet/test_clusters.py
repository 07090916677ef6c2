"""Clusters are registered and changed by operators; what they say of themselves is recorded by workers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from freehold.audit.models import AuditEvent
from freehold.common.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from freehold.db.rls import system_scope
from freehold.fleet import observations, services
from freehold.fleet.choices import ClusterAccess, ClusterConditionType, RuntimeKind
from freehold.fleet.models import Cluster
from freehold.wire import hints
from tests.factories.clusters import DIGEST, KUBECONFIG, gpu_node, make_cluster, observe
from tests.factories.tenants import SYSTEM, actor_in, make_tenant

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Hints that were sent."""
    found: list[tuple[str, ...]] = []
    monkeypatch.setattr(hints, "send", lambda task, *arguments: found.append((task, *arguments)))
    return found


def events() -> list[AuditEvent]:
    with system_scope("a test reads the platform's audit trail"):
        return list(AuditEvent.objects.filter(tenant_id=None).order_by("sequence"))


def status(cluster: Cluster, kind: ClusterConditionType) -> tuple[str, str, str]:
    condition = cluster.condition(kind)
    assert condition is not None
    return condition["status"], condition["reason"], condition["message"]


def test_a_kubeconfig_is_encrypted_and_in_no_event() -> None:
    cluster = make_cluster()
    with connection.cursor() as cursor:
        cursor.execute("SELECT kubeconfig FROM fleet_clustercredential WHERE cluster_id = %s", [cluster.pk])
        ((stored,),) = cursor.fetchall()
    assert "secret" not in stored
    assert "server" not in stored
    assert "secret-token" not in json.dumps([event.detail for event in events()])
    work = observations.cluster_get_for_work(cluster_id=cluster.pk)
    assert work.credentials is not None
    assert (work.credentials.token, work.access) == ("a-very-secret-token", ClusterAccess.KUBECONFIG)
    assert "secret-token" not in repr(work)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kubeconfig": ""}, "kubeconfig"),
        ({"kubeconfig": "nonsense"}, "kubeconfig"),
        ({"kubeconfig": KUBECONFIG.replace("token: a-very-secret-token", "exec: {command: aws}")}, "kubeconfig"),
        ({"access": ClusterAccess.IN_CLUSTER}, "kubeconfig"),
        ({"access": ClusterAccess.LOCAL}, "access"),
        ({"engine_digest": ""}, "engine_digest"),
        ({"engine_digest": "latest"}, "engine_digest"),
        ({"settings": {"usr_id": 1}}, "settings"),
        ({"name": " "}, "name"),
    ],
)
def test_what_cannot_be_registered_is_refused_naming_the_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_cluster(**fields)
    assert (caught.value.field or "").startswith(field)
    assert not Cluster.objects.exists()


def test_in_cluster_access_needs_no_kubeconfig() -> None:
    cluster = make_cluster(kubeconfig="", access=ClusterAccess.IN_CLUSTER)
    assert observations.cluster_get_for_work(cluster_id=cluster.pk).credentials is None


def test_a_name_is_taken_once() -> None:
    make_cluster()
    with pytest.raises(Conflict):
        make_cluster()


def test_only_operators_register_and_change(django_capture_on_commit_callbacks: Any) -> None:
    cluster = make_cluster()
    somebody = actor_in(make_tenant())
    with pytest.raises(PermissionDenied):
        services.cluster_update(actor=somebody, cluster=cluster, enabled=False)
    with pytest.raises(PermissionDenied):
        services.cluster_register(
            actor=somebody, region=cluster.region, name="x", runtime=RuntimeKind.LOCAL, engine_digest="d"
        )


def test_workers_are_told_of_what_is_new_or_changed(
    sent: list[tuple[str, ...]], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        cluster = make_cluster()
    with django_capture_on_commit_callbacks(execute=True):
        services.cluster_update(actor=SYSTEM, cluster=cluster, settings={"user_id": 1000})
    with django_capture_on_commit_callbacks(execute=True):
        services.cluster_update(actor=SYSTEM, cluster=cluster, settings={"user_id": 1000})
    assert sent == [(hints.CHECK_CLUSTER, str(cluster.pk))] * 2


def test_a_new_kubeconfig_replaces_the_old_and_is_tried_at_once() -> None:
    cluster = make_cluster()
    observations.cluster_record_unreachable(cluster_id=cluster.pk, message="401: the token has expired.")
    changed = services.cluster_update(
        actor=SYSTEM, cluster=cluster, kubeconfig=KUBECONFIG.replace("very", "new"), engine_digest=DIGEST
    )
    assert changed.retry_at is None
    work = observations.cluster_get_for_work(cluster_id=cluster.pk)
    assert work.credentials is not None
    assert work.credentials.token == "a-new-secret-token"
    assert events()[-1].detail == {"kubeconfig": "replaced"}
    with pytest.raises(InvalidInput):
        services.cluster_update(actor=SYSTEM, cluster=cluster, kubeconfig="")
    with pytest.raises(InvalidInput):
        services.cluster_update(actor=SYSTEM, cluster=cluster, settings={"nonsense": 1})


def test_a_cluster_that_is_not_enabled_is_worked_on_all_the_same() -> None:
    """Nothing new is placed there; what runs is kept up."""
    cluster = make_cluster()
    services.cluster_update(actor=SYSTEM, cluster=cluster, enabled=False)
    assert observations.cluster_get_for_work(cluster_id=cluster.pk).name == "fra-1"


def test_an_answer_is_recorded_with_conditions() -> None:
    cluster = observe(make_cluster(), gpu_node("n1"), forbidden=("create deployments.apps",))
    assert status(cluster, ClusterConditionType.REACHABLE)[:2] == ("True", "Answers")
    assert status(cluster, ClusterConditionType.PERMITTED)[0] == "False"
    assert "create deployments.apps" in status(cluster, ClusterConditionType.PERMITTED)[2]
    assert status(cluster, ClusterConditionType.LEADER_WORKER_SETS)[:2] == ("False", "NotInstalled")
    assert "8 × NVIDIA-H100" in status(cluster, ClusterConditionType.ACCELERATORS)[2]
    assert (cluster.version, cluster.is_reachable, cluster.has_leader_worker_sets) == ("v1.36.2", True, False)
    again = observe(cluster, has_leader_worker_sets=True)
    assert again.has_leader_worker_sets
    assert status(again, ClusterConditionType.PERMITTED)[0] == "True"


def test_silence_is_recorded_and_tried_again_less_and_less_often() -> None:
    cluster = observe(make_cluster(), gpu_node("n1"))
    moment, pauses = NOON, []
    for _ in range(7):
        retry = observations.cluster_record_unreachable(cluster_id=cluster.pk, message="connection refused", at=moment)
        pauses.append((retry - moment) / timedelta(seconds=1))
        moment = retry
    assert pauses == [5, 5, 10, 20, 40, 60, 60]
    cluster.refresh_from_db()
    assert status(cluster, ClusterConditionType.REACHABLE) == ("False", "NoAnswer", "connection refused")
    assert status(cluster, ClusterConditionType.ACCELERATORS)[0] == "True", "what was known stays"
    assert cluster.unreachable_since == NOON
    assert not cluster.is_reachable
    assert cluster.pools.filter(capacity__gt=0).exists()
    back = observe(cluster, gpu_node("n1"))
    assert (back.retry_at, back.unreachable_since, back.is_reachable) == (None, None, True)


def test_two_workers_that_say_so_at_once_count_once() -> None:
    cluster = make_cluster()
    first = observations.cluster_record_unreachable(cluster_id=cluster.pk, message="no", at=NOON)
    assert observations.cluster_record_unreachable(cluster_id=cluster.pk, message="no", at=NOON) == first


def test_of_a_cluster_that_is_gone_nothing_is_recorded() -> None:
    cluster = make_cluster()
    gone = cluster.pk
    cluster.delete()
    with pytest.raises(NotFound):
        observations.cluster_get_for_work(cluster_id=gone)
    with pytest.raises(NotFound):
        observations.cluster_record_unreachable(cluster_id=gone, message="no")
