"""Replicas that fail are left out, and come back once they work."""

from __future__ import annotations

import pytest

from tests.unit.gateway.routing.conftest import Traffic, key_of, route_of

FOUR = route_of("a", "b", "c", "d")


def test_five_failures_in_a_row_eject_a_replica(traffic: Traffic) -> None:
    traffic.fail(FOUR, "a", 4)
    assert traffic.serving(FOUR) == {"a", "b", "c", "d"}
    traffic.fail(FOUR, "a", 5)
    assert traffic.serving(FOUR) == {"b", "c", "d"}


def test_a_success_between_failures_begins_the_count_anew(traffic: Traffic) -> None:
    for _ in range(3):
        traffic.fail(FOUR, "a", 4)
        traffic.router.begin("a")
        traffic.router.finish("a", failed=False)
    assert traffic.router.ejected == 0


def test_a_client_that_hung_up_says_nothing_of_the_replica(traffic: Traffic) -> None:
    traffic.fail(FOUR, "a", 4)
    traffic.router.begin("a")
    traffic.router.finish("a", failed=None)
    traffic.fail(FOUR, "a", 1)
    assert traffic.router.ejected == 1


def test_prefixes_of_an_ejected_replica_go_elsewhere_and_come_back(traffic: Traffic) -> None:
    keys = [key_of(f"{number:04}" * 100) for number in range(60)]
    before = [traffic.ask(FOUR, key) for key in keys]
    traffic.fail(FOUR, "a")
    meanwhile = [traffic.ask(FOUR, key) for key in keys]
    assert "a" in before
    assert "a" not in meanwhile
    assert all(old in ("a", new) for old, new in zip(before, meanwhile, strict=True))
    traffic.now += 10
    assert "a" in [traffic.ask(FOUR, key_of(f"{number:04}" * 200)) for number in range(1_000, 1_060)]


def test_never_more_than_half_of_the_replicas_are_ejected(traffic: Traffic) -> None:
    for name in "abcd":
        traffic.fail(FOUR, name, 20)
    assert traffic.router.ejected == 2
    assert traffic.serving(FOUR) == {"c", "d"}


@pytest.mark.parametrize(("names", "most"), [("a", 0), ("ab", 1), ("abc", 1), ("abcd", 2)])
def test_half_is_rounded_down(traffic: Traffic, names: str, most: int) -> None:
    route = route_of(*names)
    for name in names:
        traffic.fail(route, name)
    assert traffic.router.ejected == most
    assert traffic.ask(route) in names


def test_a_group_that_becomes_smaller_takes_replicas_back(traffic: Traffic) -> None:
    traffic.fail(FOUR, "a")
    traffic.fail(FOUR, "b")
    assert traffic.router.ejected == 2
    smaller = route_of("a", "b", "c")
    traffic.ask(smaller)
    assert traffic.router.ejected == 1


def test_after_its_time_one_request_is_on_trial(traffic: Traffic) -> None:
    traffic.fail(FOUR, "a")
    traffic.now += 9.9
    assert traffic.serving(FOUR) == {"b", "c", "d"}
    traffic.now += 0.1
    in_flight = [traffic.begin(FOUR) for _ in range(20)]
    assert in_flight.count("a") == 1
    traffic.end("a")
    assert traffic.begin(FOUR) == "a"
    assert traffic.router.ejected == 0


def test_a_trial_that_fails_doubles_the_time_up_to_a_limit(traffic: Traffic) -> None:
    traffic.fail(FOUR, "a")
    for seconds in (10, 20, 40, 80, 160, 160):
        traffic.now += seconds - 0.1
        assert traffic.serving(FOUR) == {"b", "c", "d"}
        traffic.now += 0.1
        in_flight = [traffic.begin(FOUR) for _ in range(8)]
        for name in in_flight:
            traffic.end(name, failed=name == "a")
        assert in_flight.count("a") == 1


def test_a_trial_whose_client_hung_up_is_followed_by_another(traffic: Traffic) -> None:
    traffic.fail(FOUR, "a")
    traffic.now += 10
    assert "a" in [traffic.begin(FOUR) for _ in range(8)]
    traffic.end("a", failed=None)
    assert traffic.begin(FOUR) == "a"


def test_requests_that_fail_late_do_not_lengthen_an_ejection(traffic: Traffic) -> None:
    traffic.router.choose(FOUR, None)
    for _ in range(30):
        traffic.router.begin("a")
    for _ in range(30):
        traffic.router.finish("a", failed=True)
    traffic.now += 10
    assert "a" in traffic.serving(FOUR)


def test_success_makes_the_next_ejection_short_again(traffic: Traffic) -> None:
    traffic.fail(FOUR, "a")
    traffic.now += 10
    traffic.serving(FOUR)
    traffic.fail(FOUR, "a")
    traffic.now += 10
    assert "a" in traffic.serving(FOUR)


def test_a_retry_prefers_what_it_has_tried_to_an_ejected_replica(traffic: Traffic) -> None:
    route = route_of("a", "b")
    traffic.fail(route, "a")
    assert traffic.begin(route, None, ["b"]) == "b"
