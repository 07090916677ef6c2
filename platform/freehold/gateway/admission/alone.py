"""Decisions without Redis: each gateway by itself, with its part of every limit.

Arithmetic as in scripts.py. A request that a part could never hold is let through an unused bucket, which it overdraws:
slow is better than never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold.gateway.admission import scripts
from freehold.gateway.admission.scripts import UNIT, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freehold.gateway.admission.plans import Bound, Plan

_CONCURRENCY_WAIT = 1_000


class Alone:
    """One gateway's part, of `gateways`."""

    def __init__(self, gateways: int) -> None:
        self._gateways = gateways

    def look(self, plan: Plan, row: list[int], now: int) -> Verdict:
        """Whether the limits let a request through, and what they grant. Takes nothing.

        Args:
            row: as Plan.row made it.
            now: milliseconds of a clock that only goes up.
        """
        _, tokens, outputs, grant, least, _, _ = row
        need = tokens + outputs * least
        wait, code, which, there = -1, scripts.ADMITTED, -1, 0
        for position, bound in enumerate(plan.bounds):
            self._refresh(bound, now)
            for pause, why, left in self._refusals(bound, need):
                if pause > wait:
                    wait, code, which, there = pause, why, position, left
            if bound.tokens and outputs:
                fit = (self.part(bound.tokens) * UNIT - bound.scope.tokens) // UNIT
                grant = max(least, min(grant, (fit - tokens) // outputs))
        if code == scripts.ADMITTED:
            return Verdict(code, grant)
        verdict = Verdict(code, which=which, wait=wait, there=there, needed=need)
        self._rate(plan, verdict)
        return verdict

    def take(self, plan: Plan, tokens: int, verdict: Verdict) -> None:
        """Of every bucket of the plan; the verdict then says what is left. Concurrency is counted by the caller."""
        for bound in plan.bounds:
            if bound.requests:
                bound.scope.requests += UNIT
            if bound.tokens:
                bound.scope.tokens += tokens * UNIT
        self._rate(plan, verdict)

    @staticmethod
    def give_back(plan: Plan, requests: int, tokens: int) -> None:
        """What was taken and not used."""
        for bound in plan.bounds:
            scope = bound.scope
            scope.requests = max(0, scope.requests - requests * UNIT)
            scope.tokens = max(0, scope.tokens - tokens * UNIT)

    def part(self, limit: int) -> int:
        """At least 1, and 0 where there is no limit."""
        return max(1, limit // self._gateways) if limit else 0

    def _refresh(self, bound: Bound, now: int) -> None:
        scope = bound.scope
        past, scope.at = now - scope.at, now
        scope.requests = max(0, scope.requests - past * self.part(bound.requests))
        scope.tokens = max(0, scope.tokens - past * self.part(bound.tokens))

    def _refusals(self, bound: Bound, need: int) -> Iterator[tuple[int, int, int]]:
        """Milliseconds to wait, code, tokens left: one for each limit that refuses."""
        scope = bound.scope
        if bound.requests:
            part = self.part(bound.requests)
            over = scope.requests + UNIT - part * UNIT
            if over > 0:
                yield -(-over // part), scripts.REQUESTS, 0
        if bound.tokens:
            part = self.part(bound.tokens)
            left = (part * UNIT - scope.tokens) // UNIT
            if need > bound.tokens:
                yield UNIT, scripts.TOO_LARGE, left
            elif need > left and scope.tokens:
                until = scope.tokens if need > part else scope.tokens + (need - part) * UNIT
                yield -(-until // part), scripts.TOKENS, left
        if bound.concurrency and scope.in_flight >= self.part(bound.concurrency):
            yield _CONCURRENCY_WAIT, scripts.CONCURRENCY, 0

    def _rate(self, plan: Plan, verdict: Verdict) -> None:
        """For the headers: the configured limit, and what this gateway has left of its part."""
        for bound in plan.bounds:
            scope = bound.scope
            if bound.requests:
                part = self.part(bound.requests)
                left = max(0, part - -(-scope.requests // UNIT))
                if not verdict.limit_requests or left < verdict.left_requests:
                    verdict.limit_requests, verdict.left_requests = bound.requests, left
                    verdict.reset_requests = -(-scope.requests // part)
            if bound.tokens:
                part = self.part(bound.tokens)
                left = max(0, part - -(-scope.tokens // UNIT))
                if not verdict.limit_tokens or left < verdict.left_tokens:
                    verdict.limit_tokens, verdict.left_tokens = bound.tokens, left
                    verdict.reset_tokens = -(-scope.tokens // part)
