"""Reads of billing: charges, usage with its cost, balances."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from django.conf import settings
from django.db import connection

from freehold.billing.choices import Meter
from freehold.billing.models import Account, PriceBook
from freehold.billing.rating import HOUR, Rate, Rated, Segment, Tariff, rate, segments
from freehold.billing.records import FlavorPrice, UsageLine, UsageStatement
from freehold.common import clock
from freehold.db.rls import tenant_scope
from freehold.fleet.models import GpuFlavor
from freehold.metering.choices import BillingMode
from freehold.metering.due import hours_due_of
from freehold.metering.records import DueHourKey, UsageSum
from freehold.metering.selectors import hours_running, hours_usage, replicas_running, usage_sums


def tariffs() -> list[Tariff]:
    """Every price book, oldest first. There are few, and none ever changes."""
    return [
        Tariff(
            valid_from=book.valid_from,
            version=book.version,
            currency=book.currency,
            rates=tuple(
                Rate(price_id=row.pk, meter=Meter(row.meter), nanos=row.nanos, model=row.model, flavor=row.flavor)
                for row in book.prices.all()
            ),
        )
        for book in PriceBook.objects.prefetch_related("prices").order_by("valid_from", "version")
    ]


def price_book_in_force(*, at: datetime) -> PriceBook | None:
    """The book that prices what happens at `at`."""
    return PriceBook.objects.filter(valid_from__lte=at).order_by("-valid_from", "-version").first()


def flavor_prices(*, flavors: Iterable[str], at: datetime) -> dict[str, FlavorPrice]:
    """What an accelerator-hour of each flavor costs where endpoints are paid for by gpu_seconds; those without a price
    are left out."""
    book = price_book_in_force(at=at)
    if book is None:
        return {}
    nanos = dict(book.prices.filter(meter=Meter.ACCELERATOR_SECONDS.value, model="").values_list("flavor", "nanos"))
    found = {flavor: nanos.get(flavor, nanos.get("")) for flavor in flavors}
    return {
        flavor: FlavorPrice(nanos=price, currency=book.currency) for flavor, price in found.items() if price is not None
    }


def prices_that_matter(*, mode: BillingMode, at: datetime) -> dict[str, int]:
    """Flavor → nanos of an accelerator-hour, where the customer pays by it (for placement); tokens cost the same on any
    flavor."""
    if mode is not BillingMode.GPU_SECONDS:
        return {}
    names = GpuFlavor.objects.filter(enabled=True).values_list("name", flat=True)
    return {name: price.nanos for name, price in flavor_prices(flavors=names, at=at).items()}


def hours_rate(
    *,
    tenant_id: uuid.UUID,
    start: datetime,
    end: datetime,
    as_of: datetime,
    endpoint_id: uuid.UUID | None = None,
    books: Sequence[Tariff] | None = None,
) -> tuple[Rated, list[UsageSum]]:
    """Charges for the full UTC hours [start, end), and the usage they are made of. Needs a scope opened by the caller.

    The one function behind the live view, the ledger and balances. A replica that is ready now has been so until
    `as_of`. `books`: all tariffs, where the caller has them.
    """
    parts: list[Segment] = []
    for tariff, since, until in segments(tariffs() if books is None else books, start, end):
        parts.append(
            Segment(
                tariff=tariff,
                usage=usage_sums(tenant_id=tenant_id, start=since, end=until, endpoint_id=endpoint_id),
                running=replicas_running(
                    tenant_id=tenant_id, start=since, end=until, as_of=as_of, endpoint_id=endpoint_id
                ),
            )
        )
    return rate(parts), [used for part in parts for used in part.usage]


def usage_and_cost(
    *,
    tenant_id: uuid.UUID,
    start: datetime,
    end: datetime,
    endpoint_id: uuid.UUID | None = None,
    now: datetime | None = None,
) -> UsageStatement:
    """What a tenant used and what it costs so far, by endpoint. Opens the tenant's scope itself.

    A ledger entry is an hour, so the period is widened to full UTC hours; the statement says to which.
    """
    start = start.replace(minute=0, second=0, microsecond=0)
    full = end.replace(minute=0, second=0, microsecond=0)
    end = full if full == end else full + HOUR
    with tenant_scope(tenant_id):
        rated, usage = hours_rate(
            tenant_id=tenant_id, start=start, end=end, as_of=now or clock.now(), endpoint_id=endpoint_id
        )
        currency = book_currency()
    used: dict[uuid.UUID, list[UsageSum]] = defaultdict(list)
    for row in usage:
        used[row.endpoint_id].append(row)
    endpoints = sorted(used.keys() | {key.endpoint_id for key in rated.charges})
    lines = tuple(_line(endpoint, used[endpoint], rated, currency) for endpoint in endpoints)
    return UsageStatement(start=start, end=end, lines=lines, total=_total(lines, currency))


def balance(*, tenant_id: uuid.UUID, now: datetime | None = None) -> int:
    """Nanos that a tenant has left: credits less charges, those of this moment included. Less than zero is owed."""
    with tenant_scope(tenant_id):
        return balances(tenant_ids=[tenant_id], now=now)[tenant_id]


def balances(*, tenant_ids: Collection[uuid.UUID], now: datetime | None = None) -> dict[uuid.UUID, int]:
    """Nanos that each of these tenants has left. Needs a scope opened by the caller.

    What is posted is one number a tenant. What is not is in hours that wait to be posted, this one among them: they are
    rated as the ledger will rate them, and what the ledger has of them already is left out. Hours are read first and
    the ledger last, in one statement with the posted number: whoever posts in between changes nothing, and all that was
    committed before the call is in.
    """
    moment = now or clock.now()
    left, running = _unposted(tenant_ids, moment)
    rated = _rated(left, running, moment)
    return {tenant_id: posted - rated[tenant_id] for tenant_id, posted in _posted(tenant_ids, left).items()}


def prepaid_tenants(*, among: Collection[uuid.UUID] | None = None) -> list[uuid.UUID]:
    """Tenants that pay in advance; of `among`, or all that the caller's scope shows."""
    accounts = Account.objects.filter(prepaid=True)
    if among is not None:
        accounts = accounts.filter(tenant_id__in=among)
    return list(accounts.order_by("tenant_id").values_list("tenant_id", flat=True))


