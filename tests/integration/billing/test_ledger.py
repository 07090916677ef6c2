"""Usage in the database → the live view and the ledger, which always agree."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import redis
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.billing import services
from freehold.billing.choices import Meter
from freehold.billing.models import LedgerEntry, PriceBook
from freehold.billing.records import NewPrice, UsageStatement
from freehold.billing.selectors import balance, usage_and_cost
from freehold.billing.services import ledger_post, price_book_publish
from freehold.common.ids import uuid7
from freehold.db.rls import system_scope, tenant_scope
from freehold.metering import drain
from freehold.metering.services import replica_interval_record, usage_drain
from freehold.tenancy.actors import system
from freehold.tenancy.models import Tenant
from freehold.wire.usage import UsageRecord
from tests.factories.usage import ENDPOINT, NOON, make_batch, make_record, make_tenant, send

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
LATER = NOON + timedelta(days=2)
OTHER = uuid.UUID("019a0000-0000-7000-8000-00000000e0e1")
PRICES = [
    NewPrice(meter=Meter.PROMPT_TOKENS, nanos=333_333_333),
    NewPrice(meter=Meter.CACHED_PROMPT_TOKENS, nanos=33_333_333),
    NewPrice(meter=Meter.COMPLETION_TOKENS, nanos=999_999_999),
    NewPrice(meter=Meter.ACCELERATOR_SECONDS, nanos=2_000_000_000),
]


def _publish(valid_from: datetime = datetime(2026, 1, 1, tzinfo=UTC), prices: list[NewPrice] | None = None) -> None:
    price_book_publish(
        actor=system("test"), name="test", currency="EUR", prices=prices or PRICES, valid_from=valid_from
    )


def _drain(client: redis.Redis, *records: UsageRecord) -> None:
    send(client, make_batch(1, *records, epoch=uuid.uuid4().hex))
    usage_drain(client=client)


def _replica(tenant: Tenant, state: str | None, at: datetime, *, accelerators: int = 1, replica: str = "rpl_1") -> None:
    replica_interval_record(
        tenant_id=tenant.pk,
        endpoint_id=OTHER,
        replica_id=replica,
        generation=1,
        flavor="cpu",
        accelerators=accelerators,
        billing_mode="gpu_seconds",
        state=state,
        at=at,
    )


def _view(tenant: Tenant, start: datetime = NOON - 30 * HOUR, end: datetime = LATER) -> UsageStatement:
    return usage_and_cost(tenant_id=tenant.pk, start=start, end=end, now=LATER)


def _entries(tenant: Tenant) -> list[LedgerEntry]:
    with tenant_scope(tenant.pk):
        return list(LedgerEntry.objects.order_by("hour", "meter", "revision"))


def _posted(tenant: Tenant) -> int:
    return sum(entry.amount_nanos for entry in _entries(tenant))


@contextmanager
def _at(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr("freehold.common.clock.now", lambda: moment)
        yield


@pytest.mark.django_db
def test_a_first_book_that_begins_in_the_past_is_posted_for_what_was_used_since(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    _drain(redis_client, make_record(tenant), make_record(tenant, at=NOON - 9 * HOUR))
    _replica(tenant, "ready", NOON + 30 * MINUTE)
    _replica(tenant, None, NOON + 2 * HOUR)
    assert ledger_post(now=LATER).entries == 0
    _publish(valid_from=NOON - 5 * HOUR)
    assert ledger_post(now=LATER).hours == 2
    assert _posted(tenant) == _view(tenant).total.amount_nanos > 0
    assert {entry.hour for entry in _entries(tenant)} == {NOON, NOON + HOUR}


@pytest.mark.django_db
def test_a_request_is_seen_priced_and_posted_alike(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    _publish()
    _drain(redis_client, make_record(tenant, at=NOON + MINUTE))
    view = _view(tenant)
    # 6 prompt, 4 cached and 5 completion tokens, each meter rounded to a nano by itself
    assert view.total.amount_nanos == 2_000 + 133 + 5_000
    assert (view.total.requests, view.total.prompt_tokens, view.total.cached_tokens) == (1, 10, 4)
    assert [(line.endpoint_id, line.model) for line in view.lines] == [(ENDPOINT, "acme/chat")]
    report = ledger_post(now=LATER)
    assert (report.hours, report.entries, report.left) == (1, 3, 0)
    assert {entry.meter: entry.quantity for entry in _entries(tenant)} == {
        "prompt_tokens": 6,
        "cached_prompt_tokens": 4,
        "completion_tokens": 5,
    }
    assert _posted(tenant) == view.total.amount_nanos
    assert balance(tenant_id=tenant.pk) == -view.total.amount_nanos


@pytest.mark.django_db
def test_an_hour_is_posted_once_it_is_over_and_has_waited_for_stragglers(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    _publish()
    _drain(redis_client, make_record(tenant, at=NOON))
    assert ledger_post(now=NOON + HOUR + services.GRACE - timedelta(microseconds=1)).hours == 0
    assert ledger_post(now=NOON + HOUR + services.GRACE).hours == 1
    assert ledger_post(now=LATER).hours == 0


@pytest.mark.django_db
def test_late_usage_becomes_a_revision_of_what_is_missing(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    _publish(prices=[NewPrice(meter=Meter.COMPLETION_TOKENS, nanos=100_000)])
    _drain(redis_client, make_record(tenant))
    ledger_post(now=LATER)
    _drain(redis_client, make_record(tenant, at=NOON + MINUTE))
    ledger_post(now=LATER)
    found = [(entry.revision, entry.quantity, entry.amount_nanos) for entry in _entries(tenant)]
    # 0.5 rounds to the even 0; 10 tokens are exactly 1.
    assert found == [(1, 5, 0), (2, 5, 1)]
    assert _posted(tenant) == _view(tenant).total.amount_nanos == 1


@pytest.mark.django_db
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrivals=st.lists(
        st.lists(
            st.tuples(st.integers(0, 4 * 3_600), st.integers(0, 9_999_999), st.integers(0, 9_999_999), st.booleans()),
            max_size=5,
        ),
        min_size=1,
        max_size=4,
    ),
    change=st.integers(1, 4 * 3_600),
)
def test_the_ledger_equals_the_live_view_in_whatever_portions_usage_arrives(
    redis_client: redis.Redis, arrivals: list[list[tuple[int, int, int, bool]]], change: int
) -> None:
    tenant = make_tenant(f"t-{uuid7().hex[:30]}")
    with transaction.atomic():
        if not PriceBook.objects.exists():
            _publish()
            _publish(NOON.replace(year=2027), [NewPrice(meter=Meter.PROMPT_TOKENS, nanos=7)])
        for portion in arrivals:
            _drain(
                redis_client,
                *(
                    make_record(
                        tenant,
                        at=NOON + timedelta(seconds=second),
                        prompt_tokens=prompt,
                        cached_tokens=prompt // 3,
                        completion_tokens=completion,
                        endpoint=OTHER if other else ENDPOINT,
                    )
                    for second, prompt, completion, other in portion
                ),
            )
            ledger_post(now=NOON + timedelta(seconds=change))
            ledger_post(now=LATER)
        view = _view(tenant)
        assert _posted(tenant) == view.total.amount_nanos
        assert view.total.amount_nanos == sum(line.amount_nanos for line in view.lines)
        for line in view.lines:
            mine = sum(entry.amount_nanos for entry in _entries(tenant) if entry.endpoint_id == line.endpoint_id)
            assert mine == line.amount_nanos


@pytest.mark.django_db
def test_each_event_is_priced_by_the_book_in_force_at_its_own_time(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = make_tenant()
    price = Meter.COMPLETION_TOKENS
    _publish(prices=[NewPrice(meter=price, nanos=1_000_000_000)])
    with _at(monkeypatch, NOON):
        _publish(NOON + 30 * MINUTE, [NewPrice(meter=price, nanos=3_000_000_000)])
    change = NOON + 30 * MINUTE
    _drain(redis_client, make_record(tenant, at=change - timedelta(microseconds=1)), make_record(tenant, at=change))
    ledger_post(now=LATER)
    assert [
        (entry.hour, entry.quantity, entry.amount_nanos)
        for entry in sorted(_entries(tenant), key=lambda e: e.amount_nanos)
    ] == [
        (NOON, 5, 5_000),
        (NOON, 5, 15_000),
    ]
    assert _view(tenant).total.amount_nanos == 20_000


@pytest.mark.django_db
def test_months_meet_without_losing_or_doubling_a_request(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    _publish()
    turn = datetime(2026, 11, 1, tzinfo=UTC)
    _drain(redis_client, make_record(tenant, at=turn - timedelta(microseconds=1)), make_record(tenant, at=turn))
    october = _view(tenant, datetime(2026, 10, 1, tzinfo=UTC), turn)
    november = _view(tenant, turn, datetime(2026, 12, 1, tzinfo=UTC))
    assert (october.total.requests, november.total.requests) == (1, 1)
    ledger_post(now=LATER)
    assert _posted(tenant) == october.total.amount_nanos + november.total.amount_nanos
    assert {entry.hour for entry in _entries(tenant)} == {turn - HOUR, turn}


@pytest.mark.django_db
def test_gpu_seconds_bill_ready_time_by_the_microsecond_and_no_tokens(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    _publish()
    _drain(redis_client, make_record(tenant, at=NOON, endpoint=OTHER, billing_mode="gpu_seconds"))
    _replica(tenant, "starting", NOON - HOUR, accelerators=8)
    _replica(tenant, "ready", NOON - 15 * MINUTE, accelerators=8)
    _replica(tenant, "stopping", NOON + 90 * MINUTE + timedelta(microseconds=1), accelerators=8)
    _replica(tenant, None, NOON + 3 * HOUR)
    view = _view(tenant)
    microseconds = 8 * (105 * 60 * 10**6 + 1)
    assert view.total.accelerator_microseconds == microseconds
    assert view.total.accelerator_seconds == 8 * 105 * 60
    assert (view.total.requests, view.total.completion_tokens) == (1, 5)
    assert view.total.amount_nanos == 28_000_000_000 + 4  # 14 hours at 2 EUR, and 8 µs
    ledger_post(now=LATER)
    assert _posted(tenant) == view.total.amount_nanos
    assert {entry.meter for entry in _entries(tenant)} == {"accelerator_seconds"}


@pytest.mark.django_db
def test_a_replica_that_runs_on_is_posted_hour_by_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = make_tenant()
    _publish()
    with _at(monkeypatch, NOON):
        _replica(tenant, "ready", NOON)
    assert ledger_post(now=NOON + 5 * HOUR + services.GRACE).entries == 5
    assert _posted(tenant) == 10_000_000_000
    assert ledger_post(now=NOON + 5 * HOUR + services.GRACE).entries == 0
    assert ledger_post(now=NOON + 6 * HOUR + services.GRACE).entries == 1


@pytest.mark.django_db
def test_an_end_that_is_noticed_late_takes_back_what_was_posted_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = make_tenant()
    _publish()
    with _at(monkeypatch, NOON):
        _replica(tenant, "ready", NOON)
    noticed = NOON + 5 * HOUR + 10 * MINUTE
    ledger_post(now=noticed)
    with _at(monkeypatch, noticed):
        _replica(tenant, None, NOON + 90 * MINUTE)
    ledger_post(now=LATER)
    assert _posted(tenant) == _view(tenant).total.amount_nanos == 3_000_000_000
    assert min(entry.amount_nanos for entry in _entries(tenant)) == -2_000_000_000


@pytest.mark.django_db
def test_usage_without_a_price_costs_nothing_and_is_not_lost(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    _drain(redis_client, make_record(tenant))
    assert ledger_post(now=LATER).entries == 0
    view = _view(tenant)
    assert (view.total.requests, view.total.amount_nanos, view.total.currency) == (1, 0, "EUR")


@pytest.mark.django_db
def test_the_period_is_widened_to_full_hours_and_says_so() -> None:
    view = _view(make_tenant(), NOON + MINUTE, NOON + HOUR + MINUTE)
    assert (view.start, view.end) == (NOON, NOON + 2 * HOUR)
    assert _view(make_tenant("b"), NOON, NOON + HOUR).end == NOON + HOUR


@pytest.mark.django_db
def test_one_endpoint_can_be_asked_for(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    _publish()
    _drain(redis_client, make_record(tenant), make_record(tenant, endpoint=OTHER))
    view = usage_and_cost(tenant_id=tenant.pk, start=NOON, end=NOON + HOUR, endpoint_id=OTHER)
    assert [line.endpoint_id for line in view.lines] == [OTHER]
    assert view.total.requests == 1


@pytest.mark.django_db
def test_no_tenant_sees_anothers_usage_or_ledger(redis_client: redis.Redis) -> None:
    mine, theirs = make_tenant("mine"), make_tenant("theirs")
    _publish()
    _drain(redis_client, make_record(theirs))
    ledger_post(now=LATER)
    assert (_view(mine).lines, balance(tenant_id=mine.pk), _entries(mine)) == ((), 0, [])
    assert len(_entries(theirs)) == 3
    assert LedgerEntry.objects.count() == 0


@pytest.mark.django_db
def test_the_ledger_is_append_only(redis_client: redis.Redis) -> None:
    tenant = make_tenant()
    _publish()
    _drain(redis_client, make_record(tenant))
    ledger_post(now=LATER)
    with tenant_scope(tenant.pk):
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            LedgerEntry.objects.update(amount_nanos=0)
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            LedgerEntry.objects.all().delete()


@pytest.mark.django_db
def test_an_hour_that_cannot_be_posted_does_not_hold_up_the_others(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, other = make_tenant(), make_tenant("other")
    _publish(prices=[NewPrice(meter=Meter.COMPLETION_TOKENS, nanos=2**63 - 1)])
    _drain(redis_client, make_record(tenant, completion_tokens=10**9), make_record(other, at=NOON + HOUR))
    report = ledger_post(now=LATER)
    assert (report.hours, report.left) == (1, 1)
    assert len(_entries(other)) == 1


@pytest.mark.usefixtures("committed_db")
def test_posting_while_usage_arrives_misses_and_doubles_nothing(redis_client: redis.Redis, redis_url: str) -> None:
    tenant = make_tenant()
    _publish()
    errors: list[BaseException] = []
    draining = threading.Event()

    def arrive() -> None:
        try:
            with redis.Redis.from_url(redis_url) as client:
                for number in range(60):
                    _drain(client, make_record(tenant, at=NOON + timedelta(seconds=number)))
        except BaseException as error:  # noqa: BLE001 - a thread's error must reach the test
            errors.append(error)
        finally:
            draining.set()
            connection.close()

    def post() -> None:
        try:
            while not draining.is_set():
                ledger_post(now=LATER)
        except BaseException as error:  # noqa: BLE001 - a thread's error must reach the test
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=arrive), *(threading.Thread(target=post) for _ in range(2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger_post(now=LATER)
    assert errors == []
    view = _view(tenant)
    assert view.total.requests == 60
    assert _posted(tenant) == view.total.amount_nanos
    with system_scope("test"):
        assert LedgerEntry.objects.filter(revision__gt=1).exists(), (
            "posting never met the drain: the test proves nothing"
        )


@pytest.mark.usefixtures("committed_db")
def test_usage_that_commits_while_its_hour_is_posted_is_posted_later(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = make_tenant()
    _publish()
    _drain(redis_client, make_record(tenant))
    marked, go_on = threading.Event(), threading.Event()
    advance = drain._advance

    def advance_slowly(marks: Mapping[tuple[str, str], int]) -> None:
        marked.set()
        assert go_on.wait(20)
        advance(marks)

    def work() -> None:
        try:
            _drain(redis_client, make_record(tenant))
        finally:
            connection.close()

    with monkeypatch.context() as patched:
        patched.setattr(drain, "_advance", advance_slowly)
        thread = threading.Thread(target=work)
        thread.start()
        assert marked.wait(20)
        report = ledger_post(now=LATER)
        go_on.set()
        thread.join()
    assert report.left == 1, "the drain holds the hour until it has committed"
    ledger_post(now=LATER)
    view = _view(tenant)
    assert view.total.requests == 2
    assert _posted(tenant) == view.total.amount_nanos
