"""The arithmetic of rolling updates, by the numbers of the recordings and of the documentation."""

from __future__ import annotations

import pytest

from tests.fakes.kubernetes.controllers import rollout
from tests.fakes.kubernetes.controllers.rollout import Size, Wanted


def _wanted(replicas: int, *, surge: int | str = "25%", unavailable: int | str = "25%") -> Wanted:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    return Wanted.of({"spec": {"replicas": replicas, "strategy": strategy}})


def _size(name: str, replicas: int, available: int = 0, most: int = 0) -> Size:
    return Size(name, "2026-01-01T00:00:00Z", replicas, available, most)


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (1, "25%", "25%", (1, 0)),
        (4, "25%", "25%", (1, 1)),
        (10, "25%", "25%", (3, 2)),
        (3, 0, 0, (0, 1)),
        (2, 1, 0, (1, 0)),
    ],
)
def test_surge_is_rounded_up_and_unavailability_down(
    replicas: int, surge: int | str, unavailable: int | str, expected: tuple[int, int]
) -> None:
    found = _wanted(replicas, surge=surge, unavailable=unavailable)
    assert (found.surge, found.unavailable) == expected


def test_the_new_one_grows_by_the_surge_while_the_old_one_serves() -> None:
    new, old = _size("new", 0), _size("old", 4, available=4)
    assert rollout.new_size(_wanted(4), [new, old], new) == 1
    assert rollout.old_sizes(_wanted(4), _size("new", 1), [old]) == {"old": 3}


def test_nothing_that_serves_goes_before_its_replacement_is_ready() -> None:
    wanted = _wanted(2, surge=1, unavailable=0)
    old = _size("old", 2, available=2)
    assert rollout.old_sizes(wanted, _size("new", 1), [old]) == {}
    assert rollout.old_sizes(wanted, _size("new", 1, available=1), [old]) == {"old": 1}


@pytest.mark.parametrize(
    ("replicas", "old", "new", "most", "expected"),
    [  # as the recorded Deployment was scaled while it rolled: 2 → 3 → 2 → 1
        (3, 2, 1, 3, {"old": 3, "new": 1}),
        (2, 3, 1, 4, {"old": 2, "new": 1}),
        (1, 2, 1, 3, {"old": 1, "new": 1}),
    ],
)
def test_scaling_during_a_rollout_is_shared_in_proportion(
    replicas: int, old: int, new: int, most: int, expected: dict[str, int]
) -> None:
    sizes = rollout.scaled_sizes(_wanted(replicas), _size("new", new, most=most), [_size("old", old, most=most)])
    assert sizes == expected


def test_scaling_without_a_rollout_is_for_the_one_that_is_there() -> None:
    assert rollout.scaled_sizes(_wanted(5), _size("new", 2, available=2, most=3), []) == {"new": 5}
