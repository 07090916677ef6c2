"""Whatever happens in whatever order on three gateways: nobody is committed beyond balance and outage credit."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.gateway.admission.session import Lease
from freehold.gateway.admission.ticket import Ticket
from freehold.gateway.errors import ApiError
from tests.integration.gateway.admission_members import TOKEN, Member, Members, membership, until

BALANCE, CREDIT = 1_000 * TOKEN, 400 * TOKEN
STEADY = Lease(seconds=60, renew_seconds=0.1, patience_seconds=600)

_gateway = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.just("reserve"), _gateway, st.integers(1, 400)),
    st.tuples(st.just("reserve"), _gateway, st.integers(1, 60)),
    st.tuples(st.just("rush"), _gateway, st.integers(1, 120)),
    st.tuples(st.just("settle"), _gateway, st.integers(0, 100)),
    st.tuples(st.just("abandon"), _gateway, st.just(0)),
    st.tuples(st.just("confirm"), _gateway, st.just(0)),
    st.tuples(st.just("cut"), _gateway, st.just(0)),
    st.tuples(st.just("mend"), _gateway, st.just(0)),
    st.tuples(st.just("kill"), _gateway, st.just(0)),
    st.tuples(st.just("flush"), _gateway, st.just(0)),
    st.tuples(st.just("publish"), _gateway, st.just(0)),
    st.tuples(st.just("epoch"), _gateway, st.just(0)),
    st.tuples(st.just("pay"), _gateway, st.integers(1, 300)),
)


class World:
    """Balance and ledger, beside the gateways."""

    def __init__(self, members: Members) -> None:
        self.members = members
        self.paid = BALANCE
        self.spent = 0
        self.costs: dict[str, list[int]] = {member.name: [] for member in members.all}  # by sequence
        self.committed = dict.fromkeys(self.costs, 0)
        self.asked: list[asyncio.Future[Ticket | ApiError]] = []
        self.lost = False  # Redis was emptied and billing has not noticed yet

    def exposure(self) -> int:
        """What the tenant has spent, and may yet for what is admitted."""
        return self.spent + sum(ticket.nanos for member in self.members.all for ticket in member.tickets)

    async def step(self, what: str, member: Member, number: int) -> None:
        """One event."""
        match what:
            case "reserve":
                await member.ask(self.members.want(prompt=number // 3, max_tokens=number - number // 3))
            case "rush":  # and not waited for
                for _ in range(3):
                    self.asked.append(member.ask(self.members.want(prompt=0, max_tokens=number)))
                    await asyncio.sleep(0)
            case "settle" if member.tickets:
                ticket = member.tickets[0]
                tokens = ticket.nanos // TOKEN * number // 100
                cost = member.settle(ticket, tokens // 2, tokens - tokens // 2)
                self.costs[member.name].append(cost)
                self.spent += cost
            case "abandon" if member.tickets:
                member.admission.abandon(member.tickets.pop())
            case "confirm":
                self.committed[member.name] = len(self.costs[member.name])
                self.publish()
                member.admission.confirmed(self.committed[member.name])
            case "cut":
                member.wire.cut()
                await until(lambda: not member.admission.online)
            case "mend":
                member.wire.mend()
                await until(lambda: member.admission.online)
            case "kill":
                await member.die()
                member.wire.mend()
                await member.begin()
                member.admission.confirmed(self.committed[member.name])
            case "flush":
                self.members.client.flushall()
                self.lost = True
            case "publish":
                self.publish()
                if self.lost:
                    self.members.begin_epoch(expected=tuple(self.costs))
                    self.lost = False
            case "epoch" if not self.lost:
                self.members.begin_epoch(expected=tuple(self.costs))
            case "pay":
                self.paid += number * TOKEN
                self.publish()

    def publish(self) -> None:
        """As billing does: what is paid less what is committed."""
        known = sum(sum(costs[: self.committed[name]]) for name, costs in self.costs.items())
        self.members.publish(self.paid - known)


async def play(url: str, client: redis.Redis, steps: list[tuple[str, int, int]]) -> None:
    """One example."""
    client.flushall()
    folder = Path(tempfile.mkdtemp())
    try:
        async with membership(url, client, folder, 3, STEADY) as members:
            members.prepay(BALANCE, credit=CREDIT)
            for member in members.all:
                await member.begin()
            world = World(members)
            for what, gateway, number in steps:
                await world.step(what, members.all[gateway], number)
                assert world.exposure() <= world.paid + CREDIT * 3 // 4, (what, gateway, number)
            for member in members.all:
                await world.step("mend", member, 0)
            await asyncio.gather(*world.asked)
            assert world.exposure() <= world.paid + CREDIT * 3 // 4
            for member in members.all:
                for ticket in list(member.tickets):
                    assert isinstance(ticket, Ticket)
                    member.tickets.remove(ticket)
                    member.admission.abandon(ticket)
            owed = {
                member.name: sum(world.costs[member.name][world.committed[member.name] :]) for member in members.all
            }
            await until(lambda: members.held() == sum(owed.values()))
            assert {member.name: members.held_by(member) for member in members.all} == owed
    finally:
        shutil.rmtree(folder)


def _example(url: str, client: redis.Redis, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(STEPS, min_size=5, max_size=40))
    def play_all(steps: list[tuple[str, int, int]]) -> None:
        asyncio.run(play(url, client, steps))

    play_all()


def test_no_order_of_events_commits_more_than_balance_and_credit(redis_url: str, redis_client: redis.Redis) -> None:
    _example(redis_url, redis_client, 40)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_no_order_of_events_commits_more_than_balance_and_credit_at_length(
    redis_url: str, redis_client: redis.Redis
) -> None:
    _example(redis_url, redis_client, 400)
