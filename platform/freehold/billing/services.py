"""Writes of billing: price books, accounts and credits by the operator, the ledger by a worker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial

from django.db import DatabaseError, connection, transaction
from django.db.models import Max, Sum

from freehold.billing import publication
from freehold.billing.choices import Meter
from freehold.billing.models import Account, CreditEntry, LedgerEntry, Price, PriceBook, SeenGateway
from freehold.billing.rating import HOUR, Charge, ChargeKey, Rated
from freehold.billing.records import NewPrice, PostReport
from freehold.billing.selectors import book_currency, hours_rate
from freehold.common import clock
from freehold.common.errors import Conflict, InvalidInput, NotFound
from freehold.common.logging import get_logger
from freehold.db.rls import system_scope, tenant_scope
from freehold.metering.due import hour_take, hours_due, hours_mark
from freehold.metering.records import DueHourKey
from freehold.metering.selectors import hours_used, replicas_run_on
from freehold.tenancy.actors import Actor
from freehold.tenancy.models import Tenant
from freehold.tenancy.permissions import Operation, require
from freehold.tenancy.services import audit_record
from freehold.wire import connection as wire
from freehold.wire.balances import Balances, LeaseAlive, Released

log = get_logger(__name__)

LARGEST_NANOS = 10**18  # of one credit: a billion of the currency
GRACE = timedelta(minutes=5)  # how long an hour waits for stragglers before it is posted
_LOCK = 0x50524943  # "PRIC": one price book at a time
_HOURS_A_RUN = 10_000


def price_book_publish(
    *, actor: Actor, name: str, currency: str, prices: Sequence[NewPrice], valid_from: datetime | None = None
) -> PriceBook:
    """Publishes the next price book; it prices everything from `valid_from` (None: now) on, for all tenants.

    A book replaces the one before it as a whole and is never changed. `name` is for people. Raises InvalidInput for
    prices that cannot be, for another currency than the installation's, and for a past `valid_from`: what has happened
    is not repriced. The very first book may begin in the past: the hours that it covers, which were posted without a
    price, become due again.
    """
    require(actor, Operation.PRICE_MANAGE, tenant_id=None)
    _check(name, currency, prices)
    with system_scope("price books belong to the operator; their audit trail is the platform's"):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        now = clock.now()
        newest = PriceBook.objects.order_by("-version").first()
        spoken = newest or CreditEntry.objects.first()
        if spoken is not None and spoken.currency != currency:
            raise InvalidInput(
                f"Prices and credits here are in {spoken.currency}; one installation has one currency.",
                field="currency",
            )
        if newest is not None and valid_from is not None and valid_from < now:
            raise InvalidInput(
                "A price book cannot begin in the past. Leave valid_from out to begin now.", field="valid_from"
            )
        book = PriceBook.objects.create(
            name=name.strip(),
            currency=currency,
            valid_from=valid_from or now,
            version=1 if newest is None else newest.version + 1,
        )
        Price.objects.bulk_create(
            Price(book=book, meter=price.meter.value, model=price.model, flavor=price.flavor, nanos=price.nanos)
            for price in prices
        )
        if book.valid_from < now:
            hours_mark(hours_used(start=book.valid_from, end=now))
        audit_record(
            actor=actor,
            tenant_id=None,
            action="price_book.publish",
            object_id=book.public_id,
            detail={"name": book.name, "version": book.version, "valid_from": book.valid_from.isoformat()},
        )
        transaction.on_commit(publication.prices_publish)
    return book


def account_set(*, actor: Actor, tenant_id: uuid.UUID, prepaid: bool, outage_credit_nanos: int = 0) -> Account:
    """Says how a tenant pays from now on: in advance, or by invoice (`prepaid` false).

    `outage_credit_nanos`: what all gateways together may serve it for while its balance cannot be asked; so much may be
    owed where the balance is used up meanwhile. Raises InvalidInput naming the field, NotFound.
    """
    require(actor, Operation.ACCOUNT_MANAGE, tenant_id=None)
    if not 0 <= outage_credit_nanos <= LARGEST_NANOS:
        raise InvalidInput(
            f"The outage credit is a whole number of nanos from 0 to {LARGEST_NANOS}.", field="outage_credit_nanos"
        )
    with tenant_scope(tenant_id):
        _tenant_check(tenant_id)
        account, made = Account.objects.select_for_update().get_or_create(tenant_id=tenant_id)
        before = (made, account.prepaid, account.outage_credit_nanos)
        account.prepaid, account.outage_credit_nanos = prepaid, outage_credit_nanos
        if before != (False, prepaid, outage_credit_nanos):
            account.save(update_fields=["prepaid", "outage_credit_nanos"])
            audit_record(
                actor=actor,
                tenant_id=tenant_id,
                action="account.set",
                object_id=account.public_id,
                detail={"prepaid": prepaid, "outage_credit_nanos": outage_credit_nanos},
            )
        transaction.on_commit(partial(publication.account_publish, tenant_id=tenant_id))
    return account


def credit_grant(*, actor: Actor, tenant_id: uuid.UUID, amount_nanos: int, reason: str) -> CreditEntry:
    """Adds to a tenant's balance; a negative amount takes back what was granted by mistake. Never changed afterwards.

    `reason` is for people: what was paid, and how. Raises InvalidInput naming the field, NotFound.
    """
    require(actor, Operation.ACCOUNT_MANAGE, tenant_id=None)
    if amount_nanos == 0 or abs(amount_nanos) > LARGEST_NANOS:
        raise InvalidInput(f"A credit is a number of nanos up to {LARGEST_NANOS}, and not 0.", field="amount_nanos")
    if not reason.strip():
        raise InvalidInput("Give a reason: it stays beside the amount for ever.", field="reason")
    with tenant_scope(tenant_id):
        _tenant_check(tenant_id)
        entry = CreditEntry.objects.create(
            tenant_id=tenant_id,
            amount_nanos=amount_nanos,
            currency=book_currency(),
            reason=reason.strip(),
            created_by=actor.id,
        )
        audit_record(
            actor=actor,
            tenant_id=tenant_id,
            action="credit.grant",
            object_id=entry.public_id,
            detail={"amount_nanos": amount_nanos, "currency": entry.currency, "reason": entry.reason},
        )
        transaction.on_commit(partial(publication.balance_publish, tenant_id=tenant_id))
    return entry


def gateway_forget(*, actor: Actor, gateway: str) -> Released:
    """Releases the money and requests in flight that a gateway holds which is gone for good, its journal with it.

    What it had relayed and not shipped is never billed: replay its journal instead wherever there is one
    (docs/gateway.md). Raises Conflict where the gateway is alive, redis.RedisError.
    """
    require(actor, Operation.ACCOUNT_MANAGE, tenant_id=None)
    with system_scope("gateways are the operator's; their audit trail is the platform's"):
        try:
            released = Balances(wire.client()).forget(gateway)
        except LeaseAlive:
            raise Conflict(
                f"The gateway {gateway!r} is alive and gives back what it holds by itself. Stop it first; its lease "
                "ends 15 seconds later."
            ) from None
        SeenGateway.objects.filter(gateway=gateway).delete()
        audit_record(
            actor=actor,
            tenant_id=None,
            action="gateway.forget",
            object_id=gateway,
            detail={"money": dict(released.money), "requests": dict(released.requests)},
        )
    return released


def _tenant_check(tenant_id: uuid.UUID) -> None:
    if not Tenant.objects.filter(pk=tenant_id).exists():
        raise NotFound("There is no such tenant.")


def ledger_post(*, now: datetime | None = None) -> PostReport:
    """Posts every due hour that ended at least GRACE ago, each in a transaction of its own.

    Run by a beat task; running it twice, twice at once, or again after a kill posts nothing twice. An hour that cannot
    be posted is logged and tried again by the next run; the others go on.
    """
    moment = now or clock.now()
    hours = entries = 0
    left: set[DueHourKey] = set()
    while hours + len(left) < _HOURS_A_RUN:
        with system_scope("the ledger is posted for every tenant"):
            due = [key for key in hours_due(before=moment - HOUR - GRACE, limit=500 + len(left)) if key not in left]
        if not due:
            break
        for key in due:
            try:
                posted = _hour_post(key, moment)
            except DatabaseError as error:
                log.error("hour_not_posted", tenant=str(key.tenant_id), hour=key.hour.isoformat(), error=str(error))
                posted = None
            if posted is None:
                left.add(key)
            else:
                hours, entries = hours + 1, entries + posted
    if hours or left:
        log.info("ledger_posted", hours=hours, entries=entries, left=len(left))
    return PostReport(hours=hours, entries=entries, left=len(left))


def _hour_post(key: DueHourKey, now: datetime) -> int | None:
    """Brings the ledger of one tenant's hour up to date. Returns how many entries that took, None if it is not ours."""
    end = key.hour + HOUR
    with system_scope("the ledger is posted for every tenant"):
        if not hour_take(tenant_id=key.tenant_id, hour=key.hour):
            return None
        rated, _ = hours_rate(tenant_id=key.tenant_id, start=key.hour, end=end, as_of=now)
        entries = list(_revisions(key, rated))
        if replicas_run_on(tenant_id=key.tenant_id, at=end):
            hours_mark([DueHourKey(tenant_id=key.tenant_id, hour=end)])
        # Last, because it locks the tenant's running total (PostedBalance): nobody waits for an hour who has that.
        LedgerEntry.objects.bulk_create(entries)
    if rated.unpriced:
        log.warning(
            "usage_without_price", tenant=str(key.tenant_id), hour=key.hour.isoformat(), quantity=rated.unpriced
        )
    return len(entries)


