"""Reads of billing: charges, usage with its cost, the balance."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from django.conf import settings
from django.db.models import Sum
from django.db.models.functions import Coalesce

from freehold.billing.choices import Meter
from freehold.billing.models import LedgerEntry, PriceBook
from freehold.billing.rating import HOUR, Rate, Rated, Segment, Tariff, rate, segments
from freehold.billing.records import FlavorPrice, UsageLine, UsageStatement
from freehold.common import clock
from freehold.db.rls import tenant_scope
from freehold.fleet.models import GpuFlavor
from freehold.metering.choices import BillingMode
from freehold.metering.records import UsageSum
from freehold.metering.selectors import replicas_running, usage_sums


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
    *, tenant_id: uuid.UUID, start: datetime, end: datetime, as_of: datetime, endpoint_id: uuid.UUID | None = None
) -> tuple[Rated, list[UsageSum]]:
    """Charges for the full UTC hours [start, end), and the usage they are made of. Needs a scope opened by the caller.

    The one function behind the live view and the ledger. A replica that is ready now has been so until `as_of`.
    """
    parts: list[Segment] = []
    for tariff, since, until in segments(tariffs(), start, end):
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


def balance(*, tenant_id: uuid.UUID) -> int:
    """Nanos the tenant has left: less than zero is owed. Nothing but charges is posted yet, so never more than zero."""
    with tenant_scope(tenant_id):
        charged = LedgerEntry.objects.filter(tenant_id=tenant_id).aggregate(sum=Coalesce(Sum("amount_nanos"), 0))["sum"]
    return -int(charged)


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
