"""Without Redis a gateway keeps to its part of every limit."""

from __future__ import annotations

from msgspec.structs import replace

from freehold.gateway.admission import scripts
from freehold.gateway.admission.alone import Alone
from freehold.gateway.admission.ask import Ask
from freehold.gateway.admission.plans import Plans
from freehold.gateway.admission.scripts import Verdict
from freehold.wire.follow import Snapshot
from freehold.wire.records import Limits
from tests.unit.gateway.conftest import CALLER, ROUTE

MINUTE = 60_000


class Gateway:
    """One of four, with one endpoint that has limits."""

    def __init__(self, **limits: int) -> None:
        self._route = replace(ROUTE, limits=Limits(**limits), max_model_len=4_096)
        self._plans = Plans(Snapshot())
        self._alone = Alone(4)

    def ask(self, now: int = 0, *, prompt: int = 0, max_tokens: int = 1) -> Verdict:
        """Takes where it may."""
        want = Ask(CALLER, self._route, "acme/chat", prompt, 1, max_tokens, 0)
        plan = self._plans.of(want)
        row = plan.row(want, 0)
        verdict = self._alone.look(plan, row, now)
        if verdict.code == scripts.ADMITTED:
            self._alone.take(plan, row[1] + row[2] * verdict.max_tokens, verdict)
        return verdict


def test_a_quarter_of_the_requests_is_admitted_and_more_as_time_goes_by() -> None:
    gateway = Gateway(requests_per_minute=8)
    assert [gateway.ask().code for _ in range(3)] == [scripts.ADMITTED, scripts.ADMITTED, scripts.REQUESTS]
    refused = gateway.ask()
    assert (refused.wait, refused.limit_requests, refused.left_requests) == (MINUTE // 2, 8, 0)
    assert gateway.ask(MINUTE // 2 - 1).code == scripts.REQUESTS
    assert gateway.ask(MINUTE // 2).code == scripts.ADMITTED


def test_a_limit_below_the_number_of_gateways_is_one_each() -> None:
    gateway = Gateway(requests_per_minute=2)
    assert gateway.ask().code == scripts.ADMITTED
    assert gateway.ask().code == scripts.REQUESTS


def test_a_request_that_no_part_could_hold_goes_through_an_unused_bucket() -> None:
    gateway = Gateway(tokens_per_minute=400)
    assert gateway.ask(prompt=300).code == scripts.ADMITTED
    assert gateway.ask(prompt=1).code == scripts.TOKENS
    assert gateway.ask(2 * MINUTE, prompt=1).code == scripts.TOKENS  # it is paid back at a quarter of the rate
    assert gateway.ask(9 * MINUTE, prompt=300).code == scripts.ADMITTED
    assert gateway.ask(99 * MINUTE, prompt=400).code == scripts.TOO_LARGE


def test_without_max_tokens_the_part_is_granted() -> None:
    gateway = Gateway(tokens_per_minute=4_000)
    verdict = gateway.ask(prompt=300, max_tokens=0)
    assert (verdict.code, verdict.max_tokens) == (scripts.ADMITTED, 700)
    assert gateway.ask(prompt=1, max_tokens=0).code == scripts.TOKENS
