"""Price books → what gateways reserve by: pure. The prices are rating's own (rating.token_rates); gateways find a name
as rating does: the exact one, the one before its colon, the default."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from freehold.billing.choices import Meter
from freehold.billing.rating import Rate, Tariff, segments, token_rates
from freehold.wire.records import PriceRecord, PriceStep

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END = datetime.max.replace(tzinfo=UTC)
_DEFAULT = ""


def price_records(tariffs: Iterable[Tariff], *, now: datetime) -> dict[str, PriceRecord]:
    """A record for every public model name that the book in force or one to come names, and for all others ("").

    A name that none of them names costs in each of them what the next less specific one costs, so it needs none.
    """
    books = [tariff for tariff, _, _ in segments(tariffs, now, _END) if tariff is not None]
    names = {rate.model for book in books for rate in book.rates if rate.meter is not Meter.ACCELERATOR_SECONDS} | {
        _DEFAULT
    }
    return {name: PriceRecord(steps=tuple(_step(book, name) for book in books)) for name in names}


def _step(book: Tariff, name: str) -> PriceStep:
    found = token_rates(book, name)
    return PriceStep(
        valid_from=(book.valid_from - _EPOCH) // timedelta(microseconds=1) * 1_000,
        prompt=_nanos(found.prompt),
        completion=_nanos(found.completion),
        cached=None if found.cached is None else found.cached.nanos,
    )


def _nanos(rate: Rate | None) -> int:
    return 0 if rate is None else rate.nanos
