"""Where an endpoint could run: hard limits in order, then price, room and size; and why nothing fits."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.common.errors import FreeholdError, InvalidInput, PermissionDenied
from freehold.fleet.choices import Verdict
from freehold.fleet.placement import Candidate, FlavorFacts, Plan, PoolFacts, Reserved, Wish, free_replicas, plan

NVIDIA = {"resource": "nvidia.com/gpu", "node_labels": {"product": "H100"}}


def flavor(name: str, accelerators: int = 1, **facts: Any) -> FlavorFacts:
    values = {"accelerator": "H100", **NVIDIA, **facts}
    return FlavorFacts(id=uuid.uuid5(uuid.NAMESPACE_OID, name), name=name, accelerators=accelerators, **values)


ONE, TWO, EIGHT = flavor("h100-1x"), flavor("h100-2x", 2), flavor("h100-8x", 8)
PAIR = flavor("h100-16x", 16, nodes=2)
CPU = flavor("cpu", accelerator="cpu", resource="", node_labels={})
BIG = flavor("h200-8x", 8, node_labels={"product": "H200"})


def pool(
    flavor: FlavorFacts = ONE, *by_node: int, cluster: str = "fra-1", region: str = "eu", **facts: Any
) -> PoolFacts:
    values: dict[str, Any] = {"capacity": 4, "by_node": by_node or None, **facts}
    return PoolFacts(
        region=region, cluster_id=uuid.uuid5(uuid.NAMESPACE_OID, cluster), cluster=cluster, flavor=flavor, **values
    )


def held(of: PoolFacts, replicas: int, flavor: FlavorFacts | None = None) -> Reserved:
    return Reserved(cluster_id=of.cluster_id, flavor=flavor or of.flavor, replicas=replicas)


def decide(*pools: PoolFacts, reserved: tuple[Reserved, ...] = (), **wish: Any) -> Plan:
    names = {each.flavor.name for each in pools if each.flavor.enabled}
    asked = Wish(**{"replicas": 1, **wish})
    return plan(pools, reserved, asked, regions={each.region for each in pools}, flavors=names)


def chosen(found: Plan) -> Candidate:
    assert found.chosen is not None, found.error
    assert found.error is None
    return found.chosen


def error(found: Plan) -> FreeholdError:
    assert found.chosen is None
    assert found.error is not None
    with pytest.raises(type(found.error)):
        found.best()
    return found.error


@pytest.mark.parametrize(
    ("facts", "wish", "verdict"),
    [
        ({"enabled": False}, {}, Verdict.CLUSTER),
        ({}, {"cluster_id": uuid.uuid4()}, Verdict.CLUSTER),
        ({"is_reachable": False}, {}, Verdict.UNREACHABLE),
        ({}, {"region": "us"}, Verdict.REGION),
        ({}, {"regions_allowed": ["us"]}, Verdict.RESIDENCY),
        ({}, {"flavor": "h200-8x"}, Verdict.FLAVOR),
        ({}, {"too_small": {"h100-1x": "no"}}, Verdict.MODEL),
        ({}, {"replicas": 5}, Verdict.CAPACITY),
        ({}, {}, Verdict.FITS),
    ],
)
def test_each_limit_has_its_verdict(facts: dict[str, Any], wish: dict[str, Any], verdict: Verdict) -> None:
    (candidate,) = decide(pool(**facts), **wish).candidates
    assert candidate.verdict is verdict
    assert candidate.reason


def test_limits_are_looked_at_in_order() -> None:
    everything: dict[str, Any] = {
        "region": "us",
        "regions_allowed": ["us"],
        "flavor": "x",
        "too_small": {"h100-1x": "no"},
        "replicas": 9,
    }
    order = []
    for name in [None, "region", "regions_allowed", "flavor", "too_small", "replicas"]:
        everything.pop(str(name), None)
        order += [candidate.verdict for candidate in decide(pool(), **everything).candidates]
    assert order == [
        Verdict.REGION, Verdict.RESIDENCY, Verdict.FLAVOR, Verdict.MODEL, Verdict.CAPACITY, Verdict.FITS,
    ]  # fmt: skip


def test_the_lowest_price_wins_then_cost_then_room_then_size() -> None:
    dear, cheap = pool(EIGHT, 8, 8), pool(BIG, 8)
    assert chosen(decide(dear, cheap, prices={"h100-8x": 3, "h200-8x": 2})).flavor == BIG
    assert chosen(decide(dear, cheap, prices={"h100-8x": 3})).flavor == EIGHT, "what has no price comes last"
    costly = pool(EIGHT, 8, 8, cost_nanos=3, cluster="a")
    saving = pool(EIGHT, 8, cost_nanos=2, cluster="b")
    assert chosen(decide(costly, saving)).cluster == "b"
    assert chosen(decide(pool(EIGHT, 8, cluster="a"), pool(EIGHT, 8, 8, cluster="b"))).cluster == "b"
    assert chosen(decide(pool(BIG, 8), pool(flavor("x", node_labels={"product": "x"}), 1))).flavor.name == "x"
    assert chosen(decide(pool(cluster="b"), pool(cluster="a"))).cluster == "a"


def test_a_price_is_a_whole_replicas() -> None:
    found = chosen(decide(pool(TWO, 2, cost_nanos=5), prices={"h100-2x": 7}))
    assert (found.price_nanos, found.cost_nanos) == (14, 10)


def test_a_cpu_is_the_last_choice_and_can_be_asked_for() -> None:
    pools = pool(CPU, cost_nanos=1), pool(EIGHT, 8, cost_nanos=100)
    assert chosen(decide(*pools)).flavor == EIGHT
    assert chosen(decide(*pools, flavor="cpu")).flavor == CPU


def test_room_is_shared_by_flavors_of_the_same_accelerators() -> None:
    eights, ones = pool(EIGHT, 8, 8), pool(ONE, 8, 8)
    assert free_replicas(ones, [held(eights, 1)]) == 8
    assert free_replicas(eights, [held(ones, 1)]) == 1
    assert free_replicas(pool(BIG, 8), [held(ones, 8)]) == 1, "other accelerators"
    assert free_replicas(pool(EIGHT, 8, cluster="other"), [held(ones, 8)]) == 1, "another cluster"


def test_two_half_used_nodes_are_no_whole_one() -> None:
    assert free_replicas(pool(EIGHT, 4, 4), []) == 0
    assert free_replicas(pool(EIGHT, 8, 8), [held(pool(flavor("x", 5)), 2)]) == 0


def test_small_replicas_fill_broken_nodes_first() -> None:
    assert free_replicas(pool(EIGHT, 8, 3), [held(pool(ONE), 3)]) == 1


def test_what_has_lost_its_node_takes_no_room_from_others() -> None:
    assert free_replicas(pool(ONE, 4), [held(pool(EIGHT), 1)]) == 4


def test_a_replica_over_two_nodes_wants_two_whole_ones_and_leader_worker_sets() -> None:
    able = pool(PAIR, 8, 8, 8, has_leader_worker_sets=True)
    assert free_replicas(able, []) == 1
    assert free_replicas(able, [held(pool(ONE), 9)]) == 0
    assert free_replicas(pool(ONE, 8, 8, 8), [held(able, 1)]) == 8
    assert chosen(decide(able)).flavor == PAIR
    unable = decide(pool(PAIR, 8, 8))
    assert unable.candidates[0].verdict is Verdict.LEADER_WORKER_SETS
    assert "spans 2 nodes" in error(unable).message


def test_what_the_operator_set_counts_by_the_replica() -> None:
    mine = pool(CPU, capacity=3)
    assert free_replicas(mine, [held(mine, 2)]) == 1
    assert free_replicas(mine, [held(mine, 5)]) == 0


def test_a_flavor_that_is_withdrawn_is_not_offered_but_what_runs_on_it_may_grow() -> None:
    old = pool(flavor("old", enabled=False), 8)
    assert decide(old).candidates[0].verdict is Verdict.FLAVOR
    assert chosen(decide(old, flavor="old", cluster_id=old.cluster_id)).flavor.name == "old"


@pytest.mark.parametrize(
    ("pools", "wish", "field", "words"),
    [
        ([pool()], {"region": "moon"}, "region", "no region 'moon'. There are: eu"),
        ([pool()], {"flavor": "b300"}, "flavor", "no flavor 'b300'. There are: h100-1x"),
        ([pool(ONE, 3)], {"replicas": 4}, "replicas", "room for 3 replicas at most (h100-1x in eu): ask for fewer"),
        ([pool(ONE, 0)], {}, "replicas", "All of it is in use."),
        ([pool(ONE, 0), pool(ONE, 8, region="us")], {"region": "eu"}, "replicas", "would fit: h100-1x in us"),
        ([pool(EIGHT, 0), pool(BIG, 8)], {"flavor": "h100-8x"}, "replicas", "would fit: h200-8x in eu"),
        ([pool(is_reachable=False)], {}, "region", "does not answer"),
        ([pool(enabled=False)], {}, "region", "in service"),
        ([], {}, "region", "in service"),
        ([pool(ONE, 8), pool(BIG, 8, region="us")], {"flavor": "h200-8x", "region": "eu"}, "flavor", "There is in: us"),
        ([pool()], {"flavor": "h100-1x", "too_small": {"h100-1x": "9 GiB are missing."}}, "flavor", "9 GiB are"),
        ([pool(), pool(EIGHT)], {"too_small": {"h100-1x": "a", "h100-8x": "b"}}, "flavor", "The largest, h100-8x: b"),
    ],
)  # fmt: skip
def test_an_error_names_what_is_missing_and_what_would_do(
    pools: list[PoolFacts], wish: dict[str, Any], field: str, words: str
) -> None:
    found = error(decide(*pools, **wish))
    assert isinstance(found, InvalidInput)
    assert found.field == field
    assert words in found.message


def test_the_residency_policy_is_a_hard_limit_and_says_so() -> None:
    pools = pool(region="eu"), pool(BIG, 8, region="us")
    asked = error(decide(*pools, region="us", regions_allowed=["eu"]))
    assert isinstance(asked, PermissionDenied)
    assert (asked.field, "forbids the region 'us'. It allows: eu." in asked.message) == ("region", True)
    implied = error(decide(*pools, flavor="h200-8x", regions_allowed=["eu"]))
    assert isinstance(implied, PermissionDenied)
    assert "residency policy" in implied.message
    assert chosen(decide(*pools, regions_allowed=["eu"])).region == "eu"


@given(
    nodes=st.lists(st.integers(0, 16), max_size=6),
    taken=st.lists(st.tuples(st.sampled_from([ONE, TWO, EIGHT, PAIR]), st.integers(0, 4)), max_size=4),
    asked=st.sampled_from([ONE, TWO, EIGHT, PAIR]),
)
def test_room_never_exceeds_the_accelerators_there_are_and_never_grows_by_use(
    nodes: list[int], taken: list[tuple[FlavorFacts, int]], asked: FlavorFacts
) -> None:
    mine = pool(asked, *nodes) if nodes else pool(asked, 0)
    reserved = [held(mine, replicas, flavor) for flavor, replicas in taken]
    free = free_replicas(mine, reserved)
    assert 0 <= free * asked.accelerators <= sum(nodes)
    assert free <= free_replicas(mine, [])
    if free:
        assert free_replicas(mine, [*reserved, held(mine, 1)]) >= free - 1
        assert free_replicas(mine, [*reserved, held(mine, free)]) * asked.accelerators <= sum(nodes)
