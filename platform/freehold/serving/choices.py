"""Closed lists of serving and the phase's transitions, free of Django: plan and status use them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from freehold.metering.choices import BillingMode as BillingMode  # metering's word; serving's to ask for


class Phase(StrEnum):
    """Where an endpoint is, in one word; its conditions say more."""

    PENDING = "Pending"  # accepted, nothing started yet
    STARTING = "Starting"  # replicas fetch weights or load them; none is ready
    READY = "Ready"  # as many replicas ready as asked for
    DEGRADED = "Degraded"  # some ready, fewer than asked for
    FAILED = "Failed"  # replicas exit; tried again with backoff
    STOPPED = "Stopped"  # scaled to zero by its owner
    UNKNOWN = "Unknown"  # its cluster cannot be observed
    DELETING = "Deleting"
    DELETED = "Deleted"


_ALIVE: Final = frozenset(
    {
        Phase.STARTING,
        Phase.READY,
        Phase.DEGRADED,
        Phase.FAILED,
        Phase.STOPPED,
        Phase.UNKNOWN,
        Phase.DELETING,
        Phase.DELETED,
    }
)

TRANSITIONS: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.PENDING: _ALIVE,
    Phase.STARTING: _ALIVE,
    Phase.READY: _ALIVE,
    Phase.DEGRADED: _ALIVE,
    Phase.FAILED: _ALIVE,
    Phase.STOPPED: _ALIVE,
    Phase.UNKNOWN: _ALIVE,
    Phase.DELETING: frozenset({Phase.DELETED}),
    Phase.DELETED: frozenset(),
}


class ConditionType(StrEnum):
    """What can be said of an endpoint; each has status True, False or Unknown (Kubernetes' words)."""

    READY = "Ready"  # all replicas answer
    PROGRESSING = "Progressing"  # something is on its way: what, and since when
    FAILING = "Failing"  # the newest replica exited: how, with the engine's own words
    UNSCHEDULABLE = "Unschedulable"  # replicas wait for room: what is missing


class EndpointKind(StrEnum):
    """Whose it is."""

    DEDICATED = "dedicated"
    SERVERLESS = "serverless"
