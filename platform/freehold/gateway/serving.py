"""What `python -m freehold.gateway.process` does once it is decided which modules it runs (process.py). Started by the
parent (processes.py), it is handed sockets, a state folder that is already held, and a channel. Started by hand it
opens its own sockets and is a whole gateway without a parent.

`serve` is where the parts are put together: what runs beside the requests goes into `tasks`, what has to be given back
goes to its end.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import uvloop

from freehold.common import env, logging
from freehold.gateway import doors, native, place
from freehold.gateway.accesslog import AccessLog
from freehold.gateway.admission.admission import Admission
from freehold.gateway.app import Gateway
from freehold.gateway.departure import Departure
from freehold.gateway.doors import BACKLOG, CannotListen, Doors
from freehold.gateway.http1 import Connection
from freehold.gateway.journal import Journal
from freehold.gateway.meter import Meter
from freehold.gateway.parent import Parent
from freehold.gateway.private import GOING, Private
from freehold.gateway.routing.router import Router
from freehold.gateway.segments import JournalUnreadable
from freehold.gateway.settings import Settings, from_environment
from freehold.gateway.shipper import Shipper
from freehold.gateway.slots import Slots
from freehold.gateway.state import StateInUse, hold
from freehold.gateway.upstream import Pool
from freehold.wire.follow import Follower

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CANCEL_SECONDS = 5.0
# Objects between two looks for cycles, which neither a request nor a connection leaves; then how often they go deeper.
_GARBAGE = 10_000, 5, 5
_POLL_SECONDS = 0.02

log = logging.get_logger("freehold.gateway")


@dataclass(frozen=True, slots=True)
class Post:
    """What a process is given to start with.

    Attributes:
        number: which of the gateway's processes it is, from 0; says which private port is its own.
        channel: to the parent; None without one.
        successor: another one serves meanwhile: listen only once ready.
    """

    number: int
    doors: Doors
    channel: socket.socket | None = None
    successor: bool = False


async def serve(settings: Settings, post: Post) -> None:
    """Runs until it is told to stop, is replaced, or loses its parent; then leaves (departure.py)."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    journal = Journal(
        settings.state / "journal", segment_bytes=settings.segment_bytes, reserve_bytes=settings.reserve_bytes
    )
    slots = Slots(settings.state / "slots", settings.max_requests)
    meter = Meter(journal, slots, settings.region, loop.call_soon)
    meter.recover()
    follower = Follower(settings.redis_url, settings.state / place.SNAPSHOT)
    follower.load_from_disk()
    admission = Admission(snapshot=follower.snapshot, settings=settings, journal=journal)
    shipper = Shipper(
        settings.redis_url, journal, settings.gateway_id, settings.resend_seconds, confirmed=admission.confirmed
    )
    router = Router(load=settings.load_percent / 100, clock=loop.time)
    pool = Pool(settings.connect_seconds)
    gateway = Gateway(
        settings=settings,
        snapshot=follower.snapshot,
        journal=journal,
        slots=slots,
        meter=meter,
        pool=pool,
        router=router,
        admission=admission,
        shipper=shipper,
        access=AccessLog(),
    )
    departure = Departure(gateway, journal, settings, lambda: not any(task.done() for task in tasks))
    parent = Parent(post.channel, departure, stop)
    tasks = [
        loop.create_task(work)
        for work in (
            follower.run(),
            journal.run(),
            shipper.run(),
            admission.run(),
            router.run(),
            gateway.sweep(),
            parent.follow(gateway.unready),
        )
    ]
    for task in tasks:
        task.add_done_callback(lambda _: parent.end())  # none of them ends by itself: if one does, so do we
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, parent.end)
    if post.successor:
        await _until_ready(gateway, stop)
    private_connections: set[Connection] = set()
    public = await _listen(lambda: Connection(gateway, settings, gateway.connections), post.doors.public)
    # Afterwards: whoever is told that we are ready finds us.
    private = await _listen(
        lambda: Connection(Private(gateway, parent), settings, private_connections), post.doors.private
    )
    log.info(
        "gateway_started",
        host=settings.host,
        port=settings.port,
        epoch=journal.epoch,
        gateway=settings.gateway_id,
        native=native.in_use(),
    )
    if not native.in_use():
        log.info("gateway_not_compiled", reason=native.why_not())
    # What is here by now stays: looking through all keys and routes for garbage would only cost time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
    parent.listening()
    await stop.wait()
    if parent.taken_over:  # before we say that we are not ready: others are
        _close(public + private)
        for connection in list(private_connections):
            connection.drain(GOING)
    leaving = parent.leave()
    await departure.withdrawn.wait()
    _close(public)
    await leaving
    failures = [task.exception() for task in tasks if task.done() and not task.cancelled()]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)
    journal.shut()
    await admission.leave()
    await shipper.close()
    _close(private)
    slots.close()
    log.info("gateway_stopped", gateway=settings.gateway_id)
    for failure in failures:
        if failure is not None:
            raise failure


async def _until_ready(gateway: Gateway, stop: asyncio.Event) -> None:
    while gateway.unready() and not stop.is_set():  # noqa: ASYNC110 - snapshot, journal and more make it up
        await asyncio.sleep(_POLL_SECONDS)


async def _listen(factory: Callable[[], Connection], sockets: Sequence[socket.socket]) -> list[asyncio.Server]:
    loop = asyncio.get_running_loop()
    protocols = cast("Callable[[], asyncio.Protocol]", factory)  # by their methods, if not by inheritance
    return [await loop.create_server(protocols, sock=listener, backlog=BACKLOG) for listener in sockets]


def _close(servers: Sequence[asyncio.Server]) -> None:
    """Takes no more; the sockets themselves stay open in the parent. Doing it twice does no harm."""
    for server in servers:
        server.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("freehold.gateway.process", description="One process of the gateway.")
    parser.add_argument("--number", type=int, default=0, help="which of the gateway's processes")
    inherited = parser.add_argument_group("from the parent", "File descriptors; all of them or none.")
    inherited.add_argument("--channel", type=int)
    inherited.add_argument("--lock", type=int)
    inherited.add_argument("--public", type=int, nargs="+", default=[])
    inherited.add_argument("--private", type=int, nargs="+", default=[])
    inherited.add_argument("--successor", action="store_true", help="listen only once ready")
    return parser.parse_args()


def main() -> int:
    """Entry point. Returns the exit code."""
    given = _arguments()
    try:
        settings = from_environment()
        logging.configure(json=settings.json_log)
        if given.channel is None:
            held = hold(settings.state)
            (own,) = doors.open_doors(1, place.private_host_from(os.environ))
            post = Post(given.number, own)
        else:
            held = given.lock
            channel = socket.socket(fileno=given.channel)
            post = Post(given.number, doors.inherited(given.public, given.private), channel, given.successor)
        uvloop.run(serve(settings, post))
    except (CannotListen, StateInUse, JournalUnreadable, env.ConfigurationError) as error:
        sys.stderr.write(f"The gateway cannot start: {error}\n")
        return 1
    os.close(held)
    return 0
