"""Usage events lie in monthly partitions, each under row-level security of its own."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import DatabaseError, ProgrammingError, connection, connections, transaction

from freehold.common import clock
from freehold.db.rls import system_scope, tenant_scope
from freehold.metering.models import UsageEvent
from freehold.metering.services import usage_partitions_ensure
from tests.factories.usage import ENDPOINT, make_tenant


def _event(tenant_id: uuid.UUID, at: datetime) -> UsageEvent:
    text = dict.fromkeys(["api_key_id", "route", "region", "weight_digest", "engine_digest", "outcome"], "-")
    return UsageEvent(
        event_id=uuid.uuid4(),
        tenant_id=tenant_id,
        occurred_at=at,
        endpoint_id=ENDPOINT,
        generation=1,
        billing_mode="tokens",
        model="m",
        prompt_tokens=1,
        cached_tokens=0,
        completion_tokens=1,
        reasoning_tokens=0,
        estimated=False,
        duration_ms=1,
        **text,
    )


def _rows(sql: str, *parameters: str | uuid.UUID) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def _partitions() -> list[str]:
    return [
        str(name)
        for (name,) in _rows(
            "SELECT inhrelid::regclass::text FROM pg_inherits"
            " WHERE inhparent = 'metering_usageevent'::regclass ORDER BY 1"
        )
    ]


@pytest.mark.django_db
def test_this_month_and_the_next_two_are_there_from_the_first_migration() -> None:
    month = clock.now().date().replace(day=1)
    for _ in range(3):
        assert f"metering_usageevent_{month:%Y_%m}" in _partitions()
        month = (month + timedelta(days=32)).replace(day=1)
    assert "metering_usageevent_default" in _partitions()


@pytest.mark.django_db
def test_an_event_goes_to_its_utc_month_and_what_has_none_to_the_default() -> None:
    tenant = make_tenant()
    usage_partitions_ensure(today=date(2026, 11, 1))
    moments = {
        datetime(2026, 11, 30, 23, 59, 59, 999_999, tzinfo=UTC): "metering_usageevent_2026_11",
        datetime(2026, 12, 1, tzinfo=UTC): "metering_usageevent_2026_12",
        datetime(2019, 5, 5, tzinfo=UTC): "metering_usageevent_default",
    }
    with tenant_scope(tenant.pk):
        for moment, partition in moments.items():
            event = _event(tenant.pk, moment)
            event.save(force_insert=True)
            sql = "SELECT tableoid::regclass::text FROM metering_usageevent WHERE event_id = %s"
            assert _rows(sql, event.event_id) == [(partition,)]


@pytest.mark.django_db
def test_no_partition_shows_another_tenants_events_by_any_name() -> None:
    mine, theirs = make_tenant("mine"), make_tenant("theirs")
    with system_scope("test"):
        for tenant in (mine, theirs):
            UsageEvent.objects.bulk_create(
                [_event(tenant.pk, clock.now()), _event(tenant.pk, datetime(2019, 1, 1, tzinfo=UTC))]
            )
    for table in ["metering_usageevent", *_partitions()]:
        assert _rows(f"SELECT count(*) FROM {table}") == [(0,)], table  # noqa: S608 - names of our own
        with tenant_scope(mine.pk):
            assert _rows(f"SELECT count(*) FROM {table} WHERE tenant_id <> %s", mine.pk) == [(0,)]  # noqa: S608
    with tenant_scope(mine.pk):
        assert UsageEvent.objects.count() == 2
        with pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
            _event(theirs.pk, clock.now()).save(force_insert=True)


@pytest.mark.django_db
def test_row_level_security_is_enabled_and_forced_on_every_partition() -> None:
    rows = _rows(
        "SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class c JOIN pg_inherits ON inhrelid = c.oid"
        " WHERE inhparent = 'metering_usageevent'::regclass"
    )
    assert len(rows) >= 4
    assert [name for name, secured in rows if not secured] == []


@pytest.mark.django_db
def test_the_same_event_cannot_be_there_twice() -> None:
    tenant = make_tenant()
    event = _event(tenant.pk, clock.now())
    with tenant_scope(tenant.pk):
        UsageEvent.objects.bulk_create([event])
        UsageEvent.objects.bulk_create([event], ignore_conflicts=True)
        assert UsageEvent.objects.count() == 1


@pytest.mark.django_db
def test_the_application_makes_coming_months_and_takes_over_what_lay_in_the_default() -> None:
    month = (clock.now().date().replace(day=1) + timedelta(days=170)).replace(day=1)
    name = f"metering_usageevent_{month:%Y_%m}"
    tenant = make_tenant()
    with tenant_scope(tenant.pk):
        _event(tenant.pk, datetime(month.year, month.month, 10, tzinfo=UTC)).save(force_insert=True)
    assert name not in _partitions()
    assert usage_partitions_ensure(today=month) == 3
    assert usage_partitions_ensure(today=month) == 0
    assert UsageEvent.objects.count() == 0, "the function must leave no scope behind"
    with tenant_scope(tenant.pk):
        assert _rows("SELECT tableoid::regclass::text FROM metering_usageevent") == [(name,)]
    secured = "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relname = %s"
    assert _rows(secured, name) == [(True,)]
    owner = "SELECT relowner::regrole::text FROM pg_class WHERE relname = %s"
    assert _rows(owner, name) == _rows(owner, "metering_usageevent")


@pytest.mark.django_db
@pytest.mark.parametrize("month", [date(2019, 1, 1), date(2200, 1, 1)])
def test_months_far_away_are_refused(month: date) -> None:
    with pytest.raises(DatabaseError, match="no usage partition"):
        usage_partitions_ensure(today=month)


@pytest.mark.django_db
def test_the_application_cannot_make_tables_by_itself() -> None:
    assert connections["default"].settings_dict["USER"] != connections["owner"].settings_dict["USER"]
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE public.sneaky (LIKE metering_usageevent)")
