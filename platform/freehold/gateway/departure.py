"""Out of service, in an order that loses neither a request nor its usage. Begun by SIGTERM, by POST /drain on the
private port, or by the parent that has put another process in this one's place (parent.py), whichever comes first.

1. readyz fails. For `withdraw_seconds` requests are still served, each answer asking the client to close: whoever sends
   them (Kubernetes' endpoints, a load balancer) hears of the failed readiness a moment later, not at once. A process
   that is replaced lets its clients close their connections instead, for at most `reload_seconds`: nobody waits for it.
2. New requests are answered 503. Those under way get `drain_seconds`, then they are cut.
3. What they came to is shipped, until metering has confirmed all of it, for at most `ship_seconds`. What is left stays
   in the journal for the next start, or for `python -m freehold.gateway.replay`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from freehold.common.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from freehold.gateway.app import Gateway
    from freehold.gateway.journal import Journal
    from freehold.gateway.settings import Settings

log = get_logger(__name__)

_POLL_SECONDS = 0.02


class Left(msgspec.Struct, frozen=True):
    """What a departure left behind.

    Attributes:
        in_flight: requests still open.
        unshipped: billed records that metering has not confirmed; they are safe in the journal.
    """

    in_flight: int
    unshipped: int


class Departure:
    """One gateway's way out; happens once.

    Args:
        ships: whether shipping still goes on; where it has ended, waiting for it is of no use.

    Attributes:
        task: the departure, once it has begun.
        withdrawn: set when new requests are refused from now on.
    """

    def __init__(self, gateway: Gateway, journal: Journal, settings: Settings, ships: Callable[[], bool]) -> None:
        self._gateway = gateway
        self._journal = journal
        self._settings = settings
        self._ships = ships
        self._hurried = False
        self.task: asyncio.Task[Left] | None = None
        self.withdrawn = asyncio.Event()

    def begin(self, *, replaced: bool = False) -> asyncio.Task[Left]:
        """Begins, or returns what was begun. Whoever waits for the task must not cancel it."""
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._run(replaced))
        return self.task

    def hurry(self) -> None:
        """Whoever is replaced waits for its clients no longer."""
        self._hurried = True

    async def _run(self, replaced: bool) -> Left:
        gateway = self._gateway
        gateway.draining = True
        log.info("gateway_draining", connections=len(gateway.connections), replaced=replaced)
        if replaced:
            await self._fade()
        else:
            await asyncio.sleep(self._settings.withdraw_seconds)
        gateway.refusing = True
        self.withdrawn.set()
        await gateway.drain()
        await self._ship()
        left = Left(in_flight=gateway.in_flight, unshipped=self._unshipped)
        log.info("gateway_drained", in_flight=left.in_flight, unshipped=left.unshipped)
        return left

    async def _fade(self) -> None:
        """Until the last client is gone: each answer asks it to close, and the sweeper closes what stays idle."""
        deadline = time.monotonic() + self._settings.reload_seconds
        while self._gateway.connections and not self._hurried and time.monotonic() < deadline:  # noqa: ASYNC110 - of many
            await asyncio.sleep(_POLL_SECONDS)

    async def _ship(self) -> None:
        deadline = time.monotonic() + self._settings.ship_seconds
        while self._unshipped and self._ships() and time.monotonic() < deadline:  # noqa: ASYNC110 - the shipper polls
            await asyncio.sleep(_POLL_SECONDS)

    @property
    def _unshipped(self) -> int:
        return self._journal.sequence - self._journal.watermark
