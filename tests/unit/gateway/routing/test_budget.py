"""Retries cannot multiply an overload."""

from __future__ import annotations

from freehold.gateway.routing.budget import FLOOR
from tests.unit.gateway.routing.conftest import Traffic, route_of

ROUTE = route_of("a", "b")


def retries(traffic: Traffic, requests: int) -> int:
    """How many of so many requests may be made again once."""
    found = 0
    for _ in range(requests):
        traffic.ask(ROUTE)
        if traffic.router.retry_allowed():
            found += 1
            traffic.ask(ROUTE)
    return found


def test_a_tenth_of_the_requests_may_be_retries(traffic: Traffic) -> None:
    assert 100 <= retries(traffic, 1_000) <= 100 + FLOOR


def test_a_few_retries_are_allowed_with_little_traffic(traffic: Traffic) -> None:
    assert retries(traffic, 2) == 2


def test_retries_come_back_as_time_passes(traffic: Traffic) -> None:
    first = retries(traffic, 100)
    for _ in range(12):
        traffic.now += 1
        traffic.router.sweep(traffic.now)
    assert retries(traffic, 100) == first


def test_within_the_window_they_do_not(traffic: Traffic) -> None:
    retries(traffic, 100)
    for _ in range(8):
        traffic.now += 1
        traffic.router.sweep(traffic.now)
    assert retries(traffic, 3) <= 1
