"""Limits and balances, decided by several gateways on one real Redis."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from freehold.gateway.admission.ticket import Ticket
from freehold.gateway.errors import ApiError, Shape
from freehold.wire import names
from freehold.wire.records import Limits
from tests.integration.gateway.admission_members import ENDPOINT, KEY, TENANT, TOKEN, Members, membership, until


@pytest.fixture
async def members(redis_url: str, redis_client: redis.Redis, tmp_path: Path) -> AsyncIterator[Members]:
    """Four gateways."""
    async with membership(redis_url, redis_client, tmp_path) as found:
        yield found


async def rush(members: Members, want: Any, asks: int = 200) -> list[Ticket | ApiError]:
    """That many at once, spread over all gateways."""
    gateways = members.all
    return await asyncio.gather(*(gateways[number % len(gateways)].ask(want) for number in range(asks)))


def admitted(answers: list[Ticket | ApiError]) -> int:
    """How many."""
    return sum(isinstance(answer, Ticket) for answer in answers)


async def room_for_ten(members: Members, room: str) -> Any:
    """A want of which ten find room."""
    match room:
        case "requests":
            members.limit(tenant=Limits(requests_per_minute=10))
        case "tokens":
            members.limit(endpoint=Limits(tokens_per_minute=10_099))
        case "concurrency":
            members.limit(key=Limits(concurrency=10))
        case _:
            members.prepay(10_999 * TOKEN)
    return members.want(prompt=400, max_tokens=600)


async def ten_of_two_hundred(members: Members, room: str, times: int) -> None:
    """The issue's measure."""
    want = await room_for_ten(members, room)
    for member in members.all:
        await member.begin()
    for _ in range(times):
        answers = await rush(members, want)
        assert admitted(answers) == 10
        refused = {answer.status for answer in answers if isinstance(answer, ApiError)}
        assert refused == ({402} if room == "balance" else {429})
        for member in members.all:
            for ticket in list(member.tickets):
                member.tickets.remove(ticket)
                member.admission.abandon(ticket)
        await until(lambda: _nothing_taken(members))


def _nothing_taken(members: Members) -> bool:
    buckets = [members.client.hgetall(key) for key in members.client.scan_iter(names.quota("*"))]
    free = all(bucket[b"c"] == b"0" and bucket[b"r"] == b"0" and bucket[b"t"] == b"0" for bucket in buckets)
    return free and members.held() == 0


@pytest.mark.parametrize("room", ["requests", "tokens", "concurrency", "balance"])
async def test_two_hundred_at_once_on_room_for_ten_admit_ten(members: Members, room: str) -> None:
    await ten_of_two_hundred(members, room, 20)


@pytest.mark.soak
@pytest.mark.parametrize("room", ["requests", "tokens", "concurrency", "balance"])
async def test_two_hundred_at_once_on_room_for_ten_admit_ten_a_hundred_times(members: Members, room: str) -> None:
    await ten_of_two_hundred(members, room, 100)


async def test_a_refused_request_takes_nothing_of_its_other_limits(members: Members) -> None:
    members.limit(
        key=Limits(requests_per_minute=100, tokens_per_minute=100_000, concurrency=100),
        tenant=Limits(concurrency=1),
    )
    members.prepay(10**12)
    await members.all[0].begin()
    first = await members.all[0].ask(members.want(prompt=10, max_tokens=10))
    assert isinstance(first, Ticket)
    refused = await rush(members=_only(members, 0), want=members.want(prompt=10, max_tokens=10), asks=20)
    assert admitted(refused) == 0
    bucket = members.client.hgetall(names.quota(f"k:{KEY}"))
    assert bucket[b"c"] == b"1"
    assert int(bucket[b"r"]) <= 60_000
    assert int(bucket[b"t"]) <= 20 * 60_000
    assert members.held() == 20 * TOKEN


def _only(members: Members, number: int) -> Members:
    few = Members(members.client)
    few.all = [members.all[number]]
    return few


async def test_what_was_reserved_and_not_used_is_returned(members: Members) -> None:
    members.limit(key=Limits(tokens_per_minute=10_000, concurrency=1))
    members.prepay(10_000 * TOKEN)
    gateway = members.all[0]
    await gateway.begin()
    ticket = await gateway.ask(members.want(prompt=4_000, max_tokens=4_000))
    assert isinstance(ticket, Ticket)
    assert members.held() == 8_000 * TOKEN
    assert b"x-ratelimit-remaining-tokens: 2000\r\n" in ticket.headers
    assert (await gateway.ask(members.want(prompt=1_000, max_tokens=2_000))).status == 429  # type: ignore[union-attr]
    spent = gateway.settle(ticket, 100, 200)
    ticket = await gateway.ask(members.want(prompt=1_000, max_tokens=2_000))
    assert isinstance(ticket, Ticket), ticket
    assert b"x-ratelimit-remaining-tokens: 6700\r\n" in ticket.headers
    assert members.held() == spent + 3_000 * TOKEN


async def test_settled_twice_counts_once(members: Members) -> None:
    members.limit(key=Limits(requests_per_minute=100, tokens_per_minute=1_000_000, concurrency=5))
    members.prepay(10**9)
    gateway = members.all[0]
    await gateway.begin()
    ticket = await gateway.ask(members.want(prompt=100, max_tokens=100))
    other = await gateway.ask(members.want(prompt=100, max_tokens=100))
    assert isinstance(ticket, Ticket)
    assert isinstance(other, Ticket)
    spent = gateway.settle(ticket, 10, 10)
    gateway.admission.settle(ticket, None, 0)
    gateway.admission.abandon(ticket)
    await until(lambda: members.held() == 200 * TOKEN + spent)
    assert members.in_flight() == 1


