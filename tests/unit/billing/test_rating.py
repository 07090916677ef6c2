"""Usage × prices, without a database: exact, in integers, rounded once."""

from __future__ import annotations

import ast
import inspect
import uuid
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.billing import rating, records, selectors, services
from freehold.billing.choices import Meter
from freehold.billing.rating import HOUR, Rate, Segment, Tariff, amount, by_hour, rate, segments
from freehold.metering.records import Running, UsageSum

TENANT, ENDPOINT = uuid.uuid4(), uuid.uuid4()
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - st.datetimes wants them naive
tokens = st.integers(0, 10**9)


def _rate(meter: Meter, nanos: int, *, model: str = "", flavor: str = "") -> Rate:
    return Rate(price_id=uuid.uuid4(), meter=meter, nanos=nanos, model=model, flavor=flavor)


def _tariff(*rates: Rate, valid_from: datetime = NOON, version: int = 1) -> Tariff:
    return Tariff(valid_from=valid_from, version=version, currency="EUR", rates=rates)


def _used(
    model: str = "acme/chat", *, prompt: int = 0, cached: int = 0, completion: int = 0, mode: str = "tokens"
) -> UsageSum:
    return UsageSum(
        tenant_id=TENANT,
        endpoint_id=ENDPOINT,
        model=model,
        billing_mode=mode,
        hour=NOON,
        requests=1,
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
    )


def _quantities(tariff: Tariff | None, *usage: UsageSum) -> dict[int, int]:
    """Nanos of the price → quantity charged at it."""
    nanos = {} if tariff is None else {found.price_id: found.nanos for found in tariff.rates}
    found = rate([Segment(tariff=tariff, usage=usage)])
    return {nanos[key.price_id]: charge.quantity for key, charge in found.charges.items()}


def _running(
    started_at: datetime, ended_at: datetime, *, accelerators: int = 1, flavor: str = "h100", mode: str = "gpu_seconds"
) -> Running:
    return Running(
        tenant_id=TENANT,
        endpoint_id=ENDPOINT,
        billing_mode=mode,
        flavor=flavor,
        accelerators=accelerators,
        started_at=started_at,
        ended_at=ended_at,
    )


def test_cached_tokens_have_their_own_price_where_one_is_set() -> None:
    tariff = _tariff(
        _rate(Meter.PROMPT_TOKENS, 3), _rate(Meter.CACHED_PROMPT_TOKENS, 1), _rate(Meter.COMPLETION_TOKENS, 9)
    )
    assert _quantities(tariff, _used(prompt=10, cached=4, completion=5)) == {3: 6, 1: 4, 9: 5}


def test_cached_tokens_without_a_price_are_prompt_tokens() -> None:
    tariff = _tariff(_rate(Meter.PROMPT_TOKENS, 3), _rate(Meter.COMPLETION_TOKENS, 9))
    assert _quantities(tariff, _used(prompt=10, cached=4, completion=5)) == {3: 10, 9: 5}


def test_the_most_specific_name_wins_adapter_then_base_then_default() -> None:
    tariff = _tariff(
        _rate(Meter.PROMPT_TOKENS, 1),
        _rate(Meter.PROMPT_TOKENS, 2, model="acme/chat"),
        _rate(Meter.PROMPT_TOKENS, 3, model="acme/chat:tone"),
    )
    for model, nanos in {"x/y": 1, "acme/chat": 2, "acme/chat:other": 2, "acme/chat:tone": 3}.items():
        assert _quantities(tariff, _used(model, prompt=7)) == {nanos: 7}


def test_a_default_cached_price_does_not_reach_a_model_with_a_prompt_price_of_its_own() -> None:
    tariff = _tariff(
        _rate(Meter.PROMPT_TOKENS, 100),
        _rate(Meter.CACHED_PROMPT_TOKENS, 50),
        _rate(Meter.PROMPT_TOKENS, 10, model="acme/chat"),
    )
    assert _quantities(tariff, _used(prompt=10, cached=4)) == {10: 10}
    assert _quantities(tariff, _used("x/y", prompt=10, cached=4)) == {100: 6, 50: 4}


def test_a_models_own_cached_price_goes_with_the_default_prompt_price() -> None:
    tariff = _tariff(_rate(Meter.PROMPT_TOKENS, 100), _rate(Meter.CACHED_PROMPT_TOKENS, 5, model="acme/chat"))
    assert _quantities(tariff, _used(prompt=10, cached=4)) == {100: 6, 5: 4}


def test_usage_of_an_endpoint_paid_by_gpu_seconds_costs_no_tokens() -> None:
    tariff = _tariff(_rate(Meter.PROMPT_TOKENS, 3), _rate(Meter.ACCELERATOR_SECONDS, 3))
    found = rate([Segment(tariff=tariff, usage=[_used(prompt=10, mode="gpu_seconds")])])
    assert (found.charges, found.unpriced) == ({}, 0)
    found = rate([Segment(tariff=tariff, running=[_running(NOON, NOON + HOUR, mode="tokens")])])
    assert (found.charges, found.unpriced) == ({}, 0)


