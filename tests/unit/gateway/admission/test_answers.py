"""Limits are told in OpenAI's words."""

from __future__ import annotations

import msgspec
import pytest

from freehold.gateway.admission import answers, scripts
from freehold.gateway.admission.plans import Bound, Scope
from freehold.gateway.admission.scripts import Verdict
from freehold.gateway.errors import Shape
from freehold.wire.records import Limits

BOUNDS = (
    Bound(Scope("k:key_1"), Limits(requests_per_minute=3, tokens_per_minute=500)),
    Bound(Scope("t:tnt_1"), Limits(concurrency=2)),
)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0ms"), (120, "120ms"), (1_000, "1s"), (1_250, "1.25s"), (59_999, "59.999s"), (60_000, "1m0s"),
     (61_001, "1m2s"), (360_000, "6m0s"), (3_600_000, "1h0m0s")],
)  # fmt: skip
def test_durations_are_written_as_openai_does(milliseconds: int, text: str) -> None:
    assert answers.duration(milliseconds) == text


def test_headers_name_only_rates_that_are_limited() -> None:
    assert answers.headers(Verdict(scripts.ADMITTED)) == b""
    verdict = Verdict(scripts.ADMITTED, limit_tokens=500, left_tokens=100, reset_tokens=48_000)
    assert answers.headers(verdict) == (
        b"x-ratelimit-limit-tokens: 500\r\nx-ratelimit-remaining-tokens: 100\r\nx-ratelimit-reset-tokens: 48s\r\n"
    )


@pytest.mark.parametrize(
    ("code", "which", "words"),
    [
        (scripts.REQUESTS, 0, "this API key on requests per minute: limit 3. Please try again in 1.2s."),
        (scripts.TOKENS, 0, "this API key on tokens per minute: limit 500, left 7, requested 90. Please"),
        (scripts.CONCURRENCY, 1, "this account on requests in flight: limit 2."),
        (scripts.TOO_LARGE, 0, "too large for this API key: limit 500 tokens per minute, requested 90."),
    ],
)
def test_a_refusal_names_limit_and_scope(code: int, which: int, words: str) -> None:
    error = answers.refusal(Verdict(code, which=which, wait=1_200, there=7, needed=90), BOUNDS)
    assert error.status == 429
    assert words in error.message
    body = msgspec.json.decode(error.body(Shape.OPENAI))["error"]
    assert body["code"] == "rate_limit_exceeded"
    assert b"retry-after: 2\r\n" in error.headers()
    assert (b"x-should-retry: false\r\n" in error.headers()) is (code == scripts.TOO_LARGE)


def test_a_balance_that_does_not_suffice_is_said_in_both_shapes() -> None:
    error = answers.refusal(Verdict(scripts.MONEY), BOUNDS)
    openai = msgspec.json.decode(error.body(Shape.OPENAI))["error"]
    assert (error.status, openai["type"], openai["code"]) == (402, "insufficient_quota", "insufficient_quota")
    assert msgspec.json.decode(error.body(Shape.ANTHROPIC))["error"]["type"] == "billing_error"
