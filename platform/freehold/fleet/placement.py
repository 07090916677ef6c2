"""Where an endpoint could run, and why not elsewhere: a decision over plain data, pool by pool. Pure: no Django.

Hard limits come first, in Verdict's order. Among what is left the lowest price wins, then the operator's lowest cost,
then the most room, then the fewest accelerators, then the name; a CPU comes after every GPU, because nobody who has a
choice wants it. selectors.py reads the pools, reservations.py keeps the room of who was placed.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from freehold.common.errors import FreeholdError, InvalidInput, PermissionDenied
from freehold.fleet.choices import Verdict

_UNKNOWN_LAST: Final = 2**63


@dataclass(frozen=True, kw_only=True)
class FlavorFacts:
    """A flavor's part in placement; the fields of fleet.models.GpuFlavor."""

    id: uuid.UUID
    name: str
    accelerator: str
    accelerators: int
    nodes: int = 1
    memory_bytes: int = 0
    resource: str = ""
    node_labels: Mapping[str, str] = field(default_factory=dict)
    enabled: bool = True

    @property
    def is_cpu(self) -> bool:
        """Whether the engine runs on the processor."""
        return self.accelerator.lower() == "cpu"

    @property
    def accelerators_per_node(self) -> int:
        """What one pod of a replica takes."""
        return self.accelerators // self.nodes

    def shares_with(self, other: FlavorFacts) -> bool:
        """Whether both take accelerators from nodes that may be the same."""
        if not self.resource or self.resource != other.resource:
            return self.id == other.id
        mine, theirs = self.node_labels, other.node_labels
        return all(theirs.get(name, value) == value for name, value in mine.items())


@dataclass(frozen=True, kw_only=True)
class PoolFacts:
    """A flavor in a cluster.

    Attributes:
        capacity: replicas that it holds by the operator's word.
        by_node: accelerators of each node for us, where they were discovered; None: the operator's word counts.
        cost_nanos: of an accelerator-hour to the operator; None: not said.
    """

    region: str
    cluster_id: uuid.UUID
    cluster: str
    flavor: FlavorFacts
    capacity: int
    by_node: tuple[int, ...] | None = None
    enabled: bool = True
    is_reachable: bool = True
    has_leader_worker_sets: bool = False
    cost_nanos: int | None = None


