"""Writes of metering. All of them are system writes: workers call them, nobody's request does, so none takes an actor
and none is audited (a usage row *is* the record of what happened)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import redis
from django.db import connection
from django.db.models import F

from freehold.common import clock
from freehold.common.logging import get_logger
from freehold.db.rls import tenant_scope
from freehold.metering.choices import EXITED, ReplicaState
from freehold.metering.drain import Settled, acknowledge, entries_commit, settle
from freehold.metering.due import hours_mark
from freehold.metering.models import ReplicaInterval
from freehold.metering.records import DueHourKey
from freehold.wire import names

log = get_logger(__name__)

_HOUR = timedelta(hours=1)
_MONTHS_AHEAD = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class DrainReport:
    """What a drain did.

    Attributes:
        entries: stream entries that are done with.
        events: records committed as events.
        rejects: records or whole entries set aside in UsageReject.
        held: entries left in the stream above a gap, until the gateway has resent what is missing.
        busy: another drain was at work; what is left is its business.
    """

    entries: int = 0
    events: int = 0
    rejects: int = 0
    held: int = 0
    busy: bool = False


def usage_drain(
    *, client: redis.Redis, settled: Settled | None = None, chunk: int = 64, most: int = 4_096
) -> DrainReport:
    """Commits what gateways have reported, oldest first, and tells them how far it got.

    `settled` is called after each commit with the tenants that have new usage, and before gateways are told: it
    publishes their balances (billing lies above metering, hence the port). Without it they wait for a drain that has
    one.

    A transaction a `chunk` of stream entries; stops when about `most` of them are done. Those that wait above a gap do
    not count, or the gap of one gateway could keep the others', and its own resend, from being read. Passes over the
    stream again for as long as that fills gaps. Safe to run twice at once and to be killed at any point. Raises
    redis.RedisError, Django's database errors and what `settled` raises; running it again is all there is to do then.
    """
    report = DrainReport()
    while True:
        before = report
        report = _pass(client, settled, replace(report, held=0), chunk, most)
        moved = report.events + report.rejects > before.events + before.rejects
        if report.busy or not report.held or not moved or report.entries >= most:
            break
    if report.events or report.rejects or report.held:
        log.info("usage_drained", events=report.events, rejects=report.rejects, held=report.held)
    return report


def _pass(client: redis.Redis, settled: Settled | None, report: DrainReport, chunk: int, most: int) -> DrainReport:
    start = "-"
    while report.entries < most:
        entries: Any = client.xrange(names.USAGE, min=start, count=chunk)
        if not entries:
            break
        committed = entries_commit(entries)
        if committed is None:
            return replace(report, busy=True)
        if settled is not None:
            settle(committed, settled)
        acknowledge(client, committed)
        start = f"({entries[-1][0].decode()}"
        report = replace(
            report,
            entries=report.entries + len(entries) - len(committed.held),
            events=report.events + committed.events,
            rejects=report.rejects + committed.rejects,
            held=report.held + len(committed.held),
        )
    return report


def usage_partitions_ensure(*, today: date | None = None) -> int:
    """Makes the partitions of this month and the next two, where missing. Returns how many were made.

    The application's role may not create tables: a function of the owner's does it (SECURITY DEFINER).
    """
    first = (today or clock.now().date()).replace(day=1)
    made = 0
    for _ in range(_MONTHS_AHEAD + 1):
        with connection.cursor() as cursor:
            cursor.execute("SELECT freehold_usage_partition_ensure(%s)", [first])
            made += bool(cursor.fetchone()[0])
        first = (first + timedelta(days=32)).replace(day=1)
    return made


def replica_interval_record(
    *,
    tenant_id: uuid.UUID,
    endpoint_id: uuid.UUID,
    replica_id: str,
    generation: int,
    flavor: str,
    accelerators: int,
    billing_mode: str,
    state: str | None,
    at: datetime,
) -> None:
    """Notes that a replica is in `state` since `at`; None or `exited`: in none any more.

    Idempotent: the same state again changes nothing. Another state closes the open interval and begins the next at the
    same moment; intervals of one replica never overlap, also where `at` lies before the last one. Raises ValueError for
    a state that is none of ReplicaState.
    """
    wanted = None if state is None or state == EXITED else ReplicaState(state)
    with tenant_scope(tenant_id):
        _lock_replica(endpoint_id, replica_id)
        mine = ReplicaInterval.objects.filter(endpoint_id=endpoint_id, replica_id=replica_id)
        last = mine.order_by(F("ended_at").desc(nulls_first=True), "-started_at").first()
        still_open = last is not None and last.ended_at is None
        if last is not None:
            if still_open and last.state == wanted:
                return
            at = max(at, last.ended_at or last.started_at)
        if last is not None and still_open:
            last.ended_at = at
            last.save(update_fields=["ended_at"])
        if wanted is not None:
            ReplicaInterval.objects.create(
                tenant_id=tenant_id,
                endpoint_id=endpoint_id,
                replica_id=replica_id,
                generation=generation,
                billing_mode=billing_mode,
                flavor=flavor,
                accelerators=accelerators,
                state=wanted.value,
                started_at=at,
            )
        _mark_since(tenant_id, at)


def replica_intervals_open(*, tenant_id: uuid.UUID, endpoint_id: uuid.UUID) -> dict[str, str]:
    """Replica → state of every interval of an endpoint that has not ended."""
    with tenant_scope(tenant_id):
        rows = ReplicaInterval.objects.filter(endpoint_id=endpoint_id, ended_at=None)
        return dict(rows.values_list("replica_id", "state"))


def _lock_replica(endpoint_id: uuid.UUID, replica_id: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"replica:{endpoint_id}:{replica_id}"])


def _mark_since(tenant_id: uuid.UUID, at: datetime) -> None:
    """The hour of the change is due, and so is every later one that was already rated as if nothing had changed."""
    hour = at.replace(minute=0, second=0, microsecond=0)
    hours = [DueHourKey(tenant_id=tenant_id, hour=hour)]
    now = clock.now()
    while (hour := hour + _HOUR) <= now:
        hours.append(DueHourKey(tenant_id=tenant_id, hour=hour))
    hours_mark(hours)
