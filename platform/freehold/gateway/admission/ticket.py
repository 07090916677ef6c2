"""What a request wants (Ask) and what it was granted (Ticket)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freehold.gateway.admission import answers

if TYPE_CHECKING:
    from freehold.gateway.admission.plans import Plan
    from freehold.gateway.admission.scripts import Verdict
    from freehold.gateway.auth import Caller
    from freehold.wire.records import RouteRecord


@dataclass(slots=True)
class Ask:
    """What one request wants.

    Attributes:
        caller, route, model: who asks, where it leads, the public model name.
        prompt: tokens the prompt has at most.
        outputs: prompts x n; 0 where nothing is generated (embeddings, rerank, score).
        max_tokens: asked for by the client; 0: none given.
        default_max_tokens: what the API gives where none is asked for; 0: none.
    """

    caller: Caller
    route: RouteRecord
    model: str
    prompt: int
    outputs: int
    max_tokens: int
    default_max_tokens: int


class Ticket:
    """A request that is admitted, to be settled or abandoned once.

    Attributes:
        plan: by which it was.
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
        plan: Plan,
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
