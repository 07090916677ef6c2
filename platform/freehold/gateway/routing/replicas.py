"""What this gateway knows of a replica, and the group of replicas behind a route."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold.gateway.routing.order import SLOTS, order

if TYPE_CHECKING:
    from freehold.wire.records import ReplicaRecord


class Replica:
    """One engine; `id` is its record's.

    Attributes:
        record: where it is, once a group has it; until then only its requests are counted.
        outstanding: requests of this gateway in flight there.
        pending: bytes of their prompts that it has to compute before it can answer.
        failures: requests that failed in a row.
        probe_failures: probes that failed in a row, no request having succeeded between them.
        ejected: gets no requests until `until` (seconds, the event loop's clock), and then one on trial.
        backoff: seconds of the last ejection, 0 where a request has succeeded since.
        trial: a request or a probe is deciding whether it comes back.
        begun: a request began since the last sweep.
        used_at: about when the last request began.
        probe_at: when the next probe is due.
        groups: those it is a member of.
    """

    __slots__ = (
        "backoff",
        "begun",
        "ejected",
        "failures",
        "groups",
        "id",
        "outstanding",
        "pending",
        "probe_at",
        "probe_failures",
        "record",
        "trial",
        "until",
        "used_at",
    )

    record: ReplicaRecord

    def __init__(self, name: str) -> None:
        self.id = name
        self.outstanding = 0
        self.pending = 0
        self.failures = 0
        self.probe_failures = 0
        self.ejected = False
        self.until = 0.0
        self.backoff = 0.0
        self.trial = False
        self.begun = False
        self.used_at = 0.0
        self.probe_at = 0.0
        self.groups: list[Group] = []

    def usable(self, now: float) -> bool:
        """Whether it may get a request."""
        return not self.ejected or (now >= self.until and not self.trial)


class Group:
    """The replicas of a route, in the order of its record. Routes with the same replicas share one.

    Attributes:
        members: the same as a set.
        outstanding: requests in flight at all of them.
        ejected: how many of them are.
        used: chosen from since the last sweep; `used_at`: about when that was last.
    """

    __slots__ = ("_orders", "ejected", "members", "outstanding", "replicas", "used", "used_at")

    def __init__(self, replicas: tuple[Replica, ...]) -> None:
        self.replicas = replicas
        self.members = frozenset(replicas)
        self.outstanding = sum(replica.outstanding for replica in replicas)
        self.ejected = sum(replica.ejected for replica in replicas)
        self.used = True
        self.used_at = 0.0
        self._orders: dict[int, tuple[Replica, ...]] = {}

    def order(self, home: int) -> tuple[Replica, ...]:
        """In which order a prefix that hashes to `home` tries the replicas."""
        slot = home % SLOTS
        found = self._orders.get(slot)
        if found is None:
            positions = order(slot, [replica.id for replica in self.replicas])
            found = self._orders[slot] = tuple(self.replicas[position] for position in positions)
        return found
