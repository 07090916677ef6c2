"""What limits a request of one key to one model: worked out once and kept until the snapshot changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from freehold.gateway.admission import prices, scripts

if TYPE_CHECKING:
    from freehold.gateway.admission.ask import Ask
    from freehold.wire.follow import Snapshot
    from freehold.wire.records import Limits, PriceRecord, PriceStep

LEAST_GRANT: Final = 64  # tokens below which a grant helps nobody
_MOST_PLANS: Final = 100_000


class Scope:
    """A key, tenant or endpoint as this process sees it.

    Attributes:
        name: `k:<id>`, `t:<id>` or `e:<id>`.
        in_flight: requests of this gateway that count against a limit of concurrency.
        requests, tokens, at: buckets for the time without Redis (alone.py), as in scripts.py; `at` in milliseconds.
    """

    __slots__ = ("at", "in_flight", "name", "requests", "tokens")

    def __init__(self, name: str) -> None:
        self.name = name
        self.in_flight = 0
        self.requests = self.tokens = self.at = 0


class Bound:
    """The limits of a scope, 0 where there is none."""

    __slots__ = ("concurrency", "requests", "scope", "tokens")

    def __init__(self, scope: Scope, limits: Limits) -> None:
        self.scope = scope
        self.requests = _limit(limits.requests_per_minute)
        self.tokens = _limit(limits.tokens_per_minute)
        self.concurrency = _limit(limits.concurrency)


def _limit(value: int) -> int:
    return min(max(value, 0), scripts.LARGEST_LIMIT)


class Plan:
    """For one key and one public model name.

    Attributes:
        tenant: who pays; empty where no balance is asked.
        bounds: what limits, in the order key, tenant, endpoint.
        counted: scopes whose concurrency is limited.
        packed: what DECIDE needs of it.
        most: tokens an answer can have at all: what is granted above that is no limit.
        unpriced: prepaid, but prices are not known.
        is_free: nothing limits.
        default: what the endpoint gives where a body names no max_tokens and the API has no default; 0: what fits.
    """

    __slots__ = (
        "_step", "bounds", "counted", "default", "is_free", "most", "packed", "prices", "tenant", "unpriced",
    )  # fmt: skip

    def __init__(self, ask: Ask, tenant: str, bounds: tuple[Bound, ...], found: PriceRecord | None) -> None:
        self.tenant = tenant
        self.bounds = bounds
        self.counted = tuple(bound.scope for bound in bounds if bound.concurrency)
        self.prices = found
        self.unpriced = False
        self._step = prices.NONE
        self.most = ask.route.max_model_len or scripts.LARGEST_LIMIT
        self.default = ask.route.default_max_tokens
        rows = [[bound.scope.name, bound.requests, bound.tokens, bound.concurrency] for bound in bounds]
        self.packed = msgspec.Raw(scripts.encode([tenant, rows]))
        self.is_free = not bounds and not tenant

    def price(self, at: int) -> PriceStep | None:
        """In force at `at` (Unix nanoseconds)."""
        step = self._step
        if not step.since <= at < step.until:
            step = self._step = prices.in_force(self.prices, at)
        return step.price

    def row(self, ask: Ask, at: int) -> list[int]:
        """An ask for DECIDE: a place for the plan's number, tokens, outputs, want, least, nanos, nanos for one more
        token in each output.

        Where max_tokens is given, all of it is needed and nothing is granted: outputs, want and least are 0.
        """
        outputs, prompt = ask.outputs, ask.prompt
        if ask.max_tokens or not outputs:
            completion = outputs * min(ask.max_tokens, self.most)
            if not self.tenant:
                return [0, prompt + completion, 0, 0, 0, 0, 0]
            nanos = prices.worst(self.price(at), prompt=prompt, completion=completion)
            return [0, prompt + completion, 0, 0, 0, min(nanos, scripts.LARGEST_AMOUNT), 0]
        want = min(ask.default_max_tokens or self.default or self.most, self.most)
        step = self.price(at) if self.tenant else None
        nanos = prices.worst(step, prompt=prompt, completion=0)
        each = outputs * prices.completion_nanos(step)
        return [0, prompt, outputs, want, min(want, LEAST_GRANT), min(nanos, scripts.LARGEST_AMOUNT), each]


class Plans:
    """Makes plans from the snapshot and keeps them. Attribute `scopes`: every scope that was ever limited, by name."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._plans: dict[tuple[str, str], Plan] = {}
        self._bounds: dict[str, Bound] = {}
        self._changes = -1
        self.scopes: dict[str, Scope] = {}

    def of(self, ask: Ask) -> Plan:
        """The plan for this caller and model."""
        if self._changes != self._snapshot.changes:
            self._forget()
        plan = self._plans.get((ask.caller.key.id, ask.model))
        return plan if plan is not None else self._make(ask)

    def _forget(self) -> None:
        self._plans.clear()
        self._bounds.clear()
        self._changes = self._snapshot.changes

    def _make(self, ask: Ask) -> Plan:
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        caller, route = ask.caller, ask.route
        limited = (
            (f"k:{caller.key.id}", caller.key.limits),
            (f"t:{caller.key.tenant}", caller.tenant.limits),
            (f"e:{route.endpoint}", route.limits),
        )
        bounds = tuple(self._bound(name, limits) for name, limits in limited if limits is not None and _any(limits))
        snapshot = self._snapshot
        account = snapshot.accounts.get(caller.key.tenant)
        paid = account is not None and account.prepaid and route.billing_mode == "tokens"
        plan = Plan(ask, caller.key.tenant if paid else "", bounds, prices.find(snapshot.prices, ask.model))
        plan.unpriced = paid and not snapshot.priced
        self._plans[caller.key.id, ask.model] = plan
        return plan

    def _bound(self, name: str, limits: Limits) -> Bound:
        bound = self._bounds.get(name)
        if bound is None:
            scope = self.scopes.setdefault(name, Scope(name))
            bound = self._bounds[name] = Bound(scope, limits)
        return bound


def _any(limits: Limits) -> bool:
    return limits.requests_per_minute > 0 or limits.tokens_per_minute > 0 or limits.concurrency > 0