def _revisions(due: DueHourKey, rated: Rated) -> Iterator[LedgerEntry]:
    """The entries that make what is posted equal to what is rated."""
    posted = {
        ChargeKey(
            tenant_id=due.tenant_id,
            endpoint_id=row["endpoint_id"],
            meter=Meter(row["meter"]),
            price_id=row["price_id"],
            hour=due.hour,
        ): row
        for row in LedgerEntry.objects.filter(tenant_id=due.tenant_id, hour=due.hour)
        .values("endpoint_id", "meter", "price_id", "currency")
        .annotate(last=Max("revision"), quantity=Sum("quantity"), amount=Sum("amount_nanos"))
        .order_by()
    }
    for key in sorted(posted.keys() | rated.charges.keys(), key=lambda key: (key.endpoint_id, key.meter, key.price_id)):
        before = posted.get(key)
        if before is None:
            charge = rated.charges[key]
            yield _entry(key, charge, revision=1)
            continue
        # What was posted and is not rated any more (an interval that turned out shorter) is taken back.
        charge = rated.charges.get(key, Charge(quantity=0, amount_nanos=0, currency=before["currency"]))
        change = Charge(
            quantity=charge.quantity - int(before["quantity"]),
            amount_nanos=charge.amount_nanos - int(before["amount"]),
            currency=charge.currency,
        )
        if change.quantity or change.amount_nanos:
            yield _entry(key, change, revision=before["last"] + 1)


