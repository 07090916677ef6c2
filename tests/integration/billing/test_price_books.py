"""Price books: the operator publishes, nobody changes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from freehold.audit.models import AuditEvent
from freehold.billing.choices import Meter
from freehold.billing.models import Price, PriceBook
from freehold.billing.records import NewPrice
from freehold.billing.selectors import price_book_in_force
from freehold.billing.services import price_book_publish
from freehold.common import clock
from freehold.common.errors import InvalidInput, PermissionDenied
from freehold.common.ids import uuid7
from freehold.db.rls import system_scope
from freehold.tenancy.actors import Actor, system
from freehold.tenancy.choices import ActorKind, Role

pytestmark = pytest.mark.django_db

PRICES = [
    NewPrice(meter=Meter.PROMPT_TOKENS, nanos=200_000_000),
    NewPrice(meter=Meter.ACCELERATOR_SECONDS, nanos=2, flavor="cpu"),
]
OPERATOR = Actor(kind=ActorKind.USER, id="usr_1", label="op@example.org", operator=True)


def test_the_operator_publishes_a_book_and_it_is_on_record() -> None:
    book = price_book_publish(actor=OPERATOR, name="2026", currency="EUR", prices=PRICES)
    assert book.version == 1
    assert sorted(book.prices.values_list("meter", flat=True)) == ["accelerator_seconds", "prompt_tokens"]
    with system_scope("test"):
        event = AuditEvent.objects.get(action="price_book.publish")
    assert (event.object_id, event.actor_label) == (book.public_id, "op@example.org")


def test_a_tenants_admin_cannot() -> None:
    admin = Actor(kind=ActorKind.USER, id="usr_2", label="a@example.org", tenant_id=uuid7(), role=Role.ADMIN)
    with pytest.raises(PermissionDenied):
        price_book_publish(actor=admin, name="mine", currency="EUR", prices=PRICES)
    assert PriceBook.objects.count() == 0


def test_the_newest_of_the_books_that_have_begun_is_in_force() -> None:
    now = clock.now()
    first = price_book_publish(actor=OPERATOR, name="a", currency="EUR", prices=PRICES)
    later = price_book_publish(
        actor=OPERATOR, name="b", currency="EUR", prices=PRICES, valid_from=now + timedelta(days=9)
    )
    better = price_book_publish(actor=OPERATOR, name="c", currency="EUR", prices=PRICES, valid_from=later.valid_from)
    assert price_book_in_force(at=now - timedelta(days=1)) is None
    assert price_book_in_force(at=clock.now()) == first
    assert price_book_in_force(at=later.valid_from) == better


def test_the_past_is_not_repriced_but_a_first_book_may_cover_it() -> None:
    yesterday = clock.now() - timedelta(days=1)
    price_book_publish(actor=OPERATOR, name="a", currency="EUR", prices=PRICES, valid_from=yesterday)
    with pytest.raises(InvalidInput, match="past") as caught:
        price_book_publish(actor=OPERATOR, name="b", currency="EUR", prices=PRICES, valid_from=yesterday)
    assert caught.value.field == "valid_from"


def test_an_installation_keeps_its_currency() -> None:
    price_book_publish(actor=OPERATOR, name="a", currency="EUR", prices=PRICES)
    with pytest.raises(InvalidInput, match="EUR"):
        price_book_publish(actor=OPERATOR, name="b", currency="USD", prices=PRICES)


@pytest.mark.parametrize(
    ("name", "currency", "prices"),
    [
        (" ", "EUR", PRICES),
        ("a", "eur", PRICES),
        ("a", "EURO", PRICES),
        ("a", "EUR", [*PRICES, *PRICES]),
        ("a", "EUR", [NewPrice(meter=Meter.PROMPT_TOKENS, nanos=-1)]),
        ("a", "EUR", [NewPrice(meter=Meter.PROMPT_TOKENS, nanos=1, flavor="cpu")]),
        ("a", "EUR", [NewPrice(meter=Meter.ACCELERATOR_SECONDS, nanos=1, model="acme/chat")]),
    ],
)
def test_a_book_that_cannot_be_is_refused_whole(name: str, currency: str, prices: list[NewPrice]) -> None:
    with pytest.raises(InvalidInput):
        price_book_publish(actor=system("test"), name=name, currency=currency, prices=prices)
    assert PriceBook.objects.count() == 0


def test_a_published_price_cannot_be_changed_or_removed() -> None:
    price_book_publish(actor=OPERATOR, name="a", currency="EUR", prices=PRICES)
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        Price.objects.update(nanos=1)
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        PriceBook.objects.update(valid_from=clock.now())
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        Price.objects.all().delete()