def test_what_has_no_price_is_counted_as_such() -> None:
    assert rate([Segment(tariff=None, usage=[_used(prompt=10, completion=5)])]).unpriced == 15
    assert rate([Segment(tariff=_tariff(), usage=[_used(prompt=10, completion=5)])]).unpriced == 15


def test_a_flavors_price_goes_before_the_default() -> None:
    tariff = _tariff(_rate(Meter.ACCELERATOR_SECONDS, 2), _rate(Meter.ACCELERATOR_SECONDS, 7, flavor="h100"))
    for flavor, nanos in {"h100": 7, "cpu": 2}.items():
        found = rate([Segment(tariff=tariff, running=[_running(NOON, NOON + HOUR, flavor=flavor, accelerators=8)])])
        assert [charge.amount_nanos for charge in found.charges.values()] == [8 * nanos]


def test_an_hour_is_rounded_once_and_not_once_a_model() -> None:
    tariff = _tariff(_rate(Meter.PROMPT_TOKENS, 1))
    parts = [_used("a/a", prompt=400_000), _used("a/b", prompt=400_000)]
    found = rate([Segment(tariff=tariff, usage=parts)])
    assert [charge.amount_nanos for charge in found.charges.values()] == [1]


@given(quantity=st.integers(0, 10**15), nanos=st.integers(0, 10**15), meter=st.sampled_from(Meter))
def test_an_amount_is_the_exact_value_to_the_nearest_nano(quantity: int, nanos: int, meter: Meter) -> None:
    unit = 3_600 * 10**6 if meter is Meter.ACCELERATOR_SECONDS else 10**6
    found = amount(meter, quantity, nanos)
    assert type(found) is int
    assert abs(found - Fraction(quantity * nanos, unit)) <= Fraction(1, 2)


@given(start=moments, microseconds=st.integers(0, 40 * 3_600 * 10**6))
def test_hours_add_up_to_the_interval_exactly(start: datetime, microseconds: int) -> None:
    end = start + timedelta(microseconds=microseconds)
    cut = list(by_hour(start, end))
    assert sum(part for _, part in cut) == microseconds
    assert all(0 < part <= 3_600 * 10**6 for _, part in cut)
    assert all(hour.minute == hour.second == hour.microsecond == 0 for hour, _ in cut)
    assert len({hour for hour, _ in cut}) == len(cut)


def test_an_interval_over_the_turn_of_the_year_is_cut_at_it() -> None:
    turn = datetime(2027, 1, 1, tzinfo=UTC)
    cut = list(by_hour(turn - timedelta(microseconds=1), turn + timedelta(minutes=1)))
    assert cut == [(turn - HOUR, 1), (turn, 60 * 10**6)]


@given(starts=st.lists(moments, max_size=6), start=moments, length=st.timedeltas(timedelta(0), timedelta(days=400)))
def test_segments_cover_the_time_once_each_with_the_tariff_in_force(
    starts: list[datetime], start: datetime, length: timedelta
) -> None:
    tariffs = [_tariff(valid_from=moment, version=number) for number, moment in enumerate(starts)]
    end = start + length
    found = segments(tariffs, start, end)
    at = start
    for tariff, since, until in found:
        assert since == at
        assert since < until
        at = until
        in_force = [item for item in tariffs if item.valid_from <= since]
        assert tariff == max(in_force, key=lambda item: (item.valid_from, item.version), default=None)
        assert not [item for item in tariffs if since < item.valid_from < until]
    assert at == end


@given(
    parts=st.lists(st.tuples(tokens, tokens), min_size=1, max_size=8),
    nanos=st.integers(0, 10**12),
    cut=st.integers(0, 8),
)
def test_revisions_of_late_usage_sum_to_the_total_rounded_once(
    parts: list[tuple[int, int]], nanos: int, cut: int
) -> None:
    tariff = _tariff(_rate(Meter.PROMPT_TOKENS, nanos), _rate(Meter.COMPLETION_TOKENS, nanos + 1))
    usage = [_used(prompt=prompt, completion=completion) for prompt, completion in parts]
    posted: dict[object, int] = {}
    for so_far in (usage[:cut], usage[: cut + 1], usage):
        for key, charge in rate([Segment(tariff=tariff, usage=so_far)]).charges.items():
            posted[key] = posted.get(key, 0) + (charge.amount_nanos - posted.get(key, 0))
    prompt = sum(item for item, _ in parts)
    completion = sum(item for _, item in parts)
    total = amount(Meter.PROMPT_TOKENS, prompt, nanos) + amount(Meter.COMPLETION_TOKENS, completion, nanos + 1)
    assert sum(posted.values()) == total


@pytest.mark.parametrize("module", [rating, records, selectors, services])
def test_no_float_comes_near_money(module: object) -> None:
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)), ast.unparse(node)
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), ast.unparse(node)
        assert not (isinstance(node, ast.Name) and node.id in {"float", "round"}), ast.unparse(node)
        assert not (isinstance(node, ast.Attribute) and node.attr == "total_seconds"), ast.unparse(node)
