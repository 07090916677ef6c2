"""A router with a clock that tests set, and requests to send through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from freehold.gateway.routing.prefix import prefix_key
from freehold.gateway.routing.router import Router
from freehold.wire.records import ReplicaRecord, RouteRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from freehold.gateway.routing.prefix import Prefix


def route_of(*replicas: str, endpoint: str = "ep_1", adapter: str = "", port: int = 1) -> RouteRecord:
    """A route with these replicas."""
    return RouteRecord(
        endpoint=endpoint,
        tenant="tnt_1",
        generation=1,
        task="generate",
        served_model_name="internal",
        billing_mode="tokens",
        region="local",
        phase="Ready",
        weight_digest="w",
        engine_digest="e",
        adapter=adapter,
        replicas=tuple(ReplicaRecord(id=name, host="127.0.0.1", port=port) for name in replicas),
    )


def key_of(text: str, tenant: str = "tnt_1", adapter: str = "") -> Prefix | None:
    """The key of a prompt."""
    return prefix_key(tenant, adapter, text.encode())


class Traffic:
    """Requests through a router.

    Attributes:
        now: what the router's clock says.
        works: what is to be computed for the requests in flight, by replica, oldest first.
    """

    def __init__(self, **options: float) -> None:
        self.now = 1_000.0
        self.router = Router(clock=lambda: self.now, **options)
        self.works: dict[str, list[int]] = {}

    def begin(self, route: RouteRecord, key: Prefix | None = None, tried: Collection[str] = ()) -> str:
        """A request that stays in flight; the replica it went to."""
        replica = self.router.choose(route, key, tried).id
        self.works.setdefault(replica, []).append(self.router.begin(replica))
        return replica

    def end(self, replica: str, *, failed: bool | None = False) -> None:
        """The oldest request at the replica is over."""
        self.router.finish(replica, failed=failed, work=self.works[replica].pop(0))

    def answer(self, replica: str) -> None:
        """The latest request at the replica has its first token."""
        self.router.answering(replica, self.works[replica][-1])
        self.works[replica][-1] = 0

    def ask(self, route: RouteRecord, key: Prefix | None = None) -> str:
        """A request that is answered at once; the replica it went to."""
        replica = self.begin(route, key)
        self.end(replica)
        return replica

    def fail(self, route: RouteRecord, replica: str, times: int = 5) -> None:
        """So many requests to the replica fail one after the other."""
        self.router.choose(route, None)
        for _ in range(times):
            self.router.finish(replica, failed=True, work=self.router.begin(replica))

    def serving(self, route: RouteRecord) -> set[str]:
        """The replicas that requests go to."""
        return {self.ask(route) for _ in range(4 * len(route.replicas))}


@pytest.fixture
def traffic() -> Traffic:
    """Through a router with the default settings."""
    return Traffic()


@pytest.fixture
def traffic_with() -> Callable[..., Traffic]:
    """Through routers with other settings."""
    return Traffic
