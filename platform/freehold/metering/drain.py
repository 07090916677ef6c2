"""Redis stream → PostgreSQL: each record exactly once, whatever is killed meanwhile.

The order is everything: records, the hours they make due and the watermark are committed in one transaction; then the
usage is taken off the tenants' published balances (settle); only then is the watermark told to the gateway, which lets
go of the money that it held for these requests, and only then are the entries deleted. So for a moment a request's
price is subtracted twice, and never not at all. A crash anywhere leaves entries in the stream that lie at or below the
watermark, and the tenants in a table: the next drain goes on from there. Called by services.usage_drain.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from django.db import DataError, IntegrityError, connection, transaction

from freehold.common.logging import get_logger
from freehold.db.rls import system_scope
from freehold.metering.due import hours_mark
from freehold.metering.intake import Batch, Journal, Numbered, Reject, Usage, parse, plan, read, refuse
from freehold.metering.models import GatewayWatermark, UnsettledTenant, UsageEvent, UsageReject
from freehold.metering.records import DueHourKey
from freehold.tenancy.models import Tenant
from freehold.wire import names

log = get_logger(__name__)

_LOCK = 0x4452414E  # "DRAN": one drain at a time
_BATCH = 500

Settled = Callable[[set[uuid.UUID]], None]  # takes committed usage off these tenants' published balances, or raises

# ARGV: triples field, watermark, whether the journal waits for a resend. Two drains may tell their watermarks in the
# wrong order, so only the higher one counts. Except above a gap: if this database has less than was told (it was
# restored), the gateway must know, or it would never send again. Told too low it only sends what is dropped.
_TELL = """
for i = 1, #ARGV, 3 do
  local old, new = tonumber(redis.call('HGET', KEYS[1], ARGV[i])), tonumber(ARGV[i + 1])
  if (not old and new > 0) or (old and (old < new or (ARGV[i + 2] == '1' and old > new))) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Committed:
    """What one transaction did. `done` entries may be deleted, `held` ones, of `waiting` journals, wait for a gap to be
    filled. `unsettled`: tenants whose usage is not yet taken off their published balance, whoever committed it."""

    events: int
    rejects: int
    marks: Mapping[Journal, int]
    done: tuple[bytes, ...]
    held: tuple[bytes, ...]
    waiting: frozenset[Journal]
    unsettled: Mapping[uuid.UUID, uuid.UUID]


