"""How tenants pay, and the credits they were given: the operator's to write, for ever on record."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction

from freehold.audit.models import AuditEvent
from freehold.billing.choices import Meter
from freehold.billing.models import Account, CreditEntry
from freehold.billing.records import NewPrice
from freehold.billing.selectors import balance
from freehold.billing.services import LARGEST_NANOS, account_set, credit_grant, price_book_publish
from freehold.common.errors import InvalidInput, NotFound, PermissionDenied
from freehold.common.ids import uuid7
from freehold.db.rls import tenant_scope
from freehold.tenancy.actors import Actor
from freehold.tenancy.choices import ActorKind
from freehold.tenancy.models import Tenant
from tests.factories.tenants import actor_in, make_tenant

pytestmark = pytest.mark.django_db

OPERATOR = Actor(kind=ActorKind.USER, id="usr_1", label="op@example.org", operator=True)


def _grant(tenant: Tenant, nanos: int, reason: str = "paid in") -> CreditEntry:
    return credit_grant(actor=OPERATOR, tenant_id=tenant.pk, amount_nanos=nanos, reason=reason)


def test_a_credit_is_on_record_and_in_the_balance() -> None:
    tenant = make_tenant()
    entry = _grant(tenant, 250_000_000_000, " invoice 17 ")
    assert (entry.reason, entry.created_by, entry.currency) == ("invoice 17", "usr_1", "EUR")
    _grant(tenant, -50_000_000_000, "paid twice")
    assert balance(tenant_id=tenant.pk) == 200_000_000_000
    with tenant_scope(tenant.pk):
        events = list(AuditEvent.objects.filter(action="credit.grant").order_by("sequence"))
    assert [event.detail["amount_nanos"] for event in events] == [250_000_000_000, -50_000_000_000]
    assert events[0].object_id == entry.public_id


def test_an_account_says_how_a_tenant_pays() -> None:
    tenant = make_tenant()
    account_set(actor=OPERATOR, tenant_id=tenant.pk, prepaid=True, outage_credit_nanos=5)
    account = account_set(actor=OPERATOR, tenant_id=tenant.pk, prepaid=False)
    assert (account.prepaid, account.outage_credit_nanos) == (False, 0)
    account_set(actor=OPERATOR, tenant_id=tenant.pk, prepaid=False)
    with tenant_scope(tenant.pk):
        assert Account.objects.count() == 1
        details = [event.detail for event in AuditEvent.objects.filter(action="account.set").order_by("sequence")]
    assert details == [
        {"prepaid": True, "outage_credit_nanos": 5},
        {"prepaid": False, "outage_credit_nanos": 0},
    ]


def test_a_tenants_admin_gives_itself_nothing() -> None:
    tenant = make_tenant()
    with pytest.raises(PermissionDenied):
        credit_grant(actor=actor_in(tenant), tenant_id=tenant.pk, amount_nanos=1, reason="please")
    with pytest.raises(PermissionDenied):
        account_set(actor=actor_in(tenant), tenant_id=tenant.pk, prepaid=False)


@pytest.mark.parametrize(
    ("amount", "reason", "field"),
    [(0, "x", "amount_nanos"), (LARGEST_NANOS + 1, "x", "amount_nanos"), (1, " ", "reason")],
)
def test_a_credit_that_cannot_be_is_refused_by_name(amount: int, reason: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        _grant(make_tenant(), amount, reason)
    assert caught.value.field == field


def test_an_outage_credit_is_never_negative() -> None:
    with pytest.raises(InvalidInput) as caught:
        account_set(actor=OPERATOR, tenant_id=make_tenant().pk, prepaid=True, outage_credit_nanos=-1)
    assert caught.value.field == "outage_credit_nanos"


def test_a_tenant_that_is_not_there_is_missing() -> None:
    with pytest.raises(NotFound):
        account_set(actor=OPERATOR, tenant_id=uuid7(), prepaid=True)
    with pytest.raises(NotFound):
        credit_grant(actor=OPERATOR, tenant_id=uuid7(), amount_nanos=1, reason="x")


def test_credits_are_append_only_and_each_tenants_own() -> None:
    mine, theirs = make_tenant("mine"), make_tenant("theirs")
    _grant(theirs, 7)
    with tenant_scope(mine.pk):
        assert not CreditEntry.objects.exists()
    assert balance(tenant_id=mine.pk) == 0
    with tenant_scope(theirs.pk):
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            CreditEntry.objects.update(amount_nanos=8)
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            CreditEntry.objects.all().delete()


def test_the_first_credit_settles_the_currency_as_a_price_book_does() -> None:
    _grant(make_tenant(), 1)
    prices = [NewPrice(meter=Meter.PROMPT_TOKENS, nanos=1)]
    with pytest.raises(InvalidInput) as caught:
        price_book_publish(actor=OPERATOR, name="a", currency="USD", prices=prices)
    assert caught.value.field == "currency"
