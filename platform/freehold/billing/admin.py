"""Prices, accounts, credits and the ledger in the operator's admin. All but accounts are append-only: a change of price
is the next book, a correction of a credit another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import ValidationError

from freehold.billing.choices import Meter
from freehold.billing.models import Account, CreditEntry, LedgerEntry, Price, PriceBook
from freehold.billing.records import NewPrice
from freehold.billing.selectors import price_book_in_force
from freehold.billing.services import LARGEST_NANOS, account_set, credit_grant, price_book_publish
from freehold.common import clock
from freehold.common.money import NANOS, format_nanos
from freehold.db.admin import ReadOnlyAdmin
from freehold.tenancy.actors import Actor
from freehold.tenancy.admin import AuditedAdmin, operator_of
from freehold.tenancy.permissions import Operation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from django.contrib.admin.options import InlineModelAdmin
    from django.http import HttpRequest

    _BookForm = forms.ModelForm[PriceBook]
    _AccountForm = forms.ModelForm[Account]
    _CreditForm = forms.ModelForm[CreditEntry]
    _PriceInline = admin.TabularInline[Price, PriceBook]
else:
    _BookForm = _AccountForm = _CreditForm = forms.ModelForm
    _PriceInline = admin.TabularInline

_DEFAULT = "*"


class PriceBookForm(_BookForm):
    """The next book, its prices as text: all of them at once, because a book replaces the one before it as a whole."""

    valid_from = forms.DateTimeField(required=False, help_text="UTC; empty: from now on")
    prices = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 12, "cols": 90}),
        help_text=(
            "One price a line: meter, model or flavor (* for all others), nanos. Tokens are priced by the million, "
            f"accelerator seconds by the accelerator hour. Meters: {', '.join(meter.value for meter in Meter)}."
        ),
    )

    class Meta:
        model = PriceBook
        fields = ("name", "currency", "valid_from")

    def clean_prices(self) -> list[NewPrice]:
        """Raises ValidationError with the number of the line."""
        lines = str(self.cleaned_data["prices"]).splitlines()
        return [_price(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


class PriceInline(_PriceInline):
    """The prices of a book that is there."""

    model = Price
    extra = 0
    can_delete = False
    fields = ("meter", "model", "flavor", "nanos")
    ordering = ("meter", "model", "flavor")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False


@admin.register(PriceBook)
class PriceBookAdmin(AuditedAdmin):
    operation = Operation.PRICE_MANAGE
    noun = "price_book"
    list_display = ("version", "name", "currency", "valid_from", "created_at")
    search_fields = ("name",)
    ordering = ("-version",)
    form = PriceBookForm

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Prices as text on the way in, as a table afterwards."""
        return (
            ("name", "currency", "valid_from", "prices")
            if obj is None
            else ("version", "name", "currency", "valid_from")
        )

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[type[InlineModelAdmin[Any, Any]]]:
        """Only of a book that is there."""
        return [] if obj is None else [PriceInline]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """The prices in force, to be edited."""
        book = price_book_in_force(at=clock.now())
        if book is None:
            return {"currency": settings.CURRENCY}
        rows = book.prices.order_by("meter", "model", "flavor")
        return {"name": book.name, "currency": book.currency, "prices": _text(rows)}

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:
        """Carries the parsed prices to `create`."""
        book = super().save_form(request, form, change)
        book.new_prices = form.cleaned_data["prices"]
        return book

    def create(self, actor: Actor, obj: Any) -> PriceBook:
        """Through the service."""
        return price_book_publish(
            actor=actor, name=obj.name, currency=obj.currency, prices=obj.new_prices, valid_from=obj.valid_from
        )

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False


