"""What a gateway that is gone still holds of balances: told to Redis from its journal, until the ledger has it all.

Used by replay.py. Its concurrency and its lease end at once; its money is free as metering confirms its records.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from freehold.common.logging import get_logger
from freehold.gateway.admission import link as links
from freehold.gateway.admission import scripts
from freehold.gateway.admission.holdings import Holdings
from freehold.gateway.admission.session import FAILURES, Books, Lease, message, read_watermark

if TYPE_CHECKING:
    from freehold.gateway.journal import Journal
    from freehold.gateway.settings import Settings
    from freehold.wire.follow import Snapshot

log = get_logger(__name__)

_POLL_SECONDS = 0.05
_REPEAT_SECONDS = 5.0  # Redis may have been emptied meanwhile
_RETRY_SECONDS = 1.0


class Estate:
    """Of one journal whose orphans are settled.

    Attributes:
        settled: Redis knows that nothing is held any more.
    """

    def __init__(self, snapshot: Snapshot, settings: Settings, journal: Journal) -> None:
        self._snapshot = snapshot
        self._settings = settings
        self._journal = journal
        self._holdings = Holdings(snapshot, journal)
        self.settled = False

    async def run(self) -> None:
        """Until cancelled; never raises for Redis."""
        while True:
            link: links.Link | None = None
            try:
                link = await links.connect(self._settings.redis_url, _nobody)
                await self._tell(link)
            except FAILURES as error:
                log.warning("estate_not_told", error=str(error) or type(error).__name__)
            finally:
                if link is not None:
                    link.close()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _tell(self, link: links.Link) -> None:
        """Whatever changes, and all of it again from time to time."""
        loop = asyncio.get_running_loop()
        watermark = await read_watermark(link, self._settings.gateway_id, self._journal) or 0
        told: dict[str, int] | None = None
        at = 0.0
        while True:
            held = self._held(max(watermark, self._journal.watermark))
            if held is not None and (held != told or loop.time() - at > _REPEAT_SECONDS):
                blob = message("leave", self._settings.gateway_id, "", Lease(), Books({}, held), live=False)
                await link.run(scripts.MEMBERSHIP, blob)
                told, at = held, loop.time()
                self.settled = not held and self._journal.watermark == self._journal.sequence
            await asyncio.sleep(_POLL_SECONDS)

    def _held(self, watermark: int) -> dict[str, int] | None:
        """None: not known, because prices are not."""
        if self._journal.watermark == self._journal.sequence:
            return {}
        if not self._snapshot.loaded:
            return None
        self._holdings.look_for_accounts()
        self._holdings.confirmed(watermark)
        return self._holdings.absolute()


def _nobody() -> None:
    """The link's end is found by whoever uses it."""
