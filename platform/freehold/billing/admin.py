"""Prices and the ledger in the operator's admin. Both are append-only: a change of price is the next book."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import ValidationError

from freehold.billing.choices import Meter
from freehold.billing.models import LedgerEntry, Price, PriceBook
from freehold.billing.records import NewPrice
from freehold.billing.selectors import price_book_in_force
from freehold.billing.services import price_book_publish
from freehold.common import clock
from freehold.db.admin import ReadOnlyAdmin
from freehold.tenancy.actors import Actor
from freehold.tenancy.admin import AuditedAdmin
from freehold.tenancy.permissions import Operation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.contrib.admin.options import InlineModelAdmin
    from django.http import HttpRequest

    _BookForm = forms.ModelForm[PriceBook]
    _PriceInline = admin.TabularInline[Price, PriceBook]
else:
    _BookForm = forms.ModelForm
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