def _entry(key: ChargeKey, charge: Charge, *, revision: int) -> LedgerEntry:
    return LedgerEntry(
        tenant_id=key.tenant_id,
        endpoint_id=key.endpoint_id,
        meter=key.meter.value,
        price_id=key.price_id,
        hour=key.hour,
        revision=revision,
        quantity=charge.quantity,
        amount_nanos=charge.amount_nanos,
        currency=charge.currency,
    )


def _check(name: str, currency: str, prices: Sequence[NewPrice]) -> None:
    if not name.strip():
        raise InvalidInput("Give the price book a name.", field="name")
    if len(currency) != 3 or not currency.isascii() or not currency.isupper():
        raise InvalidInput("The currency is three capital letters, such as EUR (ISO 4217).", field="currency")
    seen: set[tuple[Meter, str, str]] = set()
    for price in prices:
        matcher = (price.meter, price.model, price.flavor)
        if matcher in seen:
            raise InvalidInput(
                f"There are two prices for {price.meter.value} {price.model or price.flavor}.", field="prices"
            )
        seen.add(matcher)
        if price.nanos < 0:
            raise InvalidInput("A price cannot be negative.", field="prices")
        if price.flavor if price.meter is not Meter.ACCELERATOR_SECONDS else price.model:
            raise InvalidInput("Tokens are priced by model, accelerator seconds by flavor.", field="prices")
