"""`python -m freehold.gateway`: starts everything, waits for SIGTERM or SIGINT, leaves (departure.py), ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import uvloop

from freehold.common import env, logging, ports
from freehold.gateway.accesslog import AccessLog
from freehold.gateway.app import Gateway
from freehold.gateway.departure import Departure
from freehold.gateway.http1 import Connection
from freehold.gateway.journal import Journal
from freehold.gateway.meter import Meter
from freehold.gateway.private import Private
from freehold.gateway.segments import JournalUnreadable
from freehold.gateway.settings import Settings, from_environment
from freehold.gateway.shipper import Shipper
from freehold.gateway.slots import Slots
from freehold.gateway.state import StateInUse, hold
from freehold.gateway.upstream import Pool
from freehold.wire.follow import Follower

if TYPE_CHECKING:
    from collections.abc import Callable

_CANCEL_SECONDS = 5.0

log = logging.get_logger("freehold.gateway")


class CannotStart(Exception):
    """The message says what to do."""


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
    departure = Departure(gateway, journal, settings, lambda: not any(task.done() for task in tasks))
    private_connections: set[Connection] = set()
    public = await _listen(lambda: Connection(gateway, settings, gateway.connections), [settings.host], settings.port)
    # Afterwards: whoever is told that we are ready finds us.
    private = await _listen(
        lambda: Connection(Private(gateway, departure), settings, private_connections),
        _with_loopback(settings.private_host),
        settings.private_port,
    )
    log.info(
        "gateway_started", host=settings.host, port=settings.port, epoch=journal.epoch, gateway=settings.gateway_id
    )
    await stop.wait()
    leaving = departure.begin()
    await departure.withdrawn.wait()
    public.close()
    await leaving
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


def _with_loopback(host: str) -> list[str]:
    """Addresses to listen on, so that this machine can always come in by loopback."""
    everywhere = {"", ports.LOOPBACK, "0.0.0.0"}  # noqa: S104 - compared with, not listened on
    return [host] if host in everywhere else [host, ports.LOOPBACK]


async def _listen(factory: Callable[[], Connection], hosts: list[str], port: int) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(factory, hosts, port, backlog=4096)
    except OSError as error:
        raise CannotStart(
            f"Port {port} on {' and '.join(hosts)} cannot be listened on ({error.strerror}). Stop what uses it, or "
            "shift all ports with FREEHOLD_PORT_OFFSET."
        ) from error


def main() -> int:
    """Entry point. Returns the exit code."""
    try:
        settings = from_environment()
        logging.configure(json=settings.json_log)
        held = hold(settings.state)
        uvloop.run(serve(settings))
    except (CannotStart, StateInUse, JournalUnreadable, env.ConfigurationError) as error:
        sys.stderr.write(f"The gateway cannot start: {error}\n")
        return 1
    os.close(held)
    return 0


if __name__ == "__main__":
    sys.exit(main())
