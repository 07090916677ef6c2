"""Metering's jobs: what tasks call. The platform does the work; here it is only joined to this process's Redis."""

from __future__ import annotations

from freehold.billing.publication import usage_settled
from freehold.metering.services import DrainReport, usage_drain, usage_partitions_ensure
from freehold.wire import connection


def drain() -> DrainReport:
    """Drains the usage stream once; balances are published before gateways are told. Raises redis.RedisError and
    database errors: the task retries, or the next beat."""
    return usage_drain(client=connection.client(), settled=usage_settled)


def partitions_ensure() -> int:
    """Makes the coming months' partitions of usage events. Daily is often enough: there are always two months ahead."""
    return usage_partitions_ensure()
