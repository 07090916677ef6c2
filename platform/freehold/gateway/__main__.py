"""`python -m freehold.gateway`: starts everything, waits for SIGTERM or SIGINT, drains, ships, ends."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from typing import TYPE_CHECKING

import uvloop

from freehold.common import env, logging
from freehold.gateway.accesslog import AccessLog
from freehold.gateway.app import Gateway
from freehold.gateway.http1 import Connection
from freehold.gateway.journal import Journal
from freehold.gateway.meter import Meter
from freehold.gateway.private import Private
from freehold.gateway.segments import JournalUnreadable
from freehold.gateway.settings import Settings, from_environment
from freehold.gateway.shipper import Shipper
from freehold.gateway.slots import Slots
from freehold.gateway.upstream import Pool
from freehold.wire.follow import Follower

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CANCEL_SECONDS = 5.0

log = logging.get_logger("freehold.gateway")


class CannotStart(Exception):
    """The message says what to do."""


def _lock(state: Path) -> int:
    """Holds the state folder for this process; a second gateway on one journal would bill twice."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise CannotStart(
            f"Another gateway uses {state}. Stop it, or set GATEWAY_STATE to a folder of its own."
        ) from None
    return file


async def serve(settings: Settings) -> None:
    """Runs the gateway until it is told to stop. Raises CannotStart."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    journal = Journal(
        settings.state / "journal", segment_bytes=settings.segment_bytes, reserve_bytes=settings.reserve_bytes
    )
    slots = Slots(settings.state / "slots", settings.max_requests)
    meter = Meter(journal, slots, settings.region)
    meter.recover()
    follower = Follower(settings.redis_url, settings.state / "snapshot")
    follower.load_from_disk()
    shipper = Shipper(settings.redis_url, journal, settings.gateway_id, settings.resend_seconds)
    pool = Pool(settings.connect_seconds)
    gateway = Gateway(
        settings=settings,
        snapshot=follower.snapshot,
        journal=journal,
        slots=slots,
        meter=meter,
        pool=pool,
        shipper=shipper,
        access=AccessLog(),
    )
    tasks = [loop.create_task(work) for work in (follower.run(), journal.run(), shipper.run(), gateway.sweep())]
    for task in tasks:
        task.add_done_callback(lambda _: stop.set())  # none of them ends by itself: if one does, so do we
    private_connections: set[Connection] = set()
    public = await _listen(lambda: Connection(gateway, settings, gateway.connections), settings.host, settings.port)
    # Afterwards: whoever is told that we are ready finds us.
    private = await _listen(
        lambda: Connection(Private(gateway), settings, private_connections),
        settings.private_host,
        settings.private_port,
    )
    log.info(
        "gateway_started", host=settings.host, port=settings.port, epoch=journal.epoch, gateway=settings.gateway_id
    )
    await stop.wait()
    log.info("gateway_draining", connections=len(gateway.connections))
    public.close()
    await gateway.drain()
    failures = [task.exception() for task in tasks if task.done() and not task.cancelled()]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)
    journal.shut()
    await shipper.close()
    private.close()
    slots.close()
    log.info("gateway_stopped")
    for failure in failures:
        if failure is not None:
            raise failure


async def _listen(factory: Callable[[], Connection], host: str, port: int) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(factory, host, port, backlog=4096)
    except OSError as error:
        raise CannotStart(
            f"Port {port} on {host} cannot be listened on ({error.strerror}). Stop what uses it, or shift all ports "
            "with FREEHOLD_PORT_OFFSET."
        ) from error


def main() -> int:
    """Entry point. Returns the exit code."""
    try:
        settings = from_environment()
        logging.configure(json=settings.json_log)
        held = _lock(settings.state)
        uvloop.run(serve(settings))
    except (CannotStart, JournalUnreadable, env.ConfigurationError) as error:
        sys.stderr.write(f"The gateway cannot start: {error}\n")
        return 1
    os.close(held)
    return 0


if __name__ == "__main__":
    sys.exit(main())