class AmountField(forms.DecimalField):
    """An amount in the currency's major unit, as people write it, to the nano; cleaned to nanos."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_digits=19, decimal_places=9, **options)

    def clean(self, value: Any) -> int | None:
        """Exact: a decimal is shifted, never rounded."""
        amount: Decimal | None = super().clean(value)
        return None if amount is None else int(amount.scaleb(9))


class AccountForm(_AccountForm):
    """How a tenant pays."""

    outage_credit = AmountField(
        min_value=0,
        initial=0,
        help_text=(
            "What all gateways together may serve the tenant for while its balance cannot be asked, in the currency of "
            "the price book. Each gateway has an equal share; 0: they answer 503 meanwhile."
        ),
    )

    class Meta:
        model = Account
        fields = ("tenant", "prepaid")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["outage_credit"] = format_nanos(self.instance.outage_credit_nanos, "").strip()


@admin.register(Account)
class AccountAdmin(AuditedAdmin):
    operation = Operation.ACCOUNT_MANAGE
    noun = "account"
    form = AccountForm
    fixed = ("tenant",)
    fields = ("tenant", "prepaid", "outage_credit")
    list_display = ("tenant", "prepaid", "outage_credit_nanos", "created_at")
    list_filter = ("prepaid",)
    list_select_related = ("tenant",)
    search_fields = ("tenant__slug",)
    ordering = ("tenant__slug",)

    def save_model(self, request: HttpRequest, obj: Account, form: forms.ModelForm[Account], change: bool) -> None:
        """Through the service. Raises FreeholdError, which changeform_view shows."""
        made = account_set(
            actor=operator_of(request),
            tenant_id=obj.tenant_id,
            prepaid=obj.prepaid,
            outage_credit_nanos=form.cleaned_data["outage_credit"],
        )
        obj.pk, obj._state.adding = made.pk, False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: a tenant that is not prepaid pays by invoice."""
        return False


class CreditForm(_CreditForm):
    """A credit, as an amount with decimals."""

    amount = AmountField(
        help_text="In the currency of the price book, such as 250.00; below zero takes back.",
        min_value=-LARGEST_NANOS // NANOS,
        max_value=LARGEST_NANOS // NANOS,
    )

    class Meta:
        model = CreditEntry
        fields = ("tenant", "reason")


@admin.register(CreditEntry)
class CreditEntryAdmin(AuditedAdmin):
    operation = Operation.ACCOUNT_MANAGE
    noun = "credit"
    form = CreditForm
    list_display = ("created_at", "tenant", "amount", "reason", "created_by")
    list_select_related = ("tenant",)
    search_fields = ("tenant__slug", "reason", "created_by")
    ordering = ("-id",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """An amount on the way in, and what became of it afterwards."""
        if obj is None:
            return ("tenant", "amount", "reason")
        return ("tenant", "amount_nanos", "currency", "reason", "created_by", "created_at")

    @admin.display(description="amount", ordering="amount_nanos")
    def amount(self, obj: CreditEntry) -> str:
        """With its currency."""
        return format_nanos(obj.amount_nanos, obj.currency)

    def save_model(
        self, request: HttpRequest, obj: CreditEntry, form: forms.ModelForm[CreditEntry], change: bool
    ) -> None:
        """Through the service. Raises FreeholdError, which changeform_view shows."""
        made = credit_grant(
            actor=operator_of(request),
            tenant_id=obj.tenant_id,
            amount_nanos=form.cleaned_data["amount"],
            reason=obj.reason,
        )
        obj.pk, obj._state.adding = made.pk, False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: add another with the opposite amount."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    list_display = ("hour", "tenant", "meter", "quantity", "amount_nanos", "currency", "revision", "created_at")
    list_filter = ("meter", "currency", "hour")
    list_select_related = ("tenant",)
    search_fields = ("tenant__slug", "endpoint_id")
    ordering = ("-hour", "-id")


def _price(number: int, line: str) -> NewPrice:
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != 3:
        raise ValidationError(f"Line {number}: write meter, model or flavor, nanos.")
    word, matcher, nanos = parts
    try:
        meter = Meter(word)
    except ValueError:
        raise ValidationError(f"Line {number}: there is no meter {word!r}.") from None
    if not nanos.isascii() or not nanos.isdigit() or len(nanos) > 18:
        raise ValidationError(f"Line {number}: nanos are a whole number, such as 1500000000 for 1.50.")
    name = "" if matcher == _DEFAULT else matcher
    if meter is Meter.ACCELERATOR_SECONDS:
        return NewPrice(meter=meter, nanos=int(nanos), flavor=name)
    return NewPrice(meter=meter, nanos=int(nanos), model=name)


def _text(prices: Iterable[Price]) -> str:
    return "\n".join(f"{price.meter}, {price.model or price.flavor or _DEFAULT}, {price.nanos}" for price in prices)
