"""Journal → Redis stream → metering. Sends closed records in order and shortens the journal by the watermark.

At least once: what lies above the watermark is sent again when the stream has lost it. Metering drops what it has.
While Redis is away nothing is lost and nothing waits: the journal grows on disk.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from freehold.common.logging import get_logger
from freehold.wire import names
from freehold.wire.follow import stop_if_cancelled
from freehold.wire.usage import UsageBatch, UsageRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from freehold.gateway.journal import Journal

log = get_logger(__name__)

BATCH = 500
IN_STREAM = 50_000  # records that may wait in Redis; the rest waits in the journal
POLL_SECONDS = 0.2
_RETRY_SECONDS = 1.0
_CLOSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Sent:
    """A batch in the stream."""

    first: int
    last: int
    position: bytes | str


class Shipper:
    """Ships one journal.

    Args:
        confirmed: told the watermark whenever it has moved.

    Attributes:
        sent: the newest sequence handed to the stream.
    """

    def __init__(
        self,
        url: str,
        journal: Journal,
        gateway: str,
        resend_seconds: float,
        confirmed: Callable[[int], None] = lambda watermark: None,
    ) -> None:
        self._client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
            url, socket_connect_timeout=2, socket_timeout=5
        )
        self._journal = journal
        self._gateway = gateway
        self._resend_seconds = resend_seconds
        self._confirmed = confirmed
        self._in_stream: deque[_Sent] = deque()
        self._progress = time.monotonic()
        self._shipped = False  # anything, since the start
        self.sent = journal.watermark

    async def run(self) -> None:
        """Ships until cancelled; never raises for Redis."""
        while True:
            stop_if_cancelled()
            try:
                await self.step()
                await asyncio.sleep(POLL_SECONDS)
            except (RedisError, OSError) as error:
                log.warning("shipping_interrupted", error=str(error), unshipped=self._journal.sequence - self.sent)
                self._progress = 0.0  # look at the stream as soon as Redis is back
                await asyncio.sleep(_RETRY_SECONDS)

    async def step(self) -> None:
        """Takes the watermark, sends what is new, and what was lost. Raises RedisError."""
        journal = self._journal
        field = f"{self._gateway}/{journal.epoch}"
        found = await self._client.hget(names.WATERMARKS, field)
        watermark = int(found) if found is not None else journal.watermark
        if watermark > (journal.sequence if self._shipped else journal.replayed):
            self._journal_is_older(watermark)
            return
        if journal.rewind(watermark):
            log.warning("metering_went_back", watermark=watermark, resending_from=journal.watermark + 1)
            self._send_again()
        if watermark > journal.watermark:
            self._progress = time.monotonic()
            journal.confirm(watermark)
            self._confirmed(journal.watermark)
        while self._in_stream and self._in_stream[0].last <= journal.watermark:
            self._in_stream.popleft()
        self.sent = max(self.sent, journal.watermark)
        if self.sent > journal.watermark and time.monotonic() - self._progress > self._resend_seconds:
            await self._look_for_loss()
        while (room := IN_STREAM - (self.sent - journal.watermark)) > 0:
            batch = journal.closed_after(self.sent, min(BATCH, room))
            if not batch:
                return
            await self._send([record for _, record in batch], batch[0][0])

    async def _send(self, records: list[UsageRecord], first: int) -> None:
        batch = UsageBatch(
            gateway=self._gateway,
            epoch=self._journal.epoch,
            first_sequence=first,
            records=tuple(records),
            floor=self._journal.floor,
        )
        self._shipped = True
        position = await self._client.xadd(names.USAGE, {"b": msgspec.msgpack.encode(batch)})
        if self.sent <= self._journal.watermark:
            self._progress = time.monotonic()
        self.sent = first + len(records) - 1
        self._in_stream.append(_Sent(first, self.sent, position))

    async def _look_for_loss(self) -> None:
        """The watermark stands still. If the stream still has the oldest unconfirmed batch, metering is behind and
        sending again would only fill Redis; if not, everything above the watermark goes again."""
        self._progress = time.monotonic()
        if self._in_stream:
            oldest = self._in_stream[0].position
            if await self._client.xrange(names.USAGE, min=oldest, max=oldest, count=1):
                return
        log.warning("stream_lost_records", resending_from=self._journal.watermark + 1, up_to=self.sent)
        self._send_again()

    def _send_again(self) -> None:
        self._in_stream.clear()
        self.sent = self._journal.watermark

    def _journal_is_older(self, watermark: int) -> None:
        """Metering has numbers that this journal never gave, so it is an older copy; what it would give them now would
        be dropped as known."""
        log.error("journal_older_than_metering", watermark=watermark, sequence=self._journal.sequence)
        try:
            self._journal.renew_epoch()
        finally:
            self._send_again()

    async def close(self) -> None:
        """Sends what is left, as far as Redis takes it within a moment, and disconnects."""
        try:
            if self.sent < self._journal.sequence:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self.step()
        except (RedisError, OSError) as error:
            log.warning("shipping_interrupted", error=str(error), unshipped=self._journal.sequence - self.sent)
        await self.disconnect()

    async def disconnect(self) -> None:
        """Leaves Redis as it stands."""
        await self._client.aclose()
