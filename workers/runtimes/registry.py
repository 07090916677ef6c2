"""Which runtime drives a cluster."""

from __future__ import annotations

from functools import cache

from freehold.fleet.choices import RuntimeKind
from workers.runtimes.base import Runtime, RuntimeUnavailable
from workers.runtimes.local.runtime import LocalRuntime, LocalSettings


@cache
def _local() -> Runtime:
    return LocalRuntime(LocalSettings.from_environment())


def runtime_of(kind: str) -> Runtime:
    """The runtime of a cluster's kind. Raises RuntimeUnavailable for one that this installation does not have."""
    if kind == RuntimeKind.LOCAL:
        return _local()
    raise RuntimeUnavailable(f"This installation has no runtime of the kind {kind!r}.")
