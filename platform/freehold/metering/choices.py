"""Closed lists of metering, free of Django."""

from __future__ import annotations

from enum import StrEnum


class BillingMode(StrEnum):
    """How an endpoint is paid for. The words are those of RouteRecord.billing_mode."""

    TOKENS = "tokens"
    GPU_SECONDS = "gpu_seconds"


class ReplicaState(StrEnum):
    """What a replica was doing during an interval. Only READY is ever billed. The words are the runtimes'; a replica
    that has exited is in no interval."""

    FETCHING = "fetching"
    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    STOPPING = "stopping"


EXITED = "exited"  # the runtimes' word for gone: closes the interval, begins none
