"""Usage × prices → charges: pure, integers only, the one place where an amount is made.

The live view and the ledger both get their amounts from `rate`, so they cannot differ. Quantities of one (tenant,
endpoint, meter, price, hour) are added up first and rounded once.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from freehold.billing.choices import Meter
from freehold.common.money import SECONDS_PER_PRICE, TOKENS_PER_PRICE, round_ratio
from freehold.metering.choices import BillingMode
from freehold.metering.records import Running, UsageSum

HOUR = timedelta(hours=1)
MICROSECONDS = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """A price as rating needs it."""

    price_id: uuid.UUID
    meter: Meter
    nanos: int
    model: str = ""
    flavor: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tariff:
    """A price book: everything from `valid_from` until the next one is priced by it."""

    valid_from: datetime
    version: int
    currency: str
    rates: tuple[Rate, ...]
    _found: dict[tuple[Meter, str, str], Rate] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_found", {(rate.meter, rate.model, rate.flavor): rate for rate in self.rates})

    def find(self, meter: Meter, *, model: str = "", flavor: str = "") -> Rate | None:
        """The price of exactly this model and flavor."""
        return self._found.get((meter, model, flavor))


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRates:
    """Prices of one model's tokens. None: without a price; `cached`: as other prompt tokens."""

    prompt: Rate | None
    cached: Rate | None
    completion: Rate | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A time in which one tariff is in force (None: none yet), and what was used in it."""

    tariff: Tariff | None
    usage: Sequence[UsageSum] = ()
    running: Sequence[Running] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ChargeKey:
    """What a ledger entry covers."""

    tenant_id: uuid.UUID
    endpoint_id: uuid.UUID
    meter: Meter
    price_id: uuid.UUID
    hour: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Charge:
    """What one key comes to. `quantity` is tokens, or accelerator-microseconds."""

    quantity: int
    amount_nanos: int
    currency: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rated:
    """All charges, and how many tokens and accelerator-microseconds no price was found for."""

    charges: Mapping[ChargeKey, Charge]
    unpriced: int


def segments(
    tariffs: Iterable[Tariff], start: datetime, end: datetime
) -> list[tuple[Tariff | None, datetime, datetime]]:
    """[start, end) cut where tariffs change. Of two valid from the same moment the higher version is in force."""
    current: Tariff | None = None
    changes: dict[datetime, Tariff] = {}
    for tariff in sorted(tariffs, key=lambda tariff: (tariff.valid_from, tariff.version)):
        if tariff.valid_from <= start:
            current = tariff
        elif tariff.valid_from < end:
            changes[tariff.valid_from] = tariff
    found = []
    for moment, tariff in changes.items():
        found.append((current, start, moment))
        current, start = tariff, moment
    if start < end:
        found.append((current, start, end))
    return found


def rate(parts: Iterable[Segment]) -> Rated:
    """Charges for everything used in these segments."""
    quantities: dict[ChargeKey, int] = defaultdict(int)
    prices: dict[uuid.UUID, tuple[Rate, str]] = {}
    unpriced = 0
    for part in parts:
        for tenant_id, endpoint_id, hour, quantity, meter, found in _measured(part):
            if found is None or part.tariff is None:
                unpriced += quantity
                continue
            prices[found.price_id] = (found, part.tariff.currency)
            key = ChargeKey(
                tenant_id=tenant_id, endpoint_id=endpoint_id, meter=meter, price_id=found.price_id, hour=hour
            )
            quantities[key] += quantity
    charges = {}
    for key, quantity in quantities.items():
        found, currency = prices[key.price_id]
        charges[key] = Charge(
            quantity=quantity, amount_nanos=amount(found.meter, quantity, found.nanos), currency=currency
        )
    return Rated(charges=charges, unpriced=unpriced)


def amount(meter: Meter, quantity: int, nanos: int) -> int:
    """Nanos for a quantity, rounded once to a nano."""
    if meter is Meter.ACCELERATOR_SECONDS:
        return round_ratio(quantity * nanos, SECONDS_PER_PRICE * MICROSECONDS)
    return round_ratio(quantity * nanos, TOKENS_PER_PRICE)


_Measure = tuple[uuid.UUID, uuid.UUID, datetime, int, Meter, Rate | None]


def _measured(part: Segment) -> Iterator[_Measure]:
    for used in part.usage:
        if used.billing_mode != BillingMode.TOKENS:
            continue
        for quantity, meter, found in _tokens(part.tariff, used):
            if quantity:
                yield used.tenant_id, used.endpoint_id, used.hour, quantity, meter, found
    for running in part.running:
        if running.billing_mode != BillingMode.GPU_SECONDS:
            continue
        meter = Meter.ACCELERATOR_SECONDS
        found = None
        if part.tariff is not None:
            found = part.tariff.find(meter, flavor=running.flavor) or part.tariff.find(meter)
        for hour, microseconds in by_hour(running.started_at, running.ended_at):
            yield running.tenant_id, running.endpoint_id, hour, microseconds * running.accelerators, meter, found


def token_rates(tariff: Tariff | None, model: str) -> TokenRates:
    """What a model's tokens cost by a tariff.

    Cached tokens are a part of the prompt. They have a price of their own where the book sets one for this model as
    specifically as, or more than, the prompt's; else they are prompt tokens like others.
    """
    prompt = cached = completion = None
    if tariff is not None:
        for name in _names(model):
            completion = completion or tariff.find(Meter.COMPLETION_TOKENS, model=name)
            if prompt is None:
                cached = cached or tariff.find(Meter.CACHED_PROMPT_TOKENS, model=name)
                prompt = tariff.find(Meter.PROMPT_TOKENS, model=name)
    return TokenRates(prompt=prompt, cached=cached, completion=completion)


def _tokens(tariff: Tariff | None, used: UsageSum) -> list[tuple[int, Meter, Rate | None]]:
    found = token_rates(tariff, used.model)
    output = (used.completion_tokens, Meter.COMPLETION_TOKENS, found.completion)
    if found.cached is None:
        return [(used.prompt_tokens, Meter.PROMPT_TOKENS, found.prompt), output]
    return [
        (used.prompt_tokens - used.cached_tokens, Meter.PROMPT_TOKENS, found.prompt),
        (used.cached_tokens, Meter.CACHED_PROMPT_TOKENS, found.cached),
        output,
    ]


def _names(model: str) -> list[str]:
    """Most specific first: `tenant/endpoint:adapter`, its base `tenant/endpoint`, the default."""
    base, colon, _ = model.rpartition(":")
    return [model, base, ""] if colon and base else [model, ""]


def by_hour(start: datetime, end: datetime) -> Iterator[tuple[datetime, int]]:
    """[start, end) cut at full hours: (hour, microseconds in it). Exact, in integers."""
    while start < end:
        hour = start.replace(minute=0, second=0, microsecond=0)
        until = min(end, hour + HOUR)
        yield hour, (until - start) // timedelta(microseconds=1)
        start = until
