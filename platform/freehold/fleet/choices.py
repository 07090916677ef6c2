"""Closed lists of the fleet, free of Django."""

from __future__ import annotations

from enum import StrEnum


class RuntimeKind(StrEnum):
    """What starts engines on a cluster (workers/runtimes)."""

    LOCAL = "local"
    KUBERNETES = "kubernetes"
