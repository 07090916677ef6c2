"""Which replicas are left out, for how long, and how they come back.

A replica is ejected after FAILURES failed requests in a row, or PROBE_FAILURES failed probes, for a time that doubles
with each ejection until a request succeeds. Never more than half of a group is: where most replicas seem to fail, the
fault is likely elsewhere, and the rest could not carry the load. After that time it is half open: one request, or one
probe, decides. A request that succeeds clears everything. A probe that passes only ends an ejection, on probation,
since an engine can be healthy by its own account and fail every request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold.common.logging import get_logger

if TYPE_CHECKING:
    from freehold.gateway.routing.replicas import Group, Replica

log = get_logger(__name__)

FAILURES = 5
PROBE_FAILURES = 2
SHORTEST_SECONDS = 10.0
LONGEST_SECONDS = 160.0


def succeeded(replica: Replica) -> None:
    """A request was answered."""
    replica.failures = replica.probe_failures = 0
    replica.backoff = 0.0
    if replica.ejected:
        _readmit(replica)


def failed(replica: Replica, now: float) -> None:
    """A request failed by the replica's fault."""
    replica.failures += 1
    if replica.ejected:
        if replica.trial:
            _extend(replica, now)
        # Otherwise it was under way when the replica was ejected: it says nothing new.
    elif replica.failures >= FAILURES:
        _eject(replica, now)


def probe_passed(replica: Replica, now: float) -> None:
    """GET /health was answered 200."""
    replica.probe_failures = 0
    if replica.ejected and now >= replica.until:
        replica.failures = FAILURES - 1
        _readmit(replica)


def probe_failed(replica: Replica, now: float) -> None:
    """GET /health was not answered 200 in time."""
    replica.probe_failures += 1
    if replica.ejected:
        if now >= replica.until:
            _extend(replica, now)
    elif replica.probe_failures >= PROBE_FAILURES:
        _eject(replica, now)


def keep_half(group: Group) -> None:
    """Readmits what a group that has become smaller can no longer do without: the earliest due first."""
    out = sorted((replica for replica in group.replicas if replica.ejected), key=lambda replica: replica.until)
    while out and group.ejected * 2 > len(group.replicas):
        _readmit(out.pop(0))


def _eject(replica: Replica, now: float) -> None:
    if any((group.ejected + 1) * 2 > len(group.replicas) for group in replica.groups):
        return
    replica.ejected = True
    for group in replica.groups:
        group.ejected += 1
    _extend(replica, now)


def _extend(replica: Replica, now: float) -> None:
    replica.backoff = min(max(replica.backoff * 2, SHORTEST_SECONDS), LONGEST_SECONDS)
    replica.until = replica.probe_at = now + replica.backoff
    replica.trial = False
    log.warning(
        "replica_ejected",
        replica=replica.id,
        seconds=replica.backoff,
        failures=replica.failures,
        probe_failures=replica.probe_failures,
    )


def _readmit(replica: Replica) -> None:
    replica.ejected = replica.trial = False
    for group in replica.groups:
        group.ejected -= 1
    log.info("replica_readmitted", replica=replica.id)
