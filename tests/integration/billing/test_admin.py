"""Accounts, credits and a tenant's limits in the operator's admin: through the services, in amounts people write."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from freehold.billing.models import Account, CreditEntry
from freehold.billing.selectors import balance
from freehold.db.rls import system_scope
from freehold.tenancy.models import Tenant
from freehold.tenancy.services import operator_create
from freehold.wire.records import Limits
from tests.factories.tenants import SYSTEM, make_tenant


def page(model: type[Model], view: str, *arguments: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{view}", args=arguments)


@pytest.fixture
def operator(db: None) -> Client:
    """A browser in which an operator has signed in."""
    user = operator_create(actor=SYSTEM, email="op@example.com", password="correct horse battery")
    client = Client()
    client.force_login(user)
    return client


def account() -> Account:
    with system_scope("a test reads what the admin made"):
        return Account.objects.get()


def test_a_tenant_is_made_prepaid_with_an_outage_credit(operator: Client) -> None:
    tenant = make_tenant()
    form = {"tenant": tenant.pk, "prepaid": "on", "outage_credit": "12.50"}
    assert operator.post(page(Account, "add"), form).status_code == 302
    assert (account().prepaid, account().outage_credit_nanos) == (True, 12_500_000_000)
    shown = operator.get(page(Account, "change", account().pk)).content.decode()
    assert 'value="12.50"' in shown
    assert operator.post(page(Account, "change", account().pk), {"outage_credit": "0"}).status_code == 302
    assert (account().prepaid, account().outage_credit_nanos) == (False, 0)
    assert account().tenant_id == tenant.pk
    again = operator.post(page(Account, "add"), form)
    assert "already" in again.content.decode()
    assert operator.post(page(Account, "delete", account().pk), {"post": "yes"}).status_code == 403


def test_a_credit_is_added_to_the_nano_and_never_changed(operator: Client) -> None:
    tenant = make_tenant()
    form = {"tenant": tenant.pk, "amount": "250.000000001", "reason": "invoice 17"}
    assert operator.post(page(CreditEntry, "add"), form).status_code == 302
    assert operator.post(page(CreditEntry, "add"), {**form, "amount": "-50"}).status_code == 302
    assert balance(tenant_id=tenant.pk) == 200_000_000_001
    with system_scope("a test reads what the admin made"):
        entry = CreditEntry.objects.get(amount_nanos__gt=0)
    assert entry.created_by.startswith("usr_")
    assert "250.000000001 EUR" in operator.get(page(CreditEntry, "changelist")).content.decode()
    assert operator.get(page(CreditEntry, "change", entry.pk)).status_code == 200
    assert operator.post(page(CreditEntry, "change", entry.pk), form).status_code == 403
    assert operator.post(page(CreditEntry, "delete", entry.pk), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("amount", ["", "much", "0.0000000001", "1000000001"])
def test_an_amount_that_cannot_be_is_refused_on_the_page(operator: Client, amount: str) -> None:
    form = {"tenant": make_tenant().pk, "amount": amount, "reason": "x"}
    assert operator.post(page(CreditEntry, "add"), form).status_code == 200
    with system_scope("a test reads what the admin did not make"):
        assert not CreditEntry.objects.exists()


def test_nothing_is_no_credit(operator: Client) -> None:
    answer = operator.post(
        page(CreditEntry, "add"), {"tenant": make_tenant().pk, "amount": "0", "reason": "x"}, follow=True
    )
    assert "not 0" in answer.content.decode()


def test_a_tenants_limits_are_set_and_taken_away(operator: Client) -> None:
    form = {"slug": "acme", "name": "Acme", "regions_allowed": "", "concurrency": "8"}
    assert operator.post(page(Tenant, "add"), form).status_code == 302
    with system_scope("a test reads what the admin made"):
        tenant = Tenant.objects.get()
    assert tenant.limits == Limits(concurrency=8)
    operator.post(page(Tenant, "change", tenant.pk), {"regions_allowed": "", "requests_per_minute": "60"})
    with system_scope("a test reads what the admin changed"):
        tenant.refresh_from_db()
    assert tenant.limits == Limits(requests_per_minute=60)
    assert operator.post(page(Tenant, "change", tenant.pk), {"requests_per_minute": "0"}).status_code == 200
    with system_scope("a test reads what the admin did not change"):
        tenant.refresh_from_db()
    assert tenant.limits == Limits(requests_per_minute=60)
