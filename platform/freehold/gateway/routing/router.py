"""The choice of a replica. Called by relay.py for every attempt; all of it is synchronous.

Consistent hashing with bounded load (V. Mirrokni, M. Thorup, M. Zadimoghaddam, 2016), with a memory before it. Each
prompt has an order of the replicas (order.py), and none of them gets it that has more than `load` times its share of
the requests in flight. Of the others it goes to the one that will have its first token soonest: what waits there to be
computed, less what its cache saves, both in bytes of prompts; the first in the order where that is equal, as it is
while nothing waits. Caches cannot be seen, so the memory keeps which replicas have served a prefix.
docs/routing.md has the figures, docs/decisions/0011 what else was tried.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from freehold.gateway.routing import health, probes
from freehold.gateway.routing.budget import RetryBudget
from freehold.gateway.routing.memory import Memory
from freehold.gateway.routing.prefix import BLOCK, WINDOW, home, marks_below
from freehold.gateway.routing.replicas import Group, Replica

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from freehold.gateway.routing.prefix import Prefix
    from freehold.wire.records import ReplicaRecord, RouteRecord

LOAD = 1.5
SLACK = 4.0  # requests that every replica may have over its bound: shares of little traffic are fractions of one
SAVED = 1.5  # what a byte in the cache is worth of one that waits: what is computed elsewhere also displaces something
GENERATING = 64  # bytes: what a request in flight delays a short prompt by
ROOM = 32_768  # prefixes remembered: about 8 MB
_HOLDERS = 8  # replicas remembered for one prefix
_LARGEST = 512 * 1024  # bytes of a prompt that count: images are larger than what is computed for them
_IDLE_SECONDS = 600.0  # a group that is not used for so long is forgotten
_TIDY_SECONDS = 60.0
_PROBED_SECONDS = 60.0  # a replica is probed for so long after its last request
_TICK_SECONDS = 0.5


class Router:
    """Chooses replicas and judges them. One for the whole process.

    Args:
        load: c: how many times its share of the requests in flight a replica may have before others get its prompts.
        clock: seconds, the event loop's clock.

    Attributes:
        remembered: choices of a replica that has served the prefix, for the metrics.
        moved: choices of another although one has.
        hashed: choices for a prefix that nobody has served.
        unkeyed: choices for prompts without a key.
    """

    def __init__(self, *, load: float = LOAD, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._budget = RetryBudget()
        self._memory: Memory[tuple[Replica, ...]] = Memory(ROOM)
        self._replicas: dict[str, Replica] = {}
        self._groups: dict[tuple[str, ...], Group] = {}
        self._seen: dict[int, tuple[tuple[ReplicaRecord, ...], Group]] = {}  # by the tuple's identity
        self._turn = 0
        self._tidied_at = 0.0
        self._work = 0  # of the choice that begin() will follow
        self.remembered = self.moved = self.hashed = self.unkeyed = 0

    def choose(self, route: RouteRecord, key: Prefix | None, tried: Collection[str] = ()) -> ReplicaRecord:
        """The replica for a request.

        Args:
            route: with at least one replica.
            key: from prefix_key.
            tried: ids of replicas on which the request has failed; they come last.
        """
        records = route.replicas
        seen = self._seen.get(id(records))
        group = seen[1] if seen is not None else self._gather(records)
        group.used = True
        if len(records) == 1:
            return records[0]
        replicas: Sequence[Replica] = group.replicas
        if tried or group.ejected:
            replicas = self._candidates(group, tried)
        if key is None:
            self.unkeyed += 1
            self._work = BLOCK
            return self._idlest(replicas).record
        return self._nearest(group, replicas, route.endpoint, key).record

    def begin(self, replica: str) -> int:
        """A request goes to the replica that was chosen for it just now. Returns the bytes of its prompt that are to be
        computed there, for `answering` or `finish`."""
        self._budget.attempt()
        work, self._work = self._work, 0
        found = self._replicas.get(replica)
        if found is None:
            found = self._replicas[replica] = Replica(replica)
        found.outstanding += 1
        found.pending += work
        for group in found.groups:
            group.outstanding += 1
        found.begun = True
        found.trial = found.ejected
        return work

    def answering(self, replica: str, work: int) -> None:
        """The first of the answer is here: nothing of the prompt is left to compute."""
        found = self._replicas.get(replica)
        if found is not None:
            found.pending -= work

    def finish(self, replica: str, *, failed: bool | None, work: int = 0) -> None:
        """The request is over.

        Args:
            failed: whether the replica failed it; None where that cannot be told (the client hung up before there was
                an answer).
            work: what `begin` returned, 0 after `answering`.
        """
        found = self._replicas.get(replica)
        if found is None:
            return
        found.outstanding -= 1
        found.pending = found.pending - work if found.outstanding else 0
        for group in found.groups:
            group.outstanding -= 1
        if failed:
            health.failed(found, self._clock())
        elif failed is None:
            found.trial = False
        elif found.failures or found.probe_failures or found.ejected:
            health.succeeded(found)

    def retry_allowed(self) -> bool:
        """Whether the budget has room for one more retry; asking takes it."""
        return self._budget.take()

    def sweep(self, now: float) -> None:
        """Moves the budget's window and forgets what is no longer used. Called about once a second."""
        self._budget.sweep(now)
        for replica in self._replicas.values():
            if replica.begun:
                replica.begun = False
                replica.used_at = now
        for group in self._groups.values():
            if group.used:
                group.used = False
                group.used_at = now
        if now - self._tidied_at > _TIDY_SECONDS:
            self._tidied_at = now
            self._forget(now)

    async def run(self) -> None:
        """Probes replicas until cancelled."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = self._clock()
            due = [replica for replica in self._replicas.values() if self._probe_due(replica, now)]
            if due:
                await asyncio.gather(*map(self._probe, due))

    @property
    def ejected(self) -> int:
        """Replicas that are ejected."""
        return sum(replica.ejected for replica in self._replicas.values())

    @property
    def choices(self) -> dict[str, int]:
        """How many choices came about in which way, by name of the metric."""
        return {
            "choices_remembered": self.remembered,
            "choices_moved": self.moved,
            "choices_hashed": self.hashed,
            "choices_unkeyed": self.unkeyed,
        }

    # The choice

    def _nearest(self, group: Group, replicas: Sequence[Replica], endpoint: str, key: Prefix) -> Replica:
        bound = self._load * (group.outstanding + 1) / len(group.replicas) + SLACK
        tenant, adapter, text = key
        size = len(text)
        memory = self._memory
        seed = hash((endpoint, tenant, adapter, text[:BLOCK]))
        holders = memory.get(seed)
        if holders is None:
            # Most first prompts are followed by none: of them, no more is kept than finds the next turn.
            self.hashed += 1
            self._work = min(size, _LARGEST)
            chosen = _soonest(group.order(home(key)), replicas, bound, (), 0)
            memory.put(seed, (chosen,))
            for mark in marks_below(size)[:1]:
                memory.put(hash((seed, text[mark - WINDOW : mark])), (chosen,))
            return chosen
        memory.touch(seed)
        shared, name = BLOCK, seed
        beyond = 0
        names: list[int] = []  # of the marks that nobody has served
        for mark in marks_below(size):
            at = hash((seed, text[mark - WINDOW : mark]))
            found = memory.get(at)
            if found is not None:
                holders, shared, name = found, mark, at
                memory.touch(name)
                break
            names.append(at)
            beyond = mark
        saved = shared * SAVED
        chosen = holders[0]
        if len(holders) > 1 or chosen.pending >= saved or chosen.outstanding >= bound or chosen not in replicas:
            # Otherwise nobody could be sooner.
            chosen = _soonest(group.order(home(key, beyond)), replicas, bound, holders, saved)
        if chosen in holders:
            self.remembered += 1
            self._work = min(size, _LARGEST) - min(shared, _LARGEST)
        else:
            self.moved += 1
            self._work = min(size, _LARGEST)
            memory.put(name, (*holders[1 - _HOLDERS :], chosen))
        for at in names:
            memory.put(at, (chosen,))
        return chosen

    def _idlest(self, replicas: Sequence[Replica]) -> Replica:
        """Ties fall to each in turn."""
        self._turn = turn = (self._turn + 1) % len(replicas)
        least = None
        chosen = replicas[0]
        for replica in (*replicas[turn:], *replicas[:turn]):
            cost = replica.pending + replica.outstanding * GENERATING
            if least is None or cost < least:
                least, chosen = cost, replica
        return chosen

    def _candidates(self, group: Group, tried: Collection[str]) -> Sequence[Replica]:
        """In service or on trial, and not tried; else what was tried: an ejected replica is likely to fail too."""
        now = self._clock()
        usable = [replica for replica in group.replicas if replica.usable(now)] or group.replicas
        return [replica for replica in usable if replica.id not in tried] or usable

    # Groups

    def _gather(self, records: tuple[ReplicaRecord, ...]) -> Group:
        """The group of a route that is new or has changed."""
        names = tuple(record.id for record in records)
        group = self._groups.get(names)
        if group is None:
            members = []
            for record in records:
                replica = self._replicas.get(record.id)
                if replica is None:
                    replica = self._replicas[record.id] = Replica(record.id)
                replica.record = record
                members.append(replica)
            group = self._groups[names] = Group(tuple(members))
            for replica in members:
                replica.groups.append(group)
            health.keep_half(group)
            group.used_at = self._clock()
        self._seen[id(records)] = (records, group)
        return group

    def _forget(self, now: float) -> None:
        kept = {names: group for names, group in self._groups.items() if now - group.used_at <= _IDLE_SECONDS}
        self._groups = kept
        self._seen.clear()  # routes are made anew whenever they are published
        for replica in list(self._replicas.values()):
            replica.groups = [group for group in replica.groups if group in kept.values()]
            if not replica.groups and not replica.outstanding:
                del self._replicas[replica.id]

    # Probes

    def _probe_due(self, replica: Replica, now: float) -> bool:
        if not replica.groups:
            return False  # the only one of its route: it would be chosen whatever its health
        if replica.ejected:
            return now >= replica.until and now >= replica.probe_at and not replica.trial
        return now >= replica.probe_at and (replica.begun or now - replica.used_at <= _PROBED_SECONDS)

    async def _probe(self, replica: Replica) -> None:
        replica.probe_at = self._clock() + probes.pause()
        if await probes.healthy(replica.record.host, replica.record.port):
            health.probe_passed(replica, self._clock())
        else:
            health.probe_failed(replica, self._clock())


def _soonest(
    order: Sequence[Replica], among: Collection[Replica], bound: float, holders: Collection[Replica], saved: float
) -> Replica:
    """The first in the order of those with the least to wait for; of those over the bound, none but where all are."""
    chosen = None
    least = 0.0
    for replica in order:
        if replica.outstanding < bound and replica in among:
            cost = replica.pending - saved if replica in holders else replica.pending
            if chosen is None or cost < least:
                chosen, least = replica, cost
    return chosen or min(among, key=lambda replica: replica.outstanding)
