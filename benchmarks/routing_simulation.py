"""Policies in simulated time: exact hit rates and times to first token, without noise, in seconds of CPU.

Run by benchmarks/routing.py. Conversations are replayed against eight engines (routing_engine.py); a policy sees what
the gateway sees: the tenant, the request's messages as bytes, and which requests are in flight.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random
from typing import Protocol

from benchmarks.routing_engine import Engine, Speed, Work
from benchmarks.routing_workloads import Conversation, Workload
from freehold.gateway.routing.prefix import prefix_key
from freehold.gateway.routing.router import Router
from freehold.wire.records import ReplicaRecord, RouteRecord

REPLICAS = 8


class Request(Protocol):
    """A request as a policy sees it."""

    replica: int

    def answering(self) -> None:
        """The first token is here."""

    def end(self) -> None:
        """It is over."""


class Policy(Protocol):
    """Chooses a replica by number."""

    def begin(self, tenant: str, messages: bytes) -> Request:
        """A request is in flight from now on."""


@dataclass(slots=True)
class Plain:
    """A request of a policy that counts those in flight, or nothing."""

    replica: int
    outstanding: list[int] | None = None

    def answering(self) -> None:
        """Of no interest."""

    def end(self) -> None:
        """One less."""
        if self.outstanding is not None:
            self.outstanding[self.replica] -= 1


class RoundRobin:
    """Each in turn."""

    def __init__(self, replicas: int = REPLICAS) -> None:
        self._replicas = replicas
        self._turns = count()

    def begin(self, tenant: str, messages: bytes) -> Plain:
        """The next."""
        return Plain(next(self._turns) % self._replicas)


class LeastLoad:
    """The fewest in flight, ties at random."""

    def __init__(self) -> None:
        self._outstanding = [0] * REPLICAS
        self._random = Random(7)

    def begin(self, tenant: str, messages: bytes) -> Plain:
        """The least loaded."""
        least = min(self._outstanding)
        chosen = self._random.choice([number for number in range(REPLICAS) if self._outstanding[number] == least])
        self._outstanding[chosen] += 1
        return Plain(chosen, self._outstanding)


def route() -> RouteRecord:
    """A route to the engines."""
    return RouteRecord(
        endpoint="ep_bench",
        tenant="tnt_bench",
        generation=1,
        task="generate",
        served_model_name="bench",
        billing_mode="tokens",
        region="local",
        phase="Ready",
        weight_digest="",
        engine_digest="",
        replicas=tuple(ReplicaRecord(id=f"rep_{number}", host="", port=number) for number in range(REPLICAS)),
    )


@dataclass(slots=True)
class Routed:
    """A request of ours."""

    replica: int
    router: Router
    name: str
    work: int

    def answering(self) -> None:
        """As relay.py says it."""
        self.router.answering(self.name, self.work)
        self.work = 0

    def end(self) -> None:
        """As relay.py says it."""
        self.router.finish(self.name, failed=False, work=self.work)


class Ours:
    """freehold.gateway.routing."""

    def __init__(self) -> None:
        self._router = Router()
        self._route = route()

    def begin(self, tenant: str, messages: bytes) -> Routed:
        """As relay.py chooses."""
        record = self._router.choose(self._route, prefix_key(tenant, "", messages), ())
        return Routed(record.port, self._router, record.id, self._router.begin(record.id))


class Several:
    """Gateways that know nothing of each other; a request comes to any of them."""

    def __init__(self, gateways: Sequence[Policy]) -> None:
        self._gateways = gateways
        self._random = Random(8)

    def begin(self, tenant: str, messages: bytes) -> Request:
        """As one of them chooses."""
        return self._random.choice(self._gateways).begin(tenant, messages)


@dataclass(slots=True)
class Result:
    """What came of a workload under a policy.

    Attributes:
        ttft: seconds, one a request, sorted.
        hits, queries: tokens of prompts that were in a cache, and all of them.
        served: requests by replica.
    """

    ttft: list[float]
    hits: int
    queries: int
    served: Sequence[int]

    @property
    def hit_rate(self) -> float:
        """Share of prompt tokens."""
        return self.hits / self.queries if self.queries else 0.0

    def quantile(self, share: float) -> float:
        """Seconds to the first token."""
        return self.ttft[min(int(len(self.ttft) * share), len(self.ttft) - 1)] if self.ttft else 0.0


@dataclass(slots=True)
class Timeline:
    """Simulated time.

    Attributes:
        now: seconds.
    """

    now: float = 0.0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Calls back after so many seconds."""
        heapq.heappush(self._events, (self.now + seconds, next(self._order), callback))

    def run(self, until: float) -> None:
        """Lets happen what happens until then."""
        while self._events and self._events[0][0] <= until:
            self.now, _, callback = heapq.heappop(self._events)
            callback()


def flatten(messages: Sequence[dict[str, str]]) -> bytes:
    """The prompt as an engine's chat template makes it of messages."""
    return "".join(f"<{message['role']}>{message['content']}\n" for message in messages).encode() + b"<assistant>"


def answer_text(conversation: Conversation, turn: int, tokens: int) -> str:
    """What the model says there."""
    return Random(f"{conversation.start}/{turn}").randbytes(tokens * 2).hex()


def simulate(workload: Workload, policy: Policy, speed: Speed, *, warm_seconds: float, seconds: float) -> Result:
    """Replays a workload for so many seconds. What happens within the first `warm_seconds` does not count."""
    timeline = Timeline()
    engines = [Engine(speed, timeline.later) for _ in range(REPLICAS)]
    ttft: list[float] = []

    def ask(conversation: Conversation, number: int, messages: list[dict[str, str]]) -> None:
        turn = conversation.turns[number]
        messages.append({"role": "user", "content": turn.text})
        raw = json.dumps(messages, separators=(",", ":")).encode()
        request = policy.begin(f"tnt_{conversation.tenant}", raw)
        asked_at = timeline.now
        text = answer_text(conversation, number, turn.answer_tokens)

        def first() -> None:
            request.answering()
            if asked_at >= warm_seconds and timeline.now <= seconds:
                ttft.append(timeline.now - asked_at)

        def done() -> None:
            request.end()
            messages.append({"role": "assistant", "content": text})
            if number + 1 < len(conversation.turns):
                pause = conversation.turns[number + 1].pause
                timeline.later(pause, lambda: ask(conversation, number + 1, messages))

        work = Work(f"salt-{conversation.tenant}", flatten(messages), text.encode(), first, done)
        engines[request.replica].submit(work)

    def begin(conversation: Conversation) -> None:
        ask(conversation, 0, [{"role": "system", "content": conversation.system}] if conversation.system else [])

    for conversation in workload:
        timeline.later(conversation.start, partial(begin, conversation))
    timeline.run(warm_seconds)
    before = _tokens(engines)
    timeline.run(seconds)
    hits, queries = _tokens(engines)
    return Result(sorted(ttft), hits - before[0], queries - before[1], [engine.served for engine in engines])


def _tokens(engines: Sequence[Engine]) -> tuple[int, int]:
    return sum(engine.cache.hits for engine in engines), sum(engine.cache.queries for engine in engines)
