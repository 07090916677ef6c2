"""Billing's part of the data plane's snapshot: prices, accounts, prepaid balances and their epoch.

Called after commit by services (one tenant), by the drain (those with new usage), and by the periodic resync
(everything). After commit a failure is logged and the resync repairs it; the drain and the resync are told.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection

import redis

from freehold.billing.models import Account, SeenGateway
from freehold.billing.price_records import price_records
from freehold.billing.selectors import balances, prepaid_tenants, tariffs
from freehold.common import clock, ids
from freehold.common.logging import get_logger
from freehold.db.rls import system_scope, tenant_scope
from freehold.db.versions import next_version, versions_advance
from freehold.tenancy.models import Tenant
from freehold.wire import connection, names
from freehold.wire.balances import Balances, EpochState
from freehold.wire.publish import Publisher, VersionBehind
from freehold.wire.records import AccountRecord

log = get_logger(__name__)


def account_publish(*, tenant_id: uuid.UUID) -> None:
    """Publishes one tenant's balance, then how it pays: in this order, so that nobody reserves from no balance."""
    try:
        usage_settled({tenant_id})
        version = next_version()
        with tenant_scope(tenant_id):
            account = Account.objects.filter(tenant_id=tenant_id).first()
        record = None if account is None else _account_record(account)
        Publisher(connection.client()).put(names.Section.ACCOUNTS, _public(tenant_id), record, version=version)
    except redis.RedisError as error:
        log.warning("account_not_published", tenant=str(tenant_id), error=str(error))


def balance_publish(*, tenant_id: uuid.UUID) -> None:
    """Publishes the balance of one tenant, where it pays in advance."""
    try:
        usage_settled({tenant_id})
    except redis.RedisError as error:
        log.warning("balance_not_published", tenant=str(tenant_id), error=str(error))


def prices_publish() -> None:
    """Publishes the prices in force and to come."""
    try:
        _ahead(_prices_publish)
    except (redis.RedisError, VersionBehind) as error:
        log.warning("prices_not_published", error=str(error))


def usage_settled(tenant_ids: Collection[uuid.UUID]) -> None:
    """Publishes the balances of those among these tenants that pay in advance: the drain's port, called before gateways
    let go of what they hold. Raises redis.RedisError."""
    with system_scope("usage of every tenant is settled at once"):
        prepaid = prepaid_tenants(among=tenant_ids)
    _balances_publish(prepaid)


def publish_all() -> int:
    """Publishes every balance, account and price. Returns how many accounts and prices changed in Redis. Raises
    redis.RedisError, and VersionBehind where others are faster twice in a row."""
    _all_balances_publish()
    return _ahead(_accounts_publish) + _ahead(_prices_publish)


def epoch_ensure() -> bool:
    """Makes sure that balances have an epoch, and notes which gateways are to be waited for when it is lost. Returns
    whether it had to be made. Harmless twice at once. Raises redis.RedisError."""
    wire = Balances(connection.client())
    state = wire.epoch()
    if state.id:
        _gateways_note(wire, state)
        return False
    token = wire.draft()
    _all_balances_publish()
    expected = {*state.gateways, *SeenGateway.objects.values_list("gateway", flat=True)}
    if not wire.begin(token, expected=expected):
        return False
    log.warning("money_epoch_begun", epoch=token, expected=sorted(expected))
    return True


def _balances_publish(tenant_ids: Collection[uuid.UUID]) -> None:
    """A version that is behind is no harm where others were faster. But it may be one that PostgreSQL has drawn before
    (it was restored), so the next is drawn above what was seen; behind that one can only be who read later."""
    wire = Balances(connection.client())
    seen = _balances_put(wire, tenant_ids)
    if seen:
        versions_advance(seen)
        _balances_put(wire, tenant_ids)


def _balances_put(wire: Balances, tenant_ids: Collection[uuid.UUID]) -> int:
    if not tenant_ids:
        return 0
    version = next_version()
    with system_scope("balances are published for many tenants at once"):
        found = balances(tenant_ids=tenant_ids)
    return wire.put({_public(tenant_id): nanos for tenant_id, nanos in found.items()}, version=version)


def _all_balances_publish() -> None:
    with system_scope("resync of the data plane's balances"):
        prepaid = prepaid_tenants()
    _balances_publish(prepaid)


def _accounts_publish() -> int:
    version = next_version()
    with system_scope("resync of the data plane's accounts"):
        records = {_public(account.tenant_id): _account_record(account) for account in Account.objects.all()}
    return Publisher(connection.client()).replace(names.Section.ACCOUNTS, records, version=version)


def _prices_publish() -> int:
    version = next_version()
    records = price_records(tariffs(), now=clock.now())
    return Publisher(connection.client()).replace(names.Section.PRICES, records, version=version)


def _ahead(publish: Callable[[], int]) -> int:
    """Once more, above what is there, where versions have fallen behind."""
    try:
        return publish()
    except VersionBehind as behind:
        log.warning("versions_behind", seen=behind.seen)
        versions_advance(behind.seen)
        return publish()


def _gateways_note(wire: Balances, state: EpochState) -> None:
    """Keeps who would be waited for. One without a lease is kept while it holds money (it crashed, and its journal is
    not settled), and until the epoch is in force: it may not have come back yet."""
    known = set(SeenGateway.objects.values_list("gateway", flat=True))
    new = state.gateways - known
    if new:
        SeenGateway.objects.bulk_create([SeenGateway(gateway=name) for name in sorted(new)], ignore_conflicts=True)
    away = sorted(known - state.gateways)
    if away and state.open:
        gone = set(away) - wire.holding(away)
        SeenGateway.objects.filter(gateway__in=gone).delete()


def _account_record(account: Account) -> AccountRecord:
    return AccountRecord(prepaid=account.prepaid, outage_credit_nanos=account.outage_credit_nanos)


def _public(tenant_id: uuid.UUID) -> str:
    return ids.encode(Tenant.ID_PREFIX, tenant_id)