async def test_a_cost_is_held_until_the_ledger_has_it(members: Members) -> None:
    members.prepay(1_000 * TOKEN)
    gateway = members.all[0]
    await gateway.begin()
    ticket = await gateway.ask(members.want(prompt=500, max_tokens=400))
    assert isinstance(ticket, Ticket)
    spent = gateway.settle(ticket, 500, 300)
    await until(lambda: members.held() == spent)
    assert isinstance(await gateway.ask(members.want(prompt=100, max_tokens=101)), ApiError)
    members.publish(200 * TOKEN)
    gateway.admission.confirmed(1)
    await until(lambda: members.held() == 0)
    assert isinstance(await gateway.ask(members.want(prompt=100, max_tokens=100)), Ticket)


async def test_without_max_tokens_a_request_gets_what_its_limits_and_balance_leave(members: Members) -> None:
    members.limit(key=Limits(tokens_per_minute=3_000))
    members.prepay(2_000 * TOKEN)
    gateway = members.all[0]
    await gateway.begin()
    first = await gateway.ask(members.want(prompt=500, model_len=8_192))
    assert isinstance(first, Ticket)
    assert first.max_tokens == 1_500  # the balance leaves that
    members.publish(10**12)
    second = await gateway.ask(members.want(prompt=500, model_len=8_192))
    assert isinstance(second, Ticket)
    assert 500 <= second.max_tokens <= 510  # the bucket leaves that
    third = await gateway.ask(members.want(prompt=500, model_len=8_192))
    assert isinstance(third, ApiError)
    assert (third.status, third.code) == (429, "rate_limit_exceeded")


async def test_a_request_that_fits_altogether_keeps_its_body(members: Members) -> None:
    members.limit(key=Limits(tokens_per_minute=100_000))
    gateway = members.all[0]
    await gateway.begin()
    ticket = await gateway.ask(members.want(prompt=500))
    assert isinstance(ticket, Ticket)
    assert ticket.max_tokens == 0


async def test_what_nothing_limits_is_admitted_at_once(members: Members) -> None:
    members.all[0].start()
    future = members.all[0].ask(members.want(prompt=500))
    assert future.done()
    ticket = future.result()
    assert isinstance(ticket, Ticket)
    assert (ticket.max_tokens, ticket.headers) == (0, b"")
    want = members.want(prompt=500)
    want.route = replace(want.route, default_max_tokens=77)
    members.snapshot.changes += 1
    assert members.all[0].ask(want).result().max_tokens == 77  # type: ignore[union-attr]
    want.max_tokens = 5
    assert members.all[0].ask(want).result().max_tokens == 0  # type: ignore[union-attr]


async def test_a_rate_refusal_says_what_it_is_and_when_to_come_back(members: Members) -> None:
    members.limit(key=Limits(requests_per_minute=1))
    gateway = members.all[0]
    await gateway.begin()
    first, second = [await gateway.ask(members.want(prompt=1, max_tokens=1)) for _ in range(2)]
    assert isinstance(first, Ticket)
    assert isinstance(second, ApiError)
    assert b"x-ratelimit-limit-requests: 1\r\nx-ratelimit-remaining-requests: 0\r\n" in first.headers
    assert b'"code":"rate_limit_exceeded"' in second.body(Shape.OPENAI)
    assert b"requests per minute: limit 1" in second.body(Shape.OPENAI)
    assert b"retry-after: 60\r\n" in second.headers()
    assert re.search(rb"x-ratelimit-reset-requests: (59\.\d+s|1m0s)\r\n", second.headers())


async def test_a_request_larger_than_a_minutes_tokens_is_told_not_to_retry(members: Members) -> None:
    members.limit(tenant=Limits(tokens_per_minute=100))
    gateway = members.all[0]
    await gateway.begin()
    refused = await gateway.ask(members.want(prompt=50, max_tokens=51))
    assert isinstance(refused, ApiError)
    assert refused.status == 429
    assert b"x-should-retry: false\r\n" in refused.headers()


async def test_an_empty_balance_is_402(members: Members) -> None:
    members.prepay(100 * TOKEN)
    gateway = members.all[0]
    await gateway.begin()
    refused = await gateway.ask(members.want(prompt=100, max_tokens=1))
    assert isinstance(refused, ApiError)
    assert refused.status == 402
    assert b'"type":"insufficient_quota"' in refused.body(Shape.OPENAI)
    assert members.held() == 0


async def test_prepaid_without_known_prices_is_503(members: Members) -> None:
    members.prepay(10**12)
    members.snapshot.priced = False
    await members.all[0].begin()
    refused = await members.all[0].ask(members.want(prompt=1, max_tokens=1))
    assert isinstance(refused, ApiError)
    assert refused.status == 503


async def test_an_invoiced_tenant_needs_no_balance(members: Members) -> None:
    members.limit(endpoint=Limits(concurrency=2))
    await members.all[0].begin()
    ticket = await members.all[0].ask(members.want(prompt=1, max_tokens=1))
    assert isinstance(ticket, Ticket)
    assert members.in_flight(f"e:{ENDPOINT}") == 1
    assert members.client.exists(names.money(TENANT)) == 0


async def test_many_requests_of_one_turn_are_one_command(members: Members) -> None:
    members.limit(key=Limits(concurrency=1_000))
    gateway = members.all[0]
    await gateway.begin()
    before = _script_calls(members.client)
    answers = await rush(_only(members, 0), members.want(prompt=1, max_tokens=1), 100)
    assert admitted(answers) == 100
    assert _script_calls(members.client) - before <= 3  # a renewal may fall into it


def _script_calls(client: redis.Redis) -> int:
    stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))
