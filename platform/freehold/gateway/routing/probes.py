"""GET /health over a connection of its own: for replicas that serve, or are to serve again. Off the hot path."""

from __future__ import annotations

import asyncio
import random

from freehold.common.logging import get_logger

log = get_logger(__name__)

EVERY_SECONDS = 5.0
TIMEOUT_SECONDS = 3.0
_LONGEST_LINE = 1_024


def pause() -> float:
    """Seconds to the next probe, jittered by a fifth so that gateways and replicas do not fall into step."""
    return EVERY_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 - no secret hangs on it


async def healthy(host: str, port: int) -> bool:
    """Whether the engine answers 200 within TIMEOUT_SECONDS. vLLM answers 503 once its engine core is dead."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await _ask(host, port)
    except (OSError, TimeoutError, ValueError):  # ValueError: a line longer than the limit
        return False


async def _ask(host: str, port: int) -> bool:
    reader, writer = await asyncio.open_connection(host, port, limit=_LONGEST_LINE)
    try:
        named = f"[{host}]" if ":" in host else host
        writer.write(b"GET /health HTTP/1.1\r\nhost: %s:%d\r\nconnection: close\r\n\r\n" % (named.encode(), port))
        line = await reader.readline()
        return line.startswith(b"HTTP/1.") and line[8:].split(maxsplit=1)[:1] == [b"200"]
    finally:
        writer.transport.abort()