@dataclass(frozen=True, kw_only=True)
class Reserved:
    """Room that somebody has."""

    cluster_id: uuid.UUID
    flavor: FlavorFacts
    replicas: int


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be placed.

    Attributes:
        replicas: 0 is placed like 1: it will be wanted.
        regions_allowed: the tenant's residency policy; empty for all.
        cluster_id: the only one that counts, for what is placed already.
        too_small: flavors that do not hold the model → why not.
        prices: flavor → nanos of an accelerator-hour to the customer, where they pay by it; others come last.
    """

    replicas: int
    flavor: str | None = None
    region: str | None = None
    regions_allowed: Collection[str] = ()
    cluster_id: uuid.UUID | None = None
    too_small: Mapping[str, str] = field(default_factory=dict)
    prices: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is to be said of one pool.

    Attributes:
        price_nanos: of a replica-hour to the customer, where known; `cost_nanos`: to the operator.
        free_replicas: for which there is room now.
        reason: for a person; says nothing about other tenants.
    """

    region: str
    cluster_id: uuid.UUID
    cluster: str
    flavor: FlavorFacts
    verdict: Verdict
    reason: str
    free_replicas: int
    price_nanos: int | None = None
    cost_nanos: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The decision. `candidates` are best first; `regions` and `flavors` are the names there are."""

    wish: Wish
    candidates: tuple[Candidate, ...]
    regions: Collection[str]
    flavors: Collection[str]

    @property
    def chosen(self) -> Candidate | None:
        """Where it would run."""
        return next((candidate for candidate in self.candidates if candidate.verdict is Verdict.FITS), None)

    @property
    def error(self) -> FreeholdError | None:
        """Why nothing is chosen: InvalidInput, or PermissionDenied for a region that the residency policy forbids."""
        return None if self.chosen is not None else _error(self)

    def best(self) -> Candidate:
        """What is chosen. Raises the error."""
        if self.chosen is None:
            raise _error(self)
        return self.chosen


def plan(
    pools: Iterable[PoolFacts],
    reserved: Sequence[Reserved],
    wish: Wish,
    *,
    regions: Collection[str],
    flavors: Collection[str],
) -> Plan:
    """Looks at every pool."""
    candidates = sorted((_candidate(pool, reserved, wish) for pool in pools), key=_rank)
    return Plan(wish=wish, candidates=tuple(candidates), regions=regions, flavors=flavors)


def free_replicas(pool: PoolFacts, reserved: Iterable[Reserved]) -> int:
    """For how many more replicas there is room beside what is reserved.

    Discovered nodes are filled as a scheduler could fill them: large replicas first, each on the node where it leaves
    the least. So two half-used nodes do not count as a whole one.
    """
    taken = [room for room in reserved if room.cluster_id == pool.cluster_id and room.flavor.shares_with(pool.flavor)]
    if pool.by_node is None:
        return max(0, pool.capacity - sum(room.replicas for room in taken if room.flavor.id == pool.flavor.id))
    nodes = Counter(pool.by_node)
    for need, count in sorted(_pods(taken).items(), reverse=True):
        _fill(nodes, need, count)
    each = pool.flavor.accelerators_per_node
    return sum(free // each * count for free, count in nodes.items()) // pool.flavor.nodes


def _pods(taken: Iterable[Reserved]) -> Counter[int]:
    """Accelerators of a pod → how many such pods there are."""
    pods: Counter[int] = Counter()
    for room in taken:
        pods[room.flavor.accelerators_per_node] += room.replicas * room.flavor.nodes
    return pods


def _fill(nodes: Counter[int], need: int, pods: int) -> None:
    """Takes `need` from a node for each pod, from the fullest nodes that have it. Pods that find none are left out:
    they wait, or run on a node that takes no new ones."""
    for free in sorted(size for size, count in nodes.items() if size >= need and count):
        each = free // need
        full = min(nodes[free], pods // each)
        nodes[free] -= full
        nodes[free - each * need] += full
        pods -= full * each
        if pods and nodes[free]:
            nodes[free] -= 1
            nodes[free - pods * need] += 1
            pods = 0
        if not pods:
            return


def _candidate(pool: PoolFacts, reserved: Sequence[Reserved], wish: Wish) -> Candidate:
    free = free_replicas(pool, reserved)
    verdict, reason = _judge(pool, free, wish)
    accelerators = pool.flavor.accelerators
    price = wish.prices.get(pool.flavor.name)
    return Candidate(
        region=pool.region,
        cluster_id=pool.cluster_id,
        cluster=pool.cluster,
        flavor=pool.flavor,
        verdict=verdict,
        reason=reason,
        free_replicas=free,
        price_nanos=None if price is None else price * accelerators,
        cost_nanos=None if pool.cost_nanos is None else pool.cost_nanos * accelerators,
    )


def _judge(pool: PoolFacts, free: int, wish: Wish) -> tuple[Verdict, str]:
    flavor, replicas = pool.flavor, max(wish.replicas, 1)
    if not pool.enabled:
        return Verdict.CLUSTER, "The cluster takes nothing new."
    if wish.cluster_id not in (None, pool.cluster_id):
        return Verdict.CLUSTER, "The endpoint runs in another cluster."
    if not pool.is_reachable:
        return Verdict.UNREACHABLE, "The cluster does not answer at the moment."
    if wish.region not in (None, pool.region):
        return Verdict.REGION, f"The region {wish.region!r} is asked for."
    if wish.regions_allowed and pool.region not in wish.regions_allowed:
        return Verdict.RESIDENCY, f"The tenant's residency policy forbids the region {pool.region!r}."
    if wish.flavor not in (None, flavor.name):
        return Verdict.FLAVOR, f"The flavor {wish.flavor!r} is asked for."
    if not flavor.enabled and wish.cluster_id is None:
        return Verdict.FLAVOR, "The flavor is not offered any more."
    if flavor.name in wish.too_small:
        return Verdict.MODEL, wish.too_small[flavor.name]
    if flavor.nodes > 1 and not pool.has_leader_worker_sets:
        return Verdict.LEADER_WORKER_SETS, f"A replica spans {flavor.nodes} nodes, and the cluster cannot do that."
    if free < replicas:
        return Verdict.CAPACITY, f"There is room for {_replicas(free)}, {_replicas(replicas)} are asked for."
    return Verdict.FITS, f"There is room for {_replicas(free)}."


_ORDER: Final = {verdict: place for place, verdict in enumerate((Verdict.FITS, *reversed(list(Verdict)[1:])))}


def _rank(candidate: Candidate) -> tuple[int, bool, int, int, int, int, int, str, str, str]:
    """What fits first, then what came furthest."""
    flavor = candidate.flavor
    return (
        _ORDER[candidate.verdict],
        flavor.is_cpu,
        _UNKNOWN_LAST if candidate.price_nanos is None else candidate.price_nanos,
        _UNKNOWN_LAST if candidate.cost_nanos is None else candidate.cost_nanos,
        -candidate.free_replicas,
        flavor.accelerators,
        flavor.memory_bytes,
        flavor.name,
        candidate.region,
        candidate.cluster,
    )


def _error(plan: Plan) -> FreeholdError:
    """What does not exist or is forbidden by name, else what was in the way of the pool that came furthest."""
    wish, candidates = plan.wish, plan.candidates
    if named := _named_wrongly(plan):
        return named
    where = f" in the region {wish.region!r}" if wish.region else ""
    what = f" of the flavor {wish.flavor!r}" if wish.flavor else ""
    best = candidates[0].verdict if candidates else Verdict.CLUSTER
    asked = [candidate for candidate in candidates if wish.flavor in (None, candidate.flavor.name)]
    if best is Verdict.CAPACITY:
        return _full(candidates, wish, where, what)
    if best is Verdict.MODEL:
        return _too_small(candidates, wish, where)
    if best is Verdict.LEADER_WORKER_SETS:
        return InvalidInput(f"{candidates[0].reason} Choose a flavor of one node.", field="flavor")
    if any(candidate.verdict is Verdict.RESIDENCY for candidate in asked):
        return PermissionDenied(
            f"What there is{what} is outside of the regions that the tenant's residency policy allows: "
            f"{_listed(sorted(wish.regions_allowed))}.",
            field="region",
        )
    if best in (Verdict.REGION, Verdict.FLAVOR):
        elsewhere = sorted({candidate.region for candidate in asked if candidate.verdict is Verdict.REGION})
        also = f" There is in: {', '.join(elsewhere)}." if elsewhere else ""
        return InvalidInput(f"There is nothing{what}{where} on offer.{also}", field="flavor" if what else "region")
    if best is Verdict.UNREACHABLE:
        return InvalidInput(
            f"What could run it{where} does not answer at the moment. Try again in a few minutes.", field="region"
        )
    return InvalidInput(f"Nothing{what}{where} is in service. Write to your provider.", field="region")


def _named_wrongly(plan: Plan) -> FreeholdError | None:
    """A region or flavor that there is not, or may not be used."""
    wish = plan.wish
    allowed = [name for name in sorted(plan.regions) if not wish.regions_allowed or name in wish.regions_allowed]
    if wish.region is not None and wish.region not in plan.regions:
        return InvalidInput(f"There is no region {wish.region!r}. There are: {_listed(allowed)}.", field="region")
    if wish.region is not None and wish.region not in allowed:
        return PermissionDenied(
            f"The residency policy of the tenant forbids the region {wish.region!r}. It allows: {_listed(allowed)}.",
            field="region",
        )
    if wish.cluster_id is None and wish.flavor is not None and wish.flavor not in plan.flavors:
        return InvalidInput(
            f"There is no flavor {wish.flavor!r}. There are: {_listed(sorted(plan.flavors))}.", field="flavor"
        )
    return None


def _full(candidates: Sequence[Candidate], wish: Wish, where: str, what: str) -> InvalidInput:
    full = [candidate for candidate in candidates if candidate.verdict is Verdict.CAPACITY]
    roomy = max(full, key=lambda candidate: candidate.free_replicas)
    most = roomy.free_replicas
    missing = (
        f"There is room for {_replicas(most)} at most ({roomy.flavor.name} in {roomy.region}): ask for fewer."
        if most
        else "All of it is in use."
    )
    return InvalidInput(
        f"No cluster{where} can hold {_replicas(max(wish.replicas, 1))}{what}. {missing}{_elsewhere(candidates, wish)}",
        field="replicas",
    )


def _too_small(candidates: Sequence[Candidate], wish: Wish, where: str) -> InvalidInput:
    small = {c.flavor.name: c for c in candidates if c.verdict is Verdict.MODEL}
    if wish.flavor is not None:
        return InvalidInput(
            f"The flavor {wish.flavor!r} does not hold the model: {wish.too_small[wish.flavor]}", field="flavor"
        )
    largest = max(
        small.values(), key=lambda c: (c.flavor.accelerators * c.flavor.memory_bytes, c.flavor.accelerators)
    ).flavor.name
    return InvalidInput(
        f"No flavor{where} holds the model. The largest, {largest}: {wish.too_small[largest]}", field="flavor"
    )


def _elsewhere(candidates: Sequence[Candidate], wish: Wish) -> str:
    """What would fit if less were insisted on."""
    other = [
        candidate
        for candidate in candidates
        if candidate.verdict in (Verdict.REGION, Verdict.FLAVOR)
        and candidate.flavor.enabled
        and candidate.flavor.nodes == 1
        and candidate.flavor.name not in wish.too_small
        and candidate.free_replicas >= max(wish.replicas, 1)
        and (not wish.regions_allowed or candidate.region in wish.regions_allowed)
    ]
    if not other:
        return ""
    names = sorted({f"{candidate.flavor.name} in {candidate.region}" for candidate in other})
    return f" This would fit: {', '.join(names[:3])}."


def _replicas(count: int) -> str:
    return f"{count:,} replica" if count == 1 else f"{count:,} replicas"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
