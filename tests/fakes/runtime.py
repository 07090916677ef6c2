"""A Runtime in memory, for tests of the reconcile loop: it does what it is told, and a test plays the engines."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

from freehold.common import clock, ids
from workers.manifests.spec import WorkloadSpec
from workers.runtimes.base import (
    Action,
    Exit,
    FetchToken,
    Observed,
    ObservedReplica,
    Pace,
    ReplicaState,
    RuntimeUnavailable,
    Scope,
    StepRefused,
    Verb,
    Wanted,
)


class MemoryRuntime:
    """`replicas` is what a machine would hold; `applied` every step, in order."""

    keeps_objects = False
    pace = Pace()
    batch = 50
    parallel = 1
    drain = timedelta(0)

    def __init__(self) -> None:
        self.replicas: dict[str, ObservedReplica] = {}
        self.applied: list[Action] = []
        self.tokens: list[str] = []
        self.unreachable = False
        self.refuse = ""

    def observe(self, scope: Scope | None = None) -> Observed:
        if self.unreachable:
            raise RuntimeUnavailable("nobody answers")
        by_endpoint: dict[str, tuple[ObservedReplica, ...]] = {}
        for replica in self.replicas.values():
            by_endpoint[replica.endpoint] = (*by_endpoint.get(replica.endpoint, ()), replica)
        return Observed(at=clock.now(), replicas=by_endpoint)

    def wanted(self, spec: WorkloadSpec, *, tenant_slug: str) -> Wanted:
        return Wanted(tenant=(), endpoint=())

    def apply(self, action: Action, *, endpoint: str, fetch_token: FetchToken | None) -> str:
        if endpoint == self.refuse:
            raise StepRefused("no room")
        self.applied.append(action)
        match action.verb:
            case Verb.CREATE:
                assert action.spec is not None
                self.tokens.append(fetch_token.secret if fetch_token is not None else "")
                name = ids.encode("rpl", ids.uuid7())
                now = clock.now()
                self.replicas[name] = ObservedReplica(
                    id=name,
                    endpoint=endpoint,
                    template_hash=action.spec.template_hash,
                    state=ReplicaState.STARTING,
                    created_at=now,
                    since=now,
                    failures=action.failures,
                    host="127.0.0.1",
                    port=9000 + len(self.replicas),
                )
            case Verb.DELETE:
                self.exit(action.replica, wanted=True)
            case Verb.FORGET:
                self.replicas.pop(action.replica, None)
            case _:
                raise AssertionError(action)
        return ""

    def log_tail(self, endpoint: str, replica: str, *, lines: int) -> list[str]:
        return [f"log of {replica}"][:lines]

    # What a test plays

    def all_ready(self) -> None:
        for name, replica in self.replicas.items():
            if replica.state is ReplicaState.STARTING:
                self._change(name, ReplicaState.READY, ready_at=clock.now())

    def exit(
        self, name: str, *, wanted: bool = False, message: str = "ValueError: no", at: datetime | None = None
    ) -> None:
        end = Exit(at=at or clock.now(), reason="EngineExited", message=message, code=1, wanted=wanted)
        self._change(name, ReplicaState.EXITED, exit=end, since=end.at)

    def _change(self, name: str, state: ReplicaState, **changes: object) -> None:
        values = {"state": state, "since": clock.now()} | changes
        self.replicas[name] = dataclasses.replace(self.replicas[name], **values)  # type: ignore[arg-type]