def entries_commit(entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> Committed | None:
    """Commits what is new in these stream entries, in one transaction. None: another drain is at work."""
    parsed = [(entry, parse(entry, fields)) for entry, fields in entries]
    batches = [item for _, item in parsed if isinstance(item, Batch)]
    unreadable = [(entry, item) for entry, item in parsed if isinstance(item, Reject)]
    with system_scope("one stream carries the usage of every tenant"):
        if not _lock():
            return None
        todo = plan(batches, _watermarks({batch.journal for batch in batches}))
        usages, rejects = _sort_out(todo.records)
        refused = _insert(usages)
        rejects += [*refused, *todo.lost]
        _quarantine([*rejects, *(item for _, item in unreadable)])
        hours_mark(_hours(usages))
        unsettled = _unsettled({usage.tenant_id for usage in usages})
        _advance(todo.marks)
    for gap in todo.lost:
        log.error("usage_lost", gateway=gap.journal[0], epoch=gap.journal[1], reason=gap.reason)
    return Committed(
        events=len(usages) - len(refused),
        rejects=len(rejects) + len(unreadable),
        marks=todo.marks,
        done=(*todo.done, *(entry for entry, _ in unreadable)),
        held=todo.held,
        waiting=todo.waiting,
        unsettled=unsettled,
    )


def settle(committed: Committed, settled: Settled) -> None:
    """Has the balances of unsettled tenants published, then forgets these tenants. Whatever `settled` raises ends the
    drain before a watermark is told; the next one does it again."""
    if not committed.unsettled:
        return
    settled(set(committed.unsettled))
    with system_scope("one stream carries the usage of every tenant"), connection.cursor() as cursor:
        # Whoever commits more for a tenant meanwhile changes its stamp, or has the row: it stays.
        cursor.execute(
            "DELETE FROM metering_unsettledtenant WHERE tenant_id IN ("
            " SELECT row.tenant_id FROM metering_unsettledtenant AS row"
            " JOIN unnest(%s::uuid[], %s::uuid[]) AS done (tenant_id, stamp) USING (tenant_id, stamp)"
            " FOR UPDATE OF row SKIP LOCKED)",
            [list(committed.unsettled), list(committed.unsettled.values())],
        )


def acknowledge(client: redis.Redis, committed: Committed) -> None:
    """Tells gateways what is committed, then deletes the entries, in that order. Raises redis.RedisError."""
    arguments: list[str | int] = []
    for journal, sequence in committed.marks.items():
        arguments += ["/".join(journal), sequence, int(journal in committed.waiting)]
    if arguments:
        client.register_script(_TELL)(keys=[names.WATERMARKS], args=arguments)
    if committed.done:
        client.xdel(names.USAGE, *committed.done)


def _lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        return bool(cursor.fetchone()[0])


def _watermarks(journals: set[Journal]) -> dict[Journal, int]:
    gateways = {gateway for gateway, _ in journals}
    rows = GatewayWatermark.objects.filter(gateway__in=gateways)
    return {(row.gateway, row.epoch): row.sequence for row in rows if (row.gateway, row.epoch) in journals}


def _sort_out(records: Iterable[Numbered]) -> tuple[list[Usage], list[Reject]]:
    usages: list[Usage] = []
    rejects: list[Reject] = []
    for item in map(read, records):
        if isinstance(item, Usage):
            usages.append(item)
        else:
            rejects.append(item)
    known = set(Tenant.objects.filter(pk__in={usage.tenant_id for usage in usages}).values_list("pk", flat=True))
    rejects += [
        refuse(usage.source, f"there is no tenant {usage.record.tenant}")
        for usage in usages
        if usage.tenant_id not in known
    ]
    return [usage for usage in usages if usage.tenant_id in known], rejects


def _insert(usages: Sequence[Usage]) -> list[Reject]:
    """Inserts events; what PostgreSQL refuses by itself comes back. An event that is there already changes nothing."""
    try:
        with transaction.atomic():
            UsageEvent.objects.bulk_create(map(_event, usages), batch_size=_BATCH, ignore_conflicts=True)
    except (DataError, IntegrityError) as error:
        if len(usages) == 1:
            return [refuse(usages[0].source, str(error))]
        return [reject for usage in usages for reject in _insert([usage])]
    return []


def _event(usage: Usage) -> UsageEvent:
    record = usage.record
    return UsageEvent(
        event_id=usage.event_id,
        tenant_id=usage.tenant_id,
        occurred_at=usage.occurred_at,
        api_key_id=record.key,
        endpoint_id=usage.endpoint_id,
        generation=record.generation,
        billing_mode=record.billing_mode,
        model=record.model,
        route=record.route,
        region=record.region,
        weight_digest=record.weight_digest,
        engine_digest=record.engine_digest,
        outcome=record.outcome,
        replica=record.replica,
        adapter=record.adapter,
        prompt_tokens=record.prompt_tokens,
        cached_tokens=record.cached_tokens,
        completion_tokens=record.completion_tokens,
        reasoning_tokens=record.reasoning_tokens,
        choice_tokens=list(record.choice_tokens) or None,
        estimated=record.estimated,
        first_token_ms=record.first_token_ms,
        duration_ms=record.duration_ms,
    )


def _quarantine(rejects: Iterable[Reject]) -> None:
    rows: list[Any] = [
        UsageReject(
            gateway=reject.journal[0],
            epoch=reject.journal[1],
            sequence=reject.sequence,
            reason=reject.reason,
            raw=reject.raw,
            digest=reject.digest,
        )
        for reject in rejects
    ]
    UsageReject.objects.bulk_create(rows, batch_size=_BATCH, ignore_conflicts=True)


def _hours(usages: Iterable[Usage]) -> set[DueHourKey]:
    return {
        DueHourKey(tenant_id=usage.tenant_id, hour=usage.occurred_at.replace(minute=0, second=0, microsecond=0))
        for usage in usages
    }


def _unsettled(tenants: Iterable[uuid.UUID]) -> dict[uuid.UUID, uuid.UUID]:
    """Adds these to the unsettled tenants. Returns all of them with their stamps, those of killed drains included."""
    UnsettledTenant.objects.bulk_create(
        [UnsettledTenant(tenant_id=tenant_id, stamp=uuid.uuid4()) for tenant_id in sorted(tenants)],
        update_conflicts=True,
        unique_fields=["tenant"],
        update_fields=["stamp"],
    )
    return dict(UnsettledTenant.objects.values_list("tenant_id", "stamp"))


def _advance(marks: Mapping[Journal, int]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO metering_gatewaywatermark (gateway, epoch, sequence, updated_at) VALUES (%s, %s, %s, now())"
            " ON CONFLICT (gateway, epoch) DO UPDATE SET sequence = excluded.sequence, updated_at = excluded.updated_at"
            " WHERE metering_gatewaywatermark.sequence < excluded.sequence",
            [(gateway, epoch, sequence) for (gateway, epoch), sequence in marks.items() if sequence > 0],
        )
