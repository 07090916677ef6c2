"""What tokens cost: by the price in force when a request is opened, in nanos, rounded up for each request.

The ledger rounds once for an hour of requests (billing), so what is held here is never less than what is charged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from freehold.common.money import TOKENS_PER_PRICE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freehold.wire.records import PriceRecord, PriceStep
    from freehold.wire.usage import UsageRecord

_NEVER: Final = 1 << 63


def find(prices: Mapping[str, PriceRecord], model: str) -> PriceRecord | None:
    """The prices of a public model name: its own, those of the model an adapter is on, those of all others."""
    return prices.get(model) or prices.get(model.partition(":")[0]) or prices.get("")


class Step(NamedTuple):
    """What is in force from `since` until before `until` (Unix nanoseconds); no price: free of charge."""

    price: PriceStep | None
    since: int
    until: int


NONE: Final = Step(None, 0, 0)


def in_force(record: PriceRecord | None, at: int) -> Step:
    """The step in force at `at` (Unix nanoseconds)."""
    found, since, until = None, 0, _NEVER
    if record is not None:
        for step in record.steps:
            if step.valid_from > at:
                until = step.valid_from
                break
            found, since = step, step.valid_from
    return Step(found, since, until)


def cost(step: PriceStep | None, record: UsageRecord) -> int:
    """Nanos, rounded up."""
    if step is None:
        return 0
    total = record.prompt_tokens * step.prompt + record.completion_tokens * step.completion
    if record.cached_tokens and step.cached is not None:
        total += record.cached_tokens * (step.cached - step.prompt)
    return -(-total // TOKENS_PER_PRICE)


def worst(step: PriceStep | None, *, prompt: int, completion: int) -> int:
    """Nanos, rounded up, whatever part of the prompt is cached."""
    if step is None:
        return 0
    dearest = step.prompt if step.cached is None else max(step.prompt, step.cached)
    return -(-(prompt * dearest + completion * step.completion) // TOKENS_PER_PRICE)


def completion_nanos(step: PriceStep | None) -> int:
    """Of one completion token, rounded up, for sums where the number of tokens is not known yet."""
    return 0 if step is None else -(-step.completion // TOKENS_PER_PRICE)
