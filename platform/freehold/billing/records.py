"""What billing's selectors and services take and answer with."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from freehold.billing.choices import Meter
from freehold.billing.rating import MICROSECONDS
from freehold.common.money import round_ratio


@dataclass(frozen=True, kw_only=True, slots=True)
class NewPrice:
    """A price to publish: nanos for a million tokens, or for an accelerator's hour. An empty matcher is a default."""

    meter: Meter
    nanos: int
    model: str = ""
    flavor: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlavorPrice:
    """Nanos for an hour of one accelerator."""

    nanos: int
    currency: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageLine:
    """What one endpoint used and costs in a period.

    Attributes:
        endpoint_id: None in a total.
        models: public names it was called by, adapters included; empty where it was never called.
        prompt_tokens, cached_tokens, completion_tokens: also of endpoints that are not paid for by token.
        accelerator_microseconds: ready time × accelerators of endpoints paid for by gpu_seconds; else 0.
        amount_nanos: the cost so far, exactly what the ledger has or will have.
    """

    endpoint_id: uuid.UUID | None
    models: tuple[str, ...]
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    accelerator_microseconds: int
    amount_nanos: int
    currency: str

    @property
    def model(self) -> str:
        """The shortest of its names: the endpoint itself rather than one of its adapters. May be empty."""
        return min(self.models, key=lambda name: (len(name), name), default="")

    @property
    def accelerator_seconds(self) -> int:
        """To the nearest second, for people; money is made of the microseconds."""
        return round_ratio(self.accelerator_microseconds, MICROSECONDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageStatement:
    """Usage and cost of a tenant in [start, end), whole UTC hours: a line an endpoint, and the total."""

    start: datetime
    end: datetime
    lines: tuple[UsageLine, ...]
    total: UsageLine


@dataclass(frozen=True, kw_only=True, slots=True)
class PostReport:
    """What a posting run did. `left`: hours for the next run, because somebody else had them or posting failed."""

    hours: int = 0
    entries: int = 0
    left: int = 0
