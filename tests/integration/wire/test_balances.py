"""Balances and their epoch in a real Redis."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis

from freehold.wire import names
from freehold.wire.balances import Balances, LeaseAlive, Released


def _money(client: redis.Redis, tenant: str) -> dict[str, int]:
    found: Any = client.hgetall(names.money(tenant))
    return {name.decode(): int(value) for name, value in found.items()}


def test_the_latest_version_of_a_balance_wins_and_what_is_held_stays(redis_client: redis.Redis) -> None:
    balances = Balances(redis_client)
    redis_client.hset(names.money("tnt_1"), "h", 3)
    assert balances.put({"tnt_1": 10, "tnt_2": -20}, version=5) == 0
    assert balances.put({"tnt_1": 99}, version=4) == 5
    assert balances.put({"tnt_1": 99}, version=5) == 0
    assert _money(redis_client, "tnt_1") == {"b": 10, "v": 5, "h": 3}
    assert balances.put({"tnt_1": 7, "tnt_2": 8}, version=6) == 0
    assert (_money(redis_client, "tnt_1")["b"], _money(redis_client, "tnt_2")["b"]) == (7, 8)


def test_balances_too_large_for_a_double_arrive_to_the_nano(redis_client: redis.Redis) -> None:
    Balances(redis_client).put({"tnt_1": 2**62 + 1, "tnt_2": -(2**62) - 1}, version=1)
    assert _money(redis_client, "tnt_1")["b"] == 2**62 + 1
    assert _money(redis_client, "tnt_2")["b"] == -(2**62) - 1


def test_more_balances_than_fit_into_one_call(redis_client: redis.Redis) -> None:
    balances = Balances(redis_client)
    many = {f"tnt_{number}": number for number in range(1_201)}
    assert balances.put(many, version=3) == 0
    balances.put({"tnt_1": 5}, version=9)
    assert balances.put(many, version=8) == 9
    assert _money(redis_client, "tnt_1200") == {"b": 1_200, "v": 8}


def test_an_epoch_says_when_it_began_and_whom_it_waits_for(redis_client: redis.Redis) -> None:
    balances = Balances(redis_client)
    assert balances.epoch().id == ""
    token = balances.draft()
    assert balances.begin(token, expected={"gw-1", "gw-0"})
    found: Any = redis_client.hgetall(names.MONEY_EPOCH)
    assert (found[b"id"].decode(), json.loads(found[b"expected"])) == (token, ["gw-0", "gw-1"])
    assert abs(int(found[b"at"]) - time.time() * 1_000) < 10_000
    assert not balances.epoch().open
    redis_client.set(names.MONEY_OPEN, token)
    assert balances.epoch().open


def test_of_two_that_begin_an_epoch_one_does(redis_client: redis.Redis) -> None:
    balances = Balances(redis_client)
    first, second = balances.draft(), balances.draft()
    assert balances.begin(second, expected=())
    assert not balances.begin(first, expected=())
    assert balances.epoch().id == second


def test_no_epoch_begins_where_redis_lost_its_memory_meanwhile(redis_client: redis.Redis) -> None:
    balances = Balances(redis_client)
    token = balances.draft()
    redis_client.flushall()
    assert not balances.begin(token, expected=())
    assert balances.epoch().id == ""


def test_a_gateway_that_is_gone_is_forgotten_with_all_it_held(redis_client: redis.Redis) -> None:
    redis_client.hset(names.held("gw-0"), mapping={"m:tnt_1": 30, "m:tnt_2": -4, "c:k:key_1": 2, "c:t:tnt_1": 2})
    redis_client.hset(names.held("gw-0"), "s", "its session")
    redis_client.hset(names.money("tnt_1"), mapping={"b": 100, "h": 50})
    redis_client.hset(names.money("tnt_2"), mapping={"b": 100, "h": 1})
    redis_client.hset(names.quota("k:key_1"), "c", 5)
    redis_client.hset(names.quota("t:tnt_1"), "c", 6)
    redis_client.hset(names.MONEY_JOINED, "gw-0", "e")
    redis_client.zadd(names.GATEWAYS, {"gw-0": 1, "gw-1": 1})
    released = Balances(redis_client).forget("gw-0")
    assert released == Released(money={"tnt_1": 30, "tnt_2": -4}, requests={"k:key_1": 2, "t:tnt_1": 2})
    assert (_money(redis_client, "tnt_1")["h"], _money(redis_client, "tnt_2")["h"]) == (20, 5)
    assert redis_client.hget(names.quota("k:key_1"), "c") == b"3"
    assert redis_client.hget(names.quota("t:tnt_1"), "c") == b"4"
    assert not redis_client.exists(names.held("gw-0"), names.MONEY_JOINED)
    assert redis_client.zrange(names.GATEWAYS, 0, -1) == [b"gw-1"]
    assert Balances(redis_client).forget("gw-0") == Released(money={}, requests={})


def test_a_gateway_with_a_lease_is_not_forgotten(redis_client: redis.Redis) -> None:
    redis_client.hset(names.held("gw-0"), "m:tnt_1", 30)
    redis_client.zadd(names.GATEWAYS, {"gw-0": time.time() * 1_000 + 15_000})
    with pytest.raises(LeaseAlive):
        Balances(redis_client).forget("gw-0")
    assert redis_client.exists(names.held("gw-0"))
