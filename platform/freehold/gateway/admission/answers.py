"""What a client is told of its limits: OpenAI's `x-ratelimit-*` headers, 429, 402 and 503.

Sources: platform.openai.com/docs/guides/rate-limits (headers, `rate_limit_exceeded`), and its SDKs, which honour
`retry-after` and `x-should-retry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from freehold.gateway.admission import scripts
from freehold.gateway.errors import ApiError

if TYPE_CHECKING:
    from freehold.gateway.admission.plans import Bound
    from freehold.gateway.admission.scripts import Verdict

OUTAGE_RETRY_SECONDS: Final = 5
_SCOPES: Final = {"k": "this API key", "t": "this account", "e": "this endpoint"}
_LINES: Final = b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n"
_REQUESTS: Final = _LINES % ((b"requests",) * 3)
_TOKENS: Final = _LINES % ((b"tokens",) * 3)
_NO_RETRY = b"x-should-retry: false\r\n"


def duration(milliseconds: int) -> str:
    """As OpenAI writes it: `120ms`, `1s`, `1.5s`, `6m0s`, `1h0m0s`."""
    if milliseconds < 1_000:
        return f"{milliseconds}ms"
    seconds, rest = divmod(milliseconds, 1_000)
    if seconds < 60:
        fraction = f"{rest:03d}".rstrip("0")
        return f"{seconds}.{fraction}s" if fraction else f"{seconds}s"
    minutes, seconds = divmod(seconds + (rest > 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}s" if hours else f"{minutes}m{seconds}s"


def headers(verdict: Verdict) -> bytes:
    """Header lines for the rates that are limited, each of its scope with the least left."""
    lines = b""
    if verdict.limit_requests:
        lines += _REQUESTS % (verdict.limit_requests, verdict.left_requests, duration(verdict.reset_requests).encode())
    if verdict.limit_tokens:
        lines += _TOKENS % (verdict.limit_tokens, verdict.left_tokens, duration(verdict.reset_tokens).encode())
    return lines


def refusal(verdict: Verdict, bounds: tuple[Bound, ...]) -> ApiError:
    """The error for a verdict that admits nothing."""
    if verdict.code == scripts.MONEY:
        return ApiError(
            402,
            "The balance of this account does not cover the most that this request may cost, besides what requests in "
            "flight may cost. Top it up, or lower max_tokens.",
            code="insufficient_quota",
            extra=headers(verdict),
        )
    bound = bounds[verdict.which]
    scope = _SCOPES[bound.scope.name[0]]
    again = f"Please try again in {duration(verdict.wait)}."
    extra = headers(verdict)
    retry: int | None = -(-verdict.wait // 1_000)
    if verdict.code == scripts.TOO_LARGE:
        extra += _NO_RETRY
        message = (
            f"Request too large for {scope}: limit {bound.tokens} tokens per minute, requested {verdict.needed}. "
            "Shorten the prompt or lower max_tokens."
        )
    elif verdict.code == scripts.TOKENS:
        message = (
            f"Rate limit reached for {scope} on tokens per minute: limit {bound.tokens}, left {max(0, verdict.there)}, "
            f"requested {verdict.needed}. {again}"
        )
    elif verdict.code == scripts.REQUESTS:
        message = f"Rate limit reached for {scope} on requests per minute: limit {bound.requests}. {again}"
    else:
        message = f"Rate limit reached for {scope} on requests in flight: limit {bound.concurrency}. {again}"
    return ApiError(429, message, code="rate_limit_exceeded", retry_after=retry, extra=extra)


def outage(extra: bytes = b"") -> ApiError:
    """Balances cannot be asked now, and the credit for that is used up."""
    return ApiError(
        503,
        "The balance of this account cannot be looked up now, and what may be spent meanwhile is spent. Try again.",
        code="balance_unavailable",
        retry_after=OUTAGE_RETRY_SECONDS,
        extra=extra,
    )


def unpriced() -> ApiError:
    """A prepaid account, and no price was ever published."""
    return ApiError(
        503,
        "Prices are not known yet, so prepaid requests cannot be served. Try again.",
        code="prices_unavailable",
        retry_after=OUTAGE_RETRY_SECONDS,
    )
