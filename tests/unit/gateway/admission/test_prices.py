"""Worst cases and costs are never less than what the ledger will say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from freehold.gateway.admission import prices
from freehold.wire.records import PriceRecord, PriceStep
from freehold.wire.usage import UsageRecord

RECORD = UsageRecord(
    event_id="0" * 32, occurred_at_ns=1, tenant="t", key="k", endpoint="e", generation=1, model="acme/chat", route="/",
    region="r", weight_digest="", engine_digest="", outcome="ok",
)  # fmt: skip
CHEAP, DEAR = PriceStep(valid_from=10, prompt=1), PriceStep(valid_from=20, prompt=2)


def test_an_adapter_has_the_price_of_its_model_unless_it_has_its_own() -> None:
    own, base, other = (PriceRecord(steps=(PriceStep(valid_from=0, prompt=n),)) for n in (1, 2, 3))
    book = {"acme/chat:legal": own, "acme/chat": base, "": other}
    assert prices.find(book, "acme/chat:legal") is own
    assert prices.find(book, "acme/chat:sales") is base
    assert prices.find(book, "acme/embed") is other
    assert prices.find({}, "acme/embed") is None


def test_a_price_is_in_force_from_its_moment_on() -> None:
    record = PriceRecord(steps=(CHEAP, DEAR))
    assert prices.in_force(record, 9).price is None
    assert prices.in_force(record, 10) == (CHEAP, 10, 20)
    assert prices.in_force(record, 19).price == CHEAP
    assert prices.in_force(record, 20).price == DEAR
    assert prices.in_force(None, 20).price is None


def test_a_fraction_of_a_nano_is_a_nano() -> None:
    step = PriceStep(valid_from=0, prompt=1, completion=1)
    assert prices.cost(step, replace(RECORD, prompt_tokens=1)) == 1
    assert prices.cost(step, replace(RECORD, prompt_tokens=500_000, completion_tokens=500_000)) == 1
    assert prices.cost(step, replace(RECORD, prompt_tokens=500_000, completion_tokens=500_001)) == 2
    assert prices.completion_nanos(step) == 1


def test_cached_tokens_have_their_own_price() -> None:
    step = PriceStep(valid_from=0, prompt=4_000_000, cached=1_000_000)
    assert prices.cost(step, replace(RECORD, prompt_tokens=10, cached_tokens=6)) == 4 * 4 + 6
    assert prices.cost(replace(step, cached=None), replace(RECORD, prompt_tokens=10, cached_tokens=6)) == 40


@given(
    st.builds(
        PriceStep,
        valid_from=st.just(0),
        prompt=st.integers(0, 10**11),
        completion=st.integers(0, 10**11),
        cached=st.none() | st.integers(0, 10**11),
    ),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_no_cost_is_above_its_worst_case(
    step: PriceStep, prompt: int, completion: int, cached: float, used: float
) -> None:
    record = replace(
        RECORD,
        prompt_tokens=prompt,
        cached_tokens=int(prompt * cached),
        completion_tokens=int(completion * used),
    )
    cost = prices.cost(step, record)
    assert 0 <= cost <= prices.worst(step, prompt=prompt, completion=completion)
    granted = prices.worst(step, prompt=prompt, completion=0) + prices.completion_nanos(step) * completion
    assert cost <= granted
