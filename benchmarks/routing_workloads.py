"""Conversations as benchmarks/routing.py replays them: the same for every policy, made from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

TOKEN = 4  # bytes


@dataclass(frozen=True, slots=True)
class Turn:
    """What a user says.

    Attributes:
        text: of the user.
        answer_tokens: length of the answer.
        pause: seconds between the answer before and this.
    """

    text: str
    answer_tokens: int
    pause: float


@dataclass(frozen=True, slots=True)
class Conversation:
    """One user's requests, one after the other; each repeats all before.

    Attributes:
        start: seconds from the beginning.
        tenant: number of the tenant.
        system: system prompt, empty for none.
    """

    start: float
    tenant: int
    system: str
    turns: tuple[Turn, ...]


Workload = list[Conversation]


def _text(random: Random, tokens: float) -> str:
    return random.randbytes(max(int(tokens), 1) * TOKEN // 2).hex()


def _turns(random: Random, count: int, tokens: tuple[int, int], pause: float) -> tuple[Turn, ...]:
    return tuple(
        Turn(
            _text(random, random.uniform(*tokens)),
            random.randrange(24, 72),
            random.expovariate(1 / pause) if number else 0.0,
        )
        for number in range(count)
    )


def _starts(random: Random, rate: float, seconds: float) -> list[float]:
    found, now = [], 0.0
    while (now := now + random.expovariate(rate)) < seconds:
        found.append(now)
    return found


def multi_turn(seconds: float, scale: float = 1.0) -> Workload:
    """Chats of 4 to 12 turns; half of the tenants have no system prompt of their own, half a short one."""
    random = Random(1)
    systems = ["" if number % 2 else _text(random, 200) for number in range(10)]
    return [
        Conversation(start, tenant, systems[tenant], _turns(random, random.randint(4, 12), (60, 500), 4.0))
        for start in _starts(random, 5.2 * scale, seconds)
        for tenant in [random.randrange(10)]
    ]


def shared_prefixes(seconds: float, scale: float = 1.0) -> Workload:
    """One question each under one of 64 system prompts of 2,000 tokens, some asked far more often than others."""
    random = Random(2)
    systems = [_text(random, 2_000) for _ in range(64)]
    weights = [1 / (rank + 1) ** 0.9 for rank in range(64)]
    found = []
    for start in _starts(random, 42 * scale, seconds):
        number = random.choices(range(64), weights)[0]
        found.append(Conversation(start, number % 8, systems[number], _turns(random, 1, (40, 300), 1.0)))
    return found


def one_application(seconds: float, scale: float = 1.0) -> Workload:
    """Chats of one tenant's one application: one system prompt of 1,500 tokens before all of them."""
    random = Random(3)
    system = _text(random, 1_500)
    return [
        Conversation(start, 0, system, _turns(random, random.randint(3, 9), (60, 500), 4.0))
        for start in _starts(random, 6.5 * scale, seconds)
    ]


def unshared(seconds: float, scale: float = 1.0) -> Workload:
    """Prompts that have nothing in common."""
    random = Random(4)
    return [
        Conversation(start, random.randrange(10), "", _turns(random, 1, (100, 2_000), 1.0))
        for start in _starts(random, 36 * scale, seconds)
    ]


def mixed(seconds: float, scale: float = 1.0) -> Workload:
    """A quarter of each of the others."""
    each = [make(seconds, scale / 4) for make in (multi_turn, shared_prefixes, one_application, unshared)]
    return sorted((conversation for part in each for conversation in part), key=lambda found: found.start)


WORKLOADS: dict[str, Callable[[float, float], Workload]] = {
    "multi-turn": multi_turn,
    "shared prefixes": shared_prefixes,
    "one application": one_application,
    "unshared": unshared,
    "mixed": mixed,
}
