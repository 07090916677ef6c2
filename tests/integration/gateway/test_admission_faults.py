"""What Redis forgets, what is lost on the way, who dies: nothing is counted twice, and nobody spends too much."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from freehold.gateway.admission.estate import Estate
from freehold.gateway.admission.session import Lease
from freehold.gateway.admission.ticket import Ticket
from freehold.gateway.errors import ApiError
from freehold.gateway.journal import Journal
from freehold.gateway.settings import Settings
from freehold.wire import names
from freehold.wire.records import Limits
from tests.integration.gateway.admission_members import KEY, TENANT, TOKEN, Member, Members, membership, until


@pytest.fixture
async def members(redis_url: str, redis_client: redis.Redis, tmp_path: Path) -> AsyncIterator[Members]:
    """Three gateways, with short leases."""
    async with membership(redis_url, redis_client, tmp_path, 3) as found:
        yield found


async def take(member: Member, members: Members, tokens: int = 100) -> Ticket:
    """A reservation that must succeed."""
    ticket = await member.ask(members.want(prompt=tokens // 2, max_tokens=tokens - tokens // 2))
    assert isinstance(ticket, Ticket), ticket
    return ticket


async def status(member: Member, members: Members, tokens: int = 100) -> int:
    """200 where a request would be admitted (it is given back), else the error's."""
    answer = await member.ask(members.want(prompt=tokens // 2, max_tokens=tokens - tokens // 2))
    if isinstance(answer, ApiError):
        return answer.status
    member.tickets.remove(answer)
    member.admission.abandon(answer)
    return 200


async def test_a_dead_gateways_concurrency_comes_back_and_its_money_stays(members: Members) -> None:
    members.limit(key=Limits(concurrency=3))
    members.prepay(10_000 * TOKEN)
    dying, living = members.all[:2]
    await dying.begin()
    await living.begin()
    for _ in range(3):
        await take(dying, members)
    assert await status(living, members) == 429
    await dying.die()
    begun = time.monotonic()
    await until(lambda: members.in_flight() == 0)
    assert time.monotonic() - begun < 2 * (living.lease.seconds + living.lease.renew_seconds)
    assert await status(living, members) == 200
    await until(lambda: members.held() == 300 * TOKEN)


def test_a_lease_ends_within_thirty_seconds() -> None:
    lease = Lease()
    assert lease.seconds + 2 * lease.renew_seconds <= 30


async def test_money_of_a_dead_gateway_is_free_once_its_journal_is_settled(members: Members) -> None:
    members.prepay(10_000 * TOKEN)
    dying, living = members.all[:2]
    await dying.begin()
    await living.begin()
    spent = dying.settle(await take(dying, members), 50, 10)
    await take(dying, members)
    await until(lambda: members.held() == spent + 100 * TOKEN)
    await dying.die()
    dying.wire.mend()
    await dying.begin()  # of the open one, recovery has made a close without a bill, or with one
    assert members.held() == spent
    members.publish(10_000 * TOKEN - spent)
    dying.admission.confirmed(1)
    await until(lambda: members.held() == 0)


async def test_a_restart_does_not_hold_what_metering_has_confirmed_meanwhile(members: Members) -> None:
    members.prepay(10_000 * TOKEN)
    gateway = members.all[0]
    await gateway.begin()
    gateway.settle(await take(gateway, members), 50, 10)
    second = gateway.settle(await take(gateway, members), 50, 20)
    await gateway.die()
    members.client.hset(names.WATERMARKS, f"{gateway.name}/{gateway.journal.epoch}", 1)
    gateway.wire.mend()
    await gateway.begin()
    assert members.held() == second


async def test_a_lost_reply_heals(members: Members) -> None:
    members.limit(key=Limits(concurrency=2, requests_per_minute=1_000))
    members.prepay(10_000 * TOKEN, credit=4_000 * TOKEN)
    gateway = members.all[0]
    await gateway.begin()
    kept = await take(gateway, members)
    gate = gateway.wire.stall(replies=True)
    begun = time.monotonic()
    answer = await gateway.ask(members.want(prompt=50, max_tokens=50))
    assert time.monotonic() - begun < 1.5
    assert isinstance(answer, ApiError)  # two in flight at most, shared by four gateways, and one has its one
    await until(lambda: gateway.admission.online)
    await until(lambda: (members.in_flight(), members.held()) == (1, 100 * TOKEN))
    gate.set()
    gateway.settle(kept, 50, 50)
    await until(lambda: (members.in_flight(), members.held()) == (0, 100 * TOKEN))


async def test_what_reaches_redis_after_its_connection_was_given_up_counts_for_nothing(members: Members) -> None:
    members.limit(key=Limits(concurrency=100))
    members.prepay(10_000 * TOKEN)
    gateway = members.all[0]
    await gateway.begin()
    gate = gateway.wire.stall(asks=True)
    answers = [gateway.ask(members.want(prompt=50, max_tokens=50)) for _ in range(5)]
    assert {answer.status for answer in await asyncio.gather(*answers) if isinstance(answer, ApiError)} == {503}
    await until(lambda: gateway.admission.online)
    kept = await take(gateway, members)
    gate.set()  # the five reach Redis now
    for _ in range(20):
        assert await status(gateway, members) == 200
    assert (members.in_flight(), members.held()) in {(1, 100 * TOKEN), (2, 200 * TOKEN)}
    gateway.settle(kept, 0, 0)
    await until(lambda: (members.in_flight(), members.held()) == (0, 0))


async def test_a_reaped_gateway_that_lives_joins_again(members: Members) -> None:
    members.limit(key=Limits(concurrency=5))
    members.prepay(10_000 * TOKEN)
    gateway, other = members.all[:2]
    await gateway.begin()
    kept = await take(gateway, members)
    members.client.zadd(names.GATEWAYS, {gateway.name: 1})
    await other.begin()
    await until(lambda: (members.in_flight(), members.held()) == (1, 100 * TOKEN))
    gateway.settle(kept, 50, 50)
    await until(lambda: (members.in_flight(), members.held()) == (0, 100 * TOKEN))


async def test_emptied_redis_gives_outage_credit_only_until_all_have_joined_a_new_epoch(members: Members) -> None:
    members.limit(key=Limits(concurrency=50))
    members.prepay(1_000 * TOKEN, credit=800 * TOKEN)  # 200 tokens for each of at most four
    one, two = members.all[:2]
    await one.begin()
    await two.begin()
    await take(one, members, 500)
    await take(two, members, 400)
    members.client.flushall()
    await until(lambda: members.in_flight() == 2)
    assert await status(one, members, 201) == 503
    assert await status(one, members, 200) == 200
    on_credit = await take(one, members, 150)
    assert await status(one, members, 51) == 503
    members.publish(1_000 * TOKEN)
    members.begin_epoch(expected=("g0", "g1", "g2"))
    await until(lambda: members.held() == 1_050 * TOKEN)
    assert not members.is_open()
    assert await status(two, members, 201) == 503
    await until(members.is_open)  # g2 was waited for in vain
    assert await status(two, members, 1) == 402
    one.admission.abandon(on_credit)
    await until(lambda: members.held() == 900 * TOKEN)
    assert await status(two, members, 100) == 200
    assert await status(two, members, 101) == 402


async def test_an_epoch_waits_for_a_gateway_that_is_expected(members: Members) -> None:
    members.snapshot.changes += 1
    members.prepay(1_000 * TOKEN)
    members.begin_epoch(expected=("g0", "g1"))
    one, two = members.all[:2]
    await one.begin()
    assert await status(one, members) == 503
    await two.begin()
    await until(members.is_open)
    assert await status(one, members) == 200


async def test_a_share_of_outage_credit_is_spendable_once(members: Members) -> None:
    members.prepay(100 * TOKEN, credit=400 * TOKEN)
    gateway = members.all[0]
    await gateway.begin()
    await take(gateway, members, 100)
    gateway.wire.cut()
    await until(lambda: not gateway.admission.online)
    credit = await take(gateway, members, 60)
    assert await status(gateway, members, 41) == 503
    gateway.wire.mend()
    await until(lambda: gateway.admission.online)
    assert await status(gateway, members, 1) == 402  # the balance owes 60
    gateway.wire.cut()
    await until(lambda: not gateway.admission.online)
    assert await status(gateway, members, 41) == 503
    assert await status(gateway, members, 40) == 200
    gateway.settle(credit, 10, 10)  # 40 were not needed
    assert await status(gateway, members, 80) == 200
    gateway.wire.mend()
    members.publish(1_000 * TOKEN)
    await until(lambda: gateway.admission.online)
    assert await status(gateway, members, 1) == 200  # covered
    gateway.wire.cut()
    await until(lambda: not gateway.admission.online)
    assert await status(gateway, members, 100) == 200
    assert await status(gateway, members, 101) == 503


async def test_a_balance_that_does_not_know_of_a_credit_yet_does_not_cover_it(members: Members) -> None:
    members.limit(key=Limits(concurrency=40))
    members.prepay(1_000 * TOKEN, credit=400 * TOKEN)
    members.begin_epoch(expected=("elsewhere",))
    gateway = members.all[0]
    await gateway.begin()
    gate = gateway.wire.stall(replies=True)
    on_credit = gateway.ask(members.want(prompt=0, max_tokens=60))
    await until(lambda: members.in_flight() == 1)
    members.client.set(names.MONEY_OPEN, f"epoch-{members.epochs}")
    by_balance = gateway.ask(members.want(prompt=0, max_tokens=10))
    await until(lambda: members.held() == 10 * TOKEN)
    gate.set()
    assert isinstance(await on_credit, Ticket)
    assert isinstance(await by_balance, Ticket)
    gateway.wire.cut()
    await until(lambda: not gateway.admission.online)
    assert await status(gateway, members, 41) == 503


async def test_a_spent_share_stays_spent_when_the_gateway_is_killed(members: Members) -> None:
    members.prepay(0, credit=400 * TOKEN)
    gateway = members.all[0]
    await gateway.begin()
    gateway.wire.cut()
    await until(lambda: not gateway.admission.online)
    await take(gateway, members, 96)
    await gateway.die()
    gateway.start()
    assert await status(gateway, members, 10) == 503


async def test_without_outage_credit_prepaid_is_503_with_a_time_to_come_back(members: Members) -> None:
    members.prepay(10_000 * TOKEN)
    gateway = members.all[0]
    await gateway.begin()
    gateway.wire.cut()
    await until(lambda: not gateway.admission.online)
    refused = await gateway.ask(members.want(prompt=1, max_tokens=1))
    assert isinstance(refused, ApiError)
    assert refused.status == 503
    assert b"retry-after: " in refused.headers()


async def test_without_redis_each_gateway_keeps_its_part_of_every_limit(members: Members) -> None:
    members.limit(key=Limits(requests_per_minute=40, concurrency=8))
    gateway = members.all[0]
    await gateway.begin()
    gateway.wire.cut()
    await until(lambda: not gateway.admission.online)
    tickets = [await take(gateway, members), await take(gateway, members)]
    assert await status(gateway, members) == 429  # two of eight in flight
    for ticket in tickets:
        gateway.settle(ticket, 1, 1)
    answers = [await status(gateway, members) for _ in range(5)]
    for _ in range(8):
        gateway.settle(await take(gateway, members), 1, 1)
    assert answers == [200] * 5  # given back
    assert await status(gateway, members) == 429  # ten of forty
    gateway.wire.mend()
    await until(lambda: gateway.admission.online)
    assert await status(gateway, members) == 200


async def test_leaving_gives_back_concurrency_and_keeps_what_is_owed(members: Members) -> None:
    members.limit(key=Limits(concurrency=5))
    members.prepay(10_000 * TOKEN)
    gateway = members.all[0]
    await gateway.begin()
    spent = gateway.settle(await take(gateway, members), 10, 10)
    await gateway.end()
    assert (members.in_flight(), members.held()) == (0, spent)
    assert members.client.zscore(names.GATEWAYS, gateway.name) is None


async def test_replay_frees_a_dead_gateways_money_as_metering_confirms(members: Members) -> None:
    members.limit(key=Limits(concurrency=5))
    members.prepay(10_000 * TOKEN)
    gateway, other = members.all[:2]
    await gateway.begin()
    await other.begin()
    first = gateway.settle(await take(gateway, members), 10, 10)
    second = gateway.settle(await take(gateway, members), 10, 20)
    await take(gateway, members, 1_000)
    await gateway.die()
    journal = Journal(gateway.state / "journal", segment_bytes=1 << 20, reserve_bytes=0)
    settings = Settings(redis_url=gateway.wire.url, state=gateway.state, gateway_id=gateway.name)
    gateway.wire.mend()
    estate = Estate(members.snapshot, settings, journal)
    task = asyncio.create_task(estate.run())
    try:
        await until(lambda: (members.held(), members.in_flight()) == (first + second, 0))
        journal.confirm(1)
        await until(lambda: members.held() == second)
        assert not estate.settled
        journal.confirm(2)
        await until(lambda: estate.settled)
        assert members.held() == 0
        assert not members.client.exists(names.held(gateway.name))
    finally:
        task.cancel()
        await asyncio.wait([task])
        journal.shut()


async def test_a_restored_database_makes_what_it_lacks_owed_again(members: Members) -> None:
    members.prepay(10_000 * TOKEN)
    gateway = members.all[0]
    await gateway.begin()
    first = gateway.settle(await take(gateway, members), 10, 10)
    second = gateway.settle(await take(gateway, members), 10, 20)
    gateway.admission.confirmed(2)
    await until(lambda: members.held() == 0)
    gateway.admission.confirmed(1)
    await until(lambda: members.held() == second)
    gateway.admission.confirmed(0)
    await until(lambda: members.held() == first + second)


async def test_a_tenant_that_begins_to_prepay_owes_what_the_ledger_does_not_have(members: Members) -> None:
    members.limit(key=Limits(concurrency=5))
    gateway = members.all[0]
    await gateway.begin()
    spent = gateway.settle(await take(gateway, members), 10, 10)
    members.prepay(10_000 * TOKEN)
    await until(lambda: members.held() == spent)


async def test_a_script_that_redis_forgot_is_sent_again(members: Members) -> None:
    members.limit(key=Limits(concurrency=5))
    gateway = members.all[0]
    await gateway.begin()
    members.client.script_flush()
    await take(gateway, members)
    assert members.in_flight() == 1
    assert members.client.hget(names.held(gateway.name), f"c:k:{KEY}") == b"1"
    assert members.client.hget(names.held(gateway.name), f"m:{TENANT}") is None
