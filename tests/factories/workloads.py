"""Workload specs and observed replicas for tests of plan and status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from workers.manifests.spec import FlavorSpec, WeightsRef, WorkloadSpec
from workers.runtimes.base import Exit, ObservedReplica, ReplicaState

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def workload(**changes: Any) -> WorkloadSpec:
    """A chat endpoint with one replica."""
    values: dict[str, Any] = {
        "endpoint": "ep_1",
        "generation": 1,
        "replicas": 1,
        "served_model_name": "acme/chat",
        "task": "generate",
        "weights": WeightsRef(tenant="tnt_1", repo="acme/tiny", commit_id="c" * 40, digest="d" * 64),
        "flavor": FlavorSpec(name="cpu", accelerator="cpu", accelerators=1),
        "engine_digest": "sha256:e",
        "arguments": {},
    }
    return WorkloadSpec(**(values | changes))


def replica(
    name: str, state: ReplicaState, *, age: float = 60.0, spec: WorkloadSpec | None = None, **changes: Any
) -> ObservedReplica:
    """A replica that came into `state` `age` seconds ago."""
    since = NOW - timedelta(seconds=age)
    values: dict[str, Any] = {
        "id": name,
        "endpoint": "ep_1",
        "template_hash": (spec or workload()).template_hash,
        "state": state,
        "created_at": since,
        "since": since,
        "port": 8500,
        "ready_at": since if state is ReplicaState.READY else None,
    }
    return ObservedReplica(**(values | changes))


def crashed(
    name: str, *, age: float, failures: int = 0, message: str = "ValueError: no", **changes: Any
) -> ObservedReplica:
    """A replica that exited by itself `age` seconds ago."""
    at = NOW - timedelta(seconds=age)
    end = Exit(at=at, reason="EngineExited", message=message, code=1)
    return replica(name, ReplicaState.EXITED, age=age, failures=failures, exit=end, **changes)
