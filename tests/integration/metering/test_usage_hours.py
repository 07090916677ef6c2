"""Sums by the hour are those of the events, and are asked in their place."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
import redis
from django.db import connection
from django.db.models import Count, Sum
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.common.ids import uuid7
from freehold.db.rls import tenant_scope
from freehold.metering.models import UsageEvent, UsageHour, UsageReject
from freehold.metering.selectors import usage_sums
from freehold.metering.services import usage_drain
from freehold.tenancy.models import Tenant
from freehold.wire.usage import UsageRecord
from tests.factories.usage import ENDPOINT, NOON, make_batch, make_record, make_tenant, send

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
OTHER = uuid.UUID("019a0000-0000-7000-8000-00000000e0e1")


def _drain(client: redis.Redis, *records: UsageRecord) -> None:
    send(client, make_batch(1, *records, epoch=uuid.uuid4().hex))
    usage_drain(client=client)


def _requests(tenant: Tenant) -> int:
    with tenant_scope(tenant.pk):
        return sum(int(row.requests) for row in UsageHour.objects.all())


def test_an_event_that_arrives_twice_is_in_the_sums_once(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    record = make_record(tenant)
    _drain(redis_client, record)
    _drain(redis_client, record, make_record(tenant))
    with tenant_scope(tenant.pk):
        (hour,) = UsageHour.objects.all()
    assert (hour.hour, int(hour.requests), int(hour.prompt_tokens), int(hour.completion_tokens)) == (NOON, 2, 20, 10)


def test_what_is_rejected_is_in_no_sum(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    _drain(
        redis_client, make_record(tenant), make_record(tenant, cached_tokens=11), make_record(tenant, model="m" * 401)
    )
    assert _requests(tenant) == 1
    assert UsageReject.objects.count() == 0, "none of a tenant's own"


def test_sums_larger_than_any_event_can_be(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    largest = 2**63 - 1
    _drain(redis_client, *(make_record(tenant, prompt_tokens=largest, cached_tokens=0) for _ in range(3)))
    with tenant_scope(tenant.pk):
        (used,) = usage_sums(tenant_id=tenant.pk, start=NOON, end=NOON + HOUR)
    assert used.prompt_tokens == 3 * largest


def test_each_tenant_sees_its_own_sums(redis_client: redis.Redis) -> None:
    mine, theirs = make_tenant("mine"), make_tenant("theirs")
    _drain(redis_client, make_record(theirs))
    assert (_requests(mine), _requests(theirs)) == (0, 1)


def test_full_hours_are_asked_of_the_sums_alone(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    _drain(redis_client, make_record(tenant))
    with tenant_scope(tenant.pk), CaptureQueriesContext(connection) as captured:
        assert len(usage_sums(tenant_id=tenant.pk, start=NOON - HOUR, end=NOON + HOUR)) == 1
    assert not any("metering_usageevent" in query["sql"] for query in captured)


seconds = st.integers(0, 3 * 3_600)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moments=st.lists(st.tuples(seconds, st.booleans()), max_size=12), start=seconds, length=seconds)
def test_any_period_is_the_sum_of_its_events(
    redis_client: redis.Redis, moments: list[tuple[int, bool]], start: int, length: int
) -> None:
    tenant = make_tenant(f"t-{uuid7().hex[:30]}")
    _drain(
        redis_client,
        *(
            make_record(tenant, at=NOON + timedelta(seconds=second), endpoint=OTHER if other else ENDPOINT)
            for second, other in moments
        ),
    )
    since, until = NOON + timedelta(seconds=start), NOON + timedelta(seconds=start + length)
    for endpoint in (None, OTHER):
        with tenant_scope(tenant.pk):
            found = usage_sums(tenant_id=tenant.pk, start=since, end=until, endpoint_id=endpoint)
            events = UsageEvent.objects.filter(occurred_at__gte=since, occurred_at__lt=until)
            if endpoint is not None:
                events = events.filter(endpoint_id=endpoint)
            told = events.aggregate(requests=Count("*"), tokens=Sum("prompt_tokens"))
        assert sum(used.requests for used in found) == told["requests"]
        assert sum(used.prompt_tokens for used in found) == (told["tokens"] or 0)
        assert [used.hour for used in found] == sorted(used.hour for used in found)
