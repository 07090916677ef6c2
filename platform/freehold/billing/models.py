"""Tables of billing. Price books are the operator's and everybody's to read; the ledger is each tenant's own."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from freehold.billing.choices import Meter
from freehold.db.models import BaseModel, TenantOwned

_METERS = [(meter.value, meter.value) for meter in Meter]


class PriceBook(BaseModel):
    """All prices from `valid_from` until the next book. Never changed: a change of price is the next version."""

    ID_PREFIX = "pbk"

    name = models.TextField()
    currency = models.CharField(max_length=3)
    valid_from = models.DateTimeField()
    version = models.PositiveIntegerField(unique=True)

    class Meta:
        indexes = [models.Index(fields=["valid_from", "version"], name="price_book_in_force")]

    def __str__(self) -> str:
        return f"{self.name} v{self.version} ({self.currency})"


class Price(BaseModel):
    """One price of a book: `nanos` for a million tokens, or for an hour of one accelerator.

    `model` is a public model name and applies to token meters; `flavor` applies to accelerator seconds. Empty is the
    default for what no other price of the book names.
    """

    ID_PREFIX = "prc"

    book = models.ForeignKey(PriceBook, on_delete=models.PROTECT, related_name="prices")
    meter = models.TextField(choices=_METERS)
    model = models.TextField(blank=True, default="")
    flavor = models.TextField(blank=True, default="")
    nanos = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["book", "meter", "model", "flavor"], name="price_once"),
            models.CheckConstraint(condition=Q(nanos__gte=0), name="price_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.meter} {self.model or self.flavor or 'default'}: {self.nanos}"


class LedgerEntry(TenantOwned):
    """What one hour of one meter costs at one price; a charge is positive.

    Append-only. `quantity` is tokens, or accelerator-microseconds. Usage that arrives after the hour was posted becomes
    a further revision: its amount is the rounded total less what is posted, so that the sum of all revisions is the
    total rounded once.
    """

    ID_PREFIX = "led"

    endpoint_id = models.UUIDField()
    meter = models.TextField(choices=_METERS)
    price = models.ForeignKey(Price, on_delete=models.PROTECT, related_name="+")
    hour = models.DateTimeField()
    revision = models.PositiveIntegerField()
    quantity = models.BigIntegerField()
    amount_nanos = models.BigIntegerField()
    currency = models.CharField(max_length=3)

    class Meta:
        indexes = [models.Index(fields=["tenant", "hour"], name="ledger_entry_tenant")]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "endpoint_id", "meter", "price", "hour", "revision"], name="ledger_entry_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.meter} {self.hour:%Y-%m-%d %H}h r{self.revision}: {self.amount_nanos}"


class Account(TenantOwned):
    """How a tenant pays. One without an account pays by invoice, and nothing is reserved from its balance.

    Attributes:
        prepaid: requests are reserved from the balance (wire/balances.py); nothing is served beyond it.
        outage_credit_nanos: what all gateways together may serve it for while the balance cannot be asked.
    """

    ID_PREFIX = "acc"

    prepaid = models.BooleanField(default=False)
    outage_credit_nanos = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant"], name="account_once"),
            models.CheckConstraint(condition=Q(outage_credit_nanos__gte=0), name="account_credit_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant_id} {'prepaid' if self.prepaid else 'by invoice'}"


class CreditEntry(TenantOwned):
    """Money that a tenant was given: paid in, granted, or (negative) taken back. Append-only."""

    ID_PREFIX = "crd"

    amount_nanos = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    reason = models.TextField()
    created_by = models.TextField()

    class Meta:
        verbose_name_plural = "credit entries"
        constraints = [
            models.CheckConstraint(condition=~Q(amount_nanos=0), name="credit_entry_not_nothing"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_nanos}: {self.reason}"


class PostedBalance(models.Model):
    """Credits less charges of a tenant, as far as they are posted: a running total of both append-only tables.

    Triggers on these keep it, in the transaction that posts (migration 0004), so that a balance costs the same after
    years as on the first day.
    """

    tenant = models.OneToOneField(
        "tenancy.Tenant", on_delete=models.PROTECT, primary_key=True, related_name="+", editable=False
    )
    nanos = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.tenant_id}: {self.nanos}"


class SeenGateway(models.Model):
    """A gateway that had a lease or held money when last looked at: who is waited for where Redis has lost that."""

    gateway = models.TextField(primary_key=True)
    seen_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.gateway