def _unposted(tenant_ids: Collection[uuid.UUID], now: datetime) -> tuple[list[DueHourKey], set[uuid.UUID]]:
    """Hours whose ledger may not be complete, and the tenants for whom a billed replica ran in them.

    A replica that runs on makes its next hour due only when this one is posted: the hours from there until now count
    too.
    """
    due = hours_due_of(tenant_ids=tenant_ids)
    since: dict[uuid.UUID, datetime] = {}
    for key in due:
        since.setdefault(key.tenant_id, key.hour)
    running = hours_running(since=since, end=now)
    hours = sorted({*due, *running}, key=lambda key: (key.tenant_id, key.hour))
    return hours, {key.tenant_id for key in running}


def _rated(hours: Sequence[DueHourKey], running: set[uuid.UUID], as_of: datetime) -> Mapping[uuid.UUID, int]:
    """Tenant → nanos of these hours, as hours_rate has them; asked in one query where there are only tokens at one
    price."""
    total: dict[uuid.UUID, int] = defaultdict(int)
    if not hours:
        return total
    books = tariffs()
    in_force = {hour: segments(books, hour, hour + HOUR) for hour in {key.hour for key in hours}}
    singly = [key for key in hours if key.tenant_id in running or len(in_force[key.hour]) > 1]
    for tenant_id, start, end in _ranges(singly):
        found, _ = hours_rate(tenant_id=tenant_id, start=start, end=end, as_of=as_of, books=books)
        total[tenant_id] += sum(charge.amount_nanos for charge in found.charges.values())
    used: dict[datetime, list[UsageSum]] = defaultdict(list)
    for row in hours_usage(hours=set(hours).difference(singly)):
        used[row.hour].append(row)
    rated = rate(Segment(tariff=in_force[hour][0][0], usage=usage) for hour, usage in used.items())
    for charged, charge in rated.charges.items():
        total[charged.tenant_id] += charge.amount_nanos
    return total


def _ranges(hours: Iterable[DueHourKey]) -> Iterator[tuple[uuid.UUID, datetime, datetime]]:
    """Sorted hours → (tenant, start, end) of those without a gap between them."""
    last: tuple[uuid.UUID, datetime, datetime] | None = None
    for key in hours:
        if last is not None and (key.tenant_id, key.hour) == (last[0], last[2]):
            last = (*last[:2], key.hour + HOUR)
            continue
        if last is not None:
            yield last
        last = (key.tenant_id, key.hour, key.hour + HOUR)
    if last is not None:
        yield last


# Parameters: tenants, then tenants and hours whose entries are not to count.
_POSTED = """
    SELECT asked.tenant_id, coalesce(total.nanos, 0) + coalesce((
        SELECT sum(entry.amount_nanos) FROM billing_ledgerentry AS entry
        JOIN unnest(%s::uuid[], %s::timestamptz[]) AS hours (tenant_id, hour) USING (tenant_id, hour)
        WHERE entry.tenant_id = asked.tenant_id
    ), 0)
    FROM unnest(%s::uuid[]) AS asked (tenant_id)
    LEFT JOIN billing_postedbalance AS total ON total.tenant_id = asked.tenant_id
"""


def _posted(tenant_ids: Collection[uuid.UUID], without: Sequence[DueHourKey]) -> dict[uuid.UUID, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            _POSTED, [[key.tenant_id for key in without], [key.hour for key in without], list(set(tenant_ids))]
        )
        return {tenant_id: int(nanos) for tenant_id, nanos in cursor.fetchall()}


def _line(endpoint_id: uuid.UUID, usage: Sequence[UsageSum], rated: Rated, currency: str) -> UsageLine:
    mine = [(key, charge) for key, charge in rated.charges.items() if key.endpoint_id == endpoint_id]
    return UsageLine(
        endpoint_id=endpoint_id,
        models=tuple(sorted({used.model for used in usage})),
        requests=sum(used.requests for used in usage),
        prompt_tokens=sum(used.prompt_tokens for used in usage),
        cached_tokens=sum(used.cached_tokens for used in usage),
        completion_tokens=sum(used.completion_tokens for used in usage),
        accelerator_microseconds=sum(charge.quantity for key, charge in mine if key.meter is Meter.ACCELERATOR_SECONDS),
        amount_nanos=sum(charge.amount_nanos for _, charge in mine),
        currency=currency,
    )


def _total(lines: Iterable[UsageLine], currency: str) -> UsageLine:
    lines = list(lines)
    return UsageLine(
        endpoint_id=None,
        models=tuple(sorted({model for line in lines for model in line.models})),
        requests=sum(line.requests for line in lines),
        prompt_tokens=sum(line.prompt_tokens for line in lines),
        cached_tokens=sum(line.cached_tokens for line in lines),
        completion_tokens=sum(line.completion_tokens for line in lines),
        accelerator_microseconds=sum(line.accelerator_microseconds for line in lines),
        amount_nanos=sum(line.amount_nanos for line in lines),
        currency=currency,
    )


def book_currency() -> str:
    """An installation has one currency: the first book's, for ever (services.price_book_publish)."""
    book = PriceBook.objects.order_by("version").first()
    return str(settings.CURRENCY) if book is None else book.currency
