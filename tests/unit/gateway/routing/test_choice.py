"""Prompts go where their beginning is cached, unless that replica has too much to do."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from freehold.gateway.routing.router import SLACK
from tests.unit.gateway.routing.conftest import Traffic, key_of, route_of

if TYPE_CHECKING:
    from collections.abc import Callable

EIGHT = tuple(f"r{number}" for number in range(8))
ROUTE = route_of(*EIGHT)


def text(seed: int, size: int) -> str:
    return Random(seed).randbytes(size // 2).hex()


def test_the_turns_of_a_conversation_go_to_one_replica(traffic: Traffic) -> None:
    for conversation in range(20):
        so_far = text(conversation, 600)
        first = traffic.ask(ROUTE, key_of(so_far))
        for turn in range(10):
            so_far += text(1_000 * conversation + turn, 500)
            assert traffic.ask(ROUTE, key_of(so_far)) == first


def test_prompts_with_one_long_beginning_go_to_one_replica(traffic: Traffic) -> None:
    system = text(1, 8_000)
    assert len({traffic.ask(ROUTE, key_of(system + text(number, 300))) for number in range(50)}) == 1


def test_different_beginnings_are_spread_over_all_replicas(traffic: Traffic) -> None:
    counts = Counter(traffic.ask(ROUTE, key_of(text(number, 1_000))) for number in range(800))
    assert set(counts) == set(EIGHT)
    assert max(counts.values()) < 2 * min(counts.values())


def test_two_gateways_agree_on_a_prefix_that_neither_has_seen() -> None:
    one, other = Traffic(), Traffic()
    for number in range(100):
        assert one.ask(ROUTE, key_of(text(number, 700))) == other.ask(ROUTE, key_of(text(number, 700)))


def test_a_new_replica_takes_only_its_share_of_the_prefixes() -> None:
    before = [Traffic().ask(ROUTE, key_of(text(number, 700))) for number in range(300)]
    larger = route_of(*EIGHT, "r8")
    after = [Traffic().ask(larger, key_of(text(number, 700))) for number in range(300)]
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"r8"}
    assert len(moved) < 70  # a ninth is 33


def test_tenants_and_adapters_with_the_same_prompt_have_choices_of_their_own() -> None:
    same = text(1, 1_000)
    by_tenant = {Traffic().ask(ROUTE, key_of(same, tenant=f"tnt_{number}")) for number in range(40)}
    by_adapter = {Traffic().ask(ROUTE, key_of(same, adapter=f"lora-{number}")) for number in range(40)}
    assert len(by_tenant) > 4
    assert len(by_adapter) > 4


def test_what_one_tenant_asked_moves_no_other_tenants_prompt(traffic: Traffic) -> None:
    same = text(1, 1_000)
    expected = Traffic().ask(ROUTE, key_of(same, tenant="tnt_2"))
    for number in range(20):
        traffic.ask(ROUTE, key_of(same + text(number, 400), tenant="tnt_1"))
    assert traffic.ask(ROUTE, key_of(same, tenant="tnt_2")) == expected


def test_no_replica_gets_much_more_than_its_share_of_one_hot_prefix(traffic: Traffic) -> None:
    system = text(1, 4_000)
    counts = Counter(traffic.begin(ROUTE, key_of(system + text(number, 300))) for number in range(400))
    assert max(counts.values()) <= 1.5 * 400 / 8


def test_a_prompt_that_was_spilled_stays_where_it_went(traffic: Traffic) -> None:
    prompt = text(1, 2_000)
    crowded = traffic.begin(ROUTE, key_of(prompt))
    for _ in range(20):
        traffic.router.begin(crowded)
    elsewhere = traffic.ask(ROUTE, key_of(prompt))
    assert elsewhere != crowded
    for _ in range(20):
        traffic.router.finish(crowded, failed=False)
    assert traffic.ask(ROUTE, key_of(prompt + text(2, 300))) == elsewhere


def test_a_short_prompt_goes_where_the_fewest_requests_are(traffic: Traffic) -> None:
    assert key_of("Hello") is None
    taken = [traffic.begin(ROUTE, None) for _ in range(24)]
    assert set(Counter(taken).values()) == {3}


def test_a_replica_over_its_bound_gets_no_prompt_even_if_nothing_waits_there(
    traffic_with: Callable[..., Traffic],
) -> None:
    def most(load: float) -> int:
        traffic = traffic_with(load=load)
        for _ in range(200):
            traffic.answer(traffic.begin(ROUTE, key_of(text(1, 4_000))))
        return max(map(len, traffic.works.values()))

    assert 25 < most(1.25) <= 1.25 * 25 + SLACK + 1
    assert most(2.0) > most(1.25)


def test_a_prompt_waits_for_its_cache_rather_than_be_computed_elsewhere(traffic: Traffic) -> None:
    prompt = text(1, 8_000)
    home = traffic.begin(ROUTE, key_of(prompt))
    assert traffic.begin(ROUTE, key_of(prompt + text(2, 400))) == home


def test_a_prompt_is_computed_elsewhere_where_more_waits_than_the_cache_saves(traffic: Traffic) -> None:
    prompt = text(1, 2_000)
    home = traffic.ask(ROUTE, key_of(prompt))
    number = 2
    while sum(traffic.works.get(home, ())) < 8_000:  # others keep the same replica busy, with few requests
        traffic.begin(ROUTE, key_of(text(number, 12_000)))
        number += 1
    assert traffic.begin(ROUTE, key_of(prompt + text(0, 400))) != home


def test_a_prompt_that_was_answered_no_longer_stands_in_the_way(traffic: Traffic) -> None:
    route = route_of("a", "b")
    first = traffic.begin(route, key_of(text(1, 20_000)))
    assert traffic.begin(route, None) != first
    traffic.answer(first)
    assert traffic.begin(route, None) == first


def test_conversations_under_one_system_prompt_are_the_same_to_two_gateways() -> None:
    """Each knows the system prompt from others, neither knows the conversation."""
    system = text(1, 4_000)
    one, other = Traffic(), Traffic()
    for traffic in (one, other):
        for number in range(100, 140):
            traffic.begin(ROUTE, key_of(system + text(number, 3_000)))
        for replica, works in traffic.works.items():
            while works:
                traffic.end(replica)
    found = [
        (one.ask(ROUTE, key_of(system + text(number, 3_000))), other.ask(ROUTE, key_of(system + text(number, 3_500))))
        for number in range(200, 260)
    ]
    assert sum(here == there for here, there in found) > 55
    assert len({here for here, _ in found}) > 4


def test_a_retry_goes_to_another_replica(traffic: Traffic) -> None:
    key = key_of(text(1, 1_000))
    first = traffic.begin(ROUTE, key)
    second = traffic.begin(ROUTE, key, [first])
    third = traffic.begin(ROUTE, key, [first, second])
    assert len({first, second, third}) == 3


def test_where_all_were_tried_one_of_them_is_tried_again(traffic: Traffic) -> None:
    route = route_of("a", "b")
    assert traffic.begin(route, None, ["a", "b"]) in {"a", "b"}
    assert traffic.begin(route_of("a"), key_of(text(1, 500)), ["a"]) == "a"


def test_requests_that_a_replica_had_alone_count_once_it_has_company(traffic: Traffic) -> None:
    for _ in range(3):
        traffic.router.begin("a")  # the only one is not chosen
    route = route_of("a", "b")
    assert [traffic.ask(route) for _ in range(4)] == ["b"] * 4
    for _ in range(3):
        traffic.router.finish("a", failed=False)
    assert traffic.serving(route) == {"a", "b"}


def test_it_is_known_how_choices_came_about(traffic: Traffic) -> None:
    traffic.ask(ROUTE, key_of(text(1, 1_000)))
    traffic.ask(ROUTE, key_of(text(1, 1_000)))
    traffic.ask(ROUTE, None)
    assert traffic.router.choices == {
        "choices_remembered": 1,
        "choices_moved": 0,
        "choices_hashed": 1,
        "choices_unkeyed": 1,
    }


def test_requests_of_an_adapter_count_against_the_replicas_of_the_base_model(traffic: Traffic) -> None:
    base, adapter = route_of("a", "b"), route_of("a", "b", adapter="lora")
    for _ in range(4):
        traffic.router.choose(base, None)
        traffic.router.begin("a")
    assert [traffic.begin(adapter, None) for _ in range(4)] == ["b"] * 4


def test_a_route_that_was_published_again_is_remembered(traffic: Traffic) -> None:
    prompt = text(1, 1_000)
    home = traffic.begin(ROUTE, key_of(prompt))
    for _ in range(20):
        traffic.router.begin(home)
    spilled = traffic.ask(ROUTE, key_of(prompt))
    assert traffic.ask(route_of(*EIGHT), key_of(prompt)) == spilled != home


def test_prompts_of_a_replica_that_is_gone_go_to_those_that_are_left(traffic: Traffic) -> None:
    for number in range(50):
        traffic.ask(ROUTE, key_of(text(number, 1_000)))
    left = route_of(*EIGHT[:4])
    assert {traffic.ask(left, key_of(text(number, 1_000))) for number in range(50)} == set(EIGHT[:4])


def test_what_is_not_used_is_forgotten(traffic: Traffic) -> None:
    for number in range(100):
        traffic.ask(route_of(f"a{number}", f"b{number}"))
    assert len(traffic.router._replicas) == 200
    traffic.router.sweep(traffic.now)
    traffic.now += 700
    traffic.ask(ROUTE)
    traffic.router.sweep(traffic.now)
    assert set(traffic.router._replicas) == set(EIGHT)
    assert len(traffic.router._groups) == 1
