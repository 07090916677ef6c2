"""What gateways reserve by is what rating charges by."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from freehold.billing.choices import Meter
from freehold.billing.price_records import price_records
from freehold.billing.rating import Rate, Segment, Tariff, rate
from freehold.metering.records import UsageSum
from freehold.wire.records import PriceRecord, PriceStep
from tests.factories.usage import nanoseconds

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PROMPT, CACHED, COMPLETION = Meter.PROMPT_TOKENS, Meter.CACHED_PROMPT_TOKENS, Meter.COMPLETION_TOKENS
NAMES = ["", "acme/chat", "acme/chat:tone", "acme/other"]


def tariff(valid_from: datetime, prices: dict[tuple[Meter, str], int], version: int = 1) -> Tariff:
    rates = tuple(
        Rate(price_id=uuid.uuid4(), meter=meter, nanos=nanos, model=name) for (meter, name), nanos in prices.items()
    )
    return Tariff(valid_from=valid_from, version=version, currency="EUR", rates=rates)


def find(records: dict[str, PriceRecord], name: str) -> PriceRecord:
    """As gateways find a price: docs/gateway.md."""
    return records.get(name) or records.get(name.partition(":")[0]) or records[""]


def test_every_step_from_the_one_in_force_on_is_told_oldest_first() -> None:
    books = [
        tariff(NOW - 2 * DAY, {(PROMPT, ""): 1}),
        tariff(NOW - DAY, {(PROMPT, ""): 2}, 2),
        tariff(NOW + 2 * DAY, {(PROMPT, ""): 5}, 4),
        tariff(NOW + DAY, {(PROMPT, ""): 3}, 3),
        tariff(NOW + 2 * DAY, {(PROMPT, ""): 4}, 5),
    ]
    steps = price_records(books, now=NOW)[""].steps
    assert [step.prompt for step in steps] == [2, 3, 4]
    assert steps[0].valid_from == nanoseconds(NOW - DAY)


def test_names_are_those_of_the_books_in_force_and_to_come() -> None:
    books = [
        tariff(NOW - 2 * DAY, {(PROMPT, "acme/gone"): 1}),
        tariff(NOW, {(PROMPT, "acme/chat"): 2, (Meter.ACCELERATOR_SECONDS, "never"): 9}, 2),
        tariff(NOW + DAY, {(COMPLETION, "acme/next"): 3}, 3),
    ]
    assert price_records(books, now=NOW).keys() == {"", "acme/chat", "acme/next"}


def test_before_the_first_book_begins_nothing_is_in_force() -> None:
    assert price_records([], now=NOW) == {"": PriceRecord(steps=())}
    (step,) = price_records([tariff(NOW + DAY, {(PROMPT, ""): 3})], now=NOW)[""].steps
    assert step == PriceStep(valid_from=nanoseconds(NOW + DAY), prompt=3)


def test_a_default_cached_price_never_reaches_a_model_with_a_prompt_price_of_its_own() -> None:
    books = [tariff(NOW, {(PROMPT, ""): 10, (CACHED, ""): 1, (PROMPT, "acme/chat"): 20})]
    records = price_records(books, now=NOW)
    assert (records[""].steps[0].cached, records["acme/chat"].steps[0].cached) == (1, None)


prices = st.dictionaries(
    st.tuples(st.sampled_from([PROMPT, CACHED, COMPLETION]), st.sampled_from(NAMES)), st.integers(0, 10**7), max_size=9
)


@given(first=prices, second=prices, name=st.sampled_from(NAMES[1:]), late=st.booleans())
def test_what_a_gateway_reckons_is_what_is_charged(
    first: dict[tuple[Meter, str], int], second: dict[tuple[Meter, str], int], name: str, late: bool
) -> None:
    """A million of each kind of token, so that nothing is rounded."""
    million = 1_000_000
    books = [tariff(NOW - DAY, first), tariff(NOW + DAY, second, 2)]
    steps = find(price_records(books, now=NOW), name).steps
    step = steps[1 if late else 0]
    used = UsageSum(
        tenant_id=uuid.uuid4(),
        endpoint_id=uuid.uuid4(),
        model=name,
        billing_mode="tokens",
        hour=NOW,
        requests=1,
        prompt_tokens=3 * million,
        cached_tokens=million,
        completion_tokens=million,
    )
    charged = rate([Segment(tariff=books[1 if late else 0], usage=[used])]).charges.values()
    cached = step.prompt if step.cached is None else step.cached
    assert 2 * step.prompt + cached + step.completion == sum(charge.amount_nanos for charge in charged)
