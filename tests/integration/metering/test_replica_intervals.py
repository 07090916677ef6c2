"""Replica states as append-only intervals that never overlap."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.common import clock
from freehold.common.ids import uuid7
from freehold.db.rls import system_scope, tenant_scope
from freehold.metering.models import DueHour, ReplicaInterval
from freehold.metering.services import replica_interval_record
from freehold.tenancy.models import Tenant
from tests.factories.usage import ENDPOINT, NOON, make_tenant


def _record(tenant: Tenant, state: str | None, at: datetime, replica: str = "rpl_1") -> None:
    replica_interval_record(
        tenant_id=tenant.pk,
        endpoint_id=ENDPOINT,
        replica_id=replica,
        generation=1,
        flavor="cpu",
        accelerators=1,
        billing_mode="gpu_seconds",
        state=state,
        at=at,
    )


def _intervals(tenant: Tenant, replica: str = "rpl_1") -> list[tuple[str, datetime, datetime | None]]:
    with tenant_scope(tenant.pk):
        rows = ReplicaInterval.objects.filter(replica_id=replica).order_by("started_at", "ended_at")
        return [(row.state, row.started_at, row.ended_at) for row in rows]


@pytest.mark.django_db
def test_a_life_becomes_a_chain_of_intervals() -> None:
    tenant = make_tenant()
    at = [NOON + timedelta(seconds=seconds) for seconds in range(9)]
    for state, moment in [
        ("starting", 0),
        ("starting", 1),
        ("ready", 2),
        ("ready", 3),
        ("stopping", 4),
        (None, 5),
        (None, 6),
    ]:
        _record(tenant, state, at[moment])
    assert _intervals(tenant) == [("starting", at[0], at[2]), ("ready", at[2], at[4]), ("stopping", at[4], at[5])]


@pytest.mark.django_db
def test_an_exited_replica_is_in_no_interval() -> None:
    tenant = make_tenant()
    _record(tenant, "ready", NOON)
    _record(tenant, "exited", NOON + timedelta(seconds=9))
    _record(tenant, "exited", NOON + timedelta(seconds=10))
    assert _intervals(tenant) == [("ready", NOON, NOON + timedelta(seconds=9))]


@pytest.mark.django_db
def test_an_unknown_state_is_refused_and_nothing_changes() -> None:
    tenant = make_tenant()
    _record(tenant, "ready", NOON)
    with pytest.raises(ValueError, match="dancing"):
        _record(tenant, "dancing", NOON)
    assert _intervals(tenant) == [("ready", NOON, None)]


@pytest.mark.django_db
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["fetching", "starting", "ready", "unhealthy", "stopping", "exited", None]),
            st.integers(0, 50),
        ),
        max_size=12,
    )
)
def test_intervals_never_overlap_whatever_order_times_come_in(steps: list[tuple[str | None, int]]) -> None:
    tenant, replica = make_tenant(f"t-{uuid7().hex[:30]}"), str(uuid7())
    for state, seconds in steps:
        _record(tenant, state, NOON + timedelta(seconds=seconds), replica)
    found = _intervals(tenant, replica)
    assert sum(ended is None for _, _, ended in found) <= 1
    for (_, _, ended), (_, started, _) in pairwise(found):
        assert ended is not None
        assert ended <= started


@pytest.mark.django_db
def test_only_the_end_of_an_interval_is_ever_written_and_only_once() -> None:
    tenant = make_tenant()
    _record(tenant, "ready", NOON)
    with tenant_scope(tenant.pk):
        changes: list[dict[str, Any]] = [{"accelerators": 8}, {"ended_at": NOON, "flavor": "x"}]
        for change in changes:
            with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
                ReplicaInterval.objects.update(**change)
    _record(tenant, None, NOON + timedelta(seconds=1))
    with tenant_scope(tenant.pk):
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            ReplicaInterval.objects.update(ended_at=NOON + timedelta(seconds=2))
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            ReplicaInterval.objects.all().delete()


@pytest.mark.django_db
def test_a_change_makes_its_hour_and_all_hours_since_due() -> None:
    tenant = make_tenant()
    now = clock.now()
    _record(tenant, "ready", now - timedelta(hours=3))
    with tenant_scope(tenant.pk):
        assert DueHour.objects.count() == 4


@pytest.mark.usefixtures("committed_db")
def test_two_workers_that_see_the_same_change_record_it_once() -> None:
    tenant = make_tenant()
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        try:
            barrier.wait(10)
            for second, state in enumerate(["starting", "ready", None]):
                _record(tenant, state, NOON + timedelta(seconds=second))
                barrier.wait(10)
        except BaseException as error:  # noqa: BLE001 - a thread's error must reach the test
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with system_scope("test"):
        assert ReplicaInterval.objects.count() == 2
        assert ReplicaInterval.objects.filter(ended_at=None).count() == 0
