"""An engine's answer to a question of our own, kept whole: which models it serves (upstream.py), how many tokens a text
has (recount.py)."""

from __future__ import annotations

import asyncio

from freehold.gateway.exchange import Listener


class Reply(Listener):
    """A Listener for those who can wait.

    Args:
        largest: bytes of a body that are kept; a longer one is no answer.

    Attributes:
        status: of HTTP.
        body: empty where it was too large.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._kept = bytearray()
        self.status = 0

    async def come(self) -> None:
        """Returns once the answer is complete. Raises ConnectionResetError where it breaks off."""
        await self._complete

    @property
    def body(self) -> bytes:
        """What came."""
        return bytes(self._kept) if len(self._kept) <= self._largest else b""

    def upstream_head(self, status: int) -> None:
        """Part of Listener."""
        self.status = status

    def upstream_data(self, data: bytes) -> None:
        """Part of Listener."""
        if len(self._kept) <= self._largest:
            self._kept += data

    def upstream_complete(self) -> None:
        """Part of Listener."""
        if not self._complete.done():
            self._complete.set_result(None)

    def upstream_lost(self, reason: str) -> None:
        """Part of Listener."""
        if not self._complete.done():
            self._complete.set_exception(ConnectionResetError(reason))
