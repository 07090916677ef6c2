"""What a request was granted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold.gateway.admission import answers

if TYPE_CHECKING:
    from freehold.gateway.admission.plans import Plan
    from freehold.gateway.admission.scripts import Verdict


class Ticket:
    """A request that is admitted, to be settled or abandoned once.

    Attributes:
        plan: by which it was; None where nothing limited it.
        max_tokens: to be set in the body; 0: leave the body as it is.
        tokens: reserved of tokens per minute.
        nanos: held of the balance.
        alone: decided without Redis.
        on_credit: `nanos` are of the outage credit.
        open: something is to be given back.
    """

    __slots__ = ("_verdict", "alone", "max_tokens", "nanos", "on_credit", "open", "plan", "tokens")

    def __init__(
        self,
        plan: Plan | None,
        max_tokens: int,
        tokens: int = 0,
        verdict: Verdict | None = None,
        *,
        alone: bool = False,
        on_credit: bool = False,
    ) -> None:
        self.plan = plan
        self.max_tokens = max_tokens
        self.tokens = tokens
        self.alone = alone
        self.on_credit = on_credit
        self._verdict = verdict
        if verdict is None:
            self.nanos, self.open = 0, False
        else:
            self.nanos, self.open = verdict.nanos, True

    @property
    def headers(self) -> bytes:
        """`x-ratelimit-*` lines with OpenAI's names, for every answer; empty where no rate is limited."""
        verdict = self._verdict
        return b"" if verdict is None else answers.headers(verdict)
