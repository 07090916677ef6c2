"""This gateway as a member: it connects, tells what it holds, renews its lease, and tells anew whenever Redis may not
know: after a lost connection, a late reply, a flush, a reap, a new epoch.

A session has an id of its own that Redis keeps beside what this gateway holds. DECIDE does nothing for another id, so
what a lost connection still brings to Redis afterwards cannot count twice.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import hiredis
import msgspec

from freehold.common.logging import get_logger
from freehold.gateway.admission import link as links
from freehold.gateway.admission import scripts
from freehold.gateway.failures import LinkLost
from freehold.wire import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from freehold.gateway.journal import Journal

log = get_logger(__name__)

_RETRY_SECONDS = 0.05
_RETRY_MAX_SECONDS = 2.0
_LASTING_SECONDS = 5.0  # after which a connection was a good one, and the next is tried at once
_HURRY_SECONDS = 0.5
FAILURES = (OSError, hiredis.HiredisError, msgspec.MsgspecError)


@dataclass(frozen=True, slots=True)
class Lease:
    """Times in seconds.

    Attributes:
        seconds: after which a gateway that has not renewed is taken for dead.
        renew_seconds: how often it renews.
        patience_seconds: how long an epoch waits for gateways that are expected and not there.
    """

    seconds: float = 15
    renew_seconds: float = 5
    patience_seconds: float = 30


@dataclass(frozen=True, slots=True)
class Books:
    """What a gateway holds, as absolute numbers: requests in flight by scope, nanos by tenant."""

    in_flight: dict[str, int]
    held: dict[str, int]


def message(kind: str, gateway: str, session: str, lease: Lease, books: Books, *, live: bool = True) -> bytes:
    """What MEMBERSHIP takes. Not `live`: for a gateway that is gone; it gets no lease."""
    milliseconds = int(lease.seconds * 1_000) if live else 0
    patience = int(lease.patience_seconds * 1_000)
    return scripts.encode([kind, gateway, session, milliseconds, patience, books.in_flight, books.held])


async def read_watermark(link: links.Link, gateway: str, journal: Journal) -> int | None:
    """How far metering has this journal, None where it has not said or speaks of another copy. Raises as Link does."""
    found = await link.command("HGET", names.WATERMARKS, f"{gateway}/{journal.epoch}")
    return int(found) if found is not None and int(found) <= journal.sequence else None


class Session:
    """The membership of one gateway.

    Args:
        books: asked for the moment they are sent; from then on, changes are to be sent as differences.
        confirmed: told the watermark before each join.
        joined: called when decisions can be sent.
        lost: called when they cannot any more.
        tick: called at every renewal.

    Attributes:
        id: of the session, empty before the first.
        link: open while `online`.
        online: whether decisions can be sent.
        epoch: of the balances, as of the last renewal.
    """

    def __init__(
        self,
        url: str,
        gateway: str,
        journal: Journal,
        lease: Lease,
        *,
        books: Callable[[], Books],
        confirmed: Callable[[int], None],
        joined: Callable[[], None],
        lost: Callable[[], None],
        tick: Callable[[], None],
    ) -> None:
        self._url = url
        self._gateway = gateway
        self._journal = journal
        self._lease = lease
        self._books = books
        self._confirmed = confirmed
        self._joined = joined
        self._lost = lost
        self._tick = tick
        self._wake = asyncio.Event()
        self._hurried = False
        self.id = ""
        self.link: links.Link | None = None
        self.online = False
        self.epoch = ""

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        pause = 0.0
        while True:
            begun = loop.time()
            try:
                await self._connect()
                await self._join()
                await self._keep()
            except FAILURES as error:
                log.warning("admission_without_redis", error=str(error) or type(error).__name__)
            self._disconnect()
            if loop.time() - begun > _LASTING_SECONDS:
                pause = 0.0
            await asyncio.sleep(pause)
            pause = min(max(2 * pause, _RETRY_SECONDS), _RETRY_MAX_SECONDS)

    def forgotten(self) -> None:
        """Redis does not know the session any more."""
        self._offline()
        self._wake.set()

    def hurry(self) -> None:
        """Something would change by a look at the epoch."""
        if not self._hurried:
            self._hurried = True
            self._wake.set()

    async def leave(self) -> None:
        """Gives back concurrency and drops the lease; what is held stays held. Disconnects."""
        link, self.online = self.link, False
        try:
            if link is not None and link.alive:
                await link.idle()
                books = Books({}, self._books().held)
                await link.run(
                    scripts.MEMBERSHIP, message("leave", self._gateway, self.id, self._lease, books, live=False)
                )
        except FAILURES as error:
            log.warning("admission_not_left", error=str(error))
        self._disconnect()

    async def _connect(self) -> None:
        self.link = await links.connect(self._url, self._ended)

    def _disconnect(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.close()
        self._offline()

    def _ended(self) -> None:
        """The link."""
        self._offline()
        self._wake.set()

    def _offline(self) -> None:
        was, self.online = self.online, False
        if was:
            self._lost()

    async def _join(self) -> None:
        """Tells absolute values while nothing is under way."""
        self._offline()
        link = self._alive()
        watermark = await read_watermark(link, self._gateway, self._journal)
        if watermark is not None:
            self._confirmed(watermark)
        await link.idle()
        self.id = uuid.uuid4().hex
        blob = message("join", self._gateway, self.id, self._lease, self._books())
        member = scripts.decode_member(await link.run(scripts.MEMBERSHIP, blob))
        self.epoch = member.epoch
        self.online = True
        log.info("admission_joined", session=self.id, epoch=member.epoch, open=member.open)
        self._joined()

    async def _keep(self) -> None:
        """Renews until the link ends."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            if not self._hurried:
                await self._sleep(self._lease.renew_seconds)
            if self._hurried:
                await self._sleep(_HURRY_SECONDS - (loop.time() - begun))
                self._hurried = False
            link = self._alive()
            if self.online:
                blob = message("renew", self._gateway, self.id, self._lease, Books({}, {}))
                member = scripts.decode_member(await link.run(scripts.MEMBERSHIP, blob))
                if member.known and member.epoch == self.epoch:
                    self._tick()
                    continue
            await self._join()

    async def _sleep(self, seconds: float) -> None:
        """Or until something happens."""
        self._wake.clear()
        if seconds <= 0 or not self.online:  # the link has ended, or Redis has forgotten us: both while we were busy
            return
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _alive(self) -> links.Link:
        if self.link is None or not self.link.alive:
            raise LinkLost("The connection to Redis is lost.")
        return self.link
