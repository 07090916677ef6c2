"""What `python -m freehold.gateway.process` does once it is decided which modules it runs (process.py). Started by the
parent (processes.py), it is handed sockets, a state folder that is already held, and a channel. Started by hand it
opens its own sockets and is a whole gateway without a parent.

`Parts` is where everything is put together: what runs beside the requests goes into its `work`, what has to be given
back into its `end`.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import os
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

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
    from collections.abc import Callable, Coroutine, Sequence

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


class Parts:
    """What a process is made of, put together. What a former one left in the journal is settled."""

    def __init__(self, settings: Settings) -> None:
        loop = asyncio.get_running_loop()
        self.journal = Journal(
            settings.state / "journal", segment_bytes=settings.segment_bytes, reserve_bytes=settings.reserve_bytes
        )
        self._slots = Slots(settings.state / "slots", settings.max_requests)
        meter = Meter(self.journal, self._slots, settings.region, loop.call_soon)
        meter.recover()
        self._follower = Follower(settings.redis_url, settings.state / place.SNAPSHOT)
        self._follower.load_from_disk()
        snapshot = self._follower.snapshot
        self._admission = Admission(snapshot=snapshot, settings=settings, journal=self.journal)
        self._shipper = Shipper(
            settings.redis_url,
            self.journal,
            settings.gateway_id,
            settings.resend_seconds,
            confirmed=self._admission.confirmed,
        )
        self._router = Router(load=settings.load_percent / 100, clock=loop.time)
        self.gateway = Gateway(
            settings=settings,
            snapshot=snapshot,
            journal=self.journal,
            slots=self._slots,
            meter=meter,
            pool=Pool(settings.connect_seconds),
            router=self._router,
            admission=self._admission,
            shipper=self._shipper,
            access=AccessLog(),
        )

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the requests. None of it ends by itself."""
        return [
            self._follower.run(),
            self.journal.run(),
            self._shipper.run(),
            self._admission.run(),
            self._router.run(),
            self.gateway.sweep(),
        ]

    async def end(self) -> None:
        """Gives back what was taken, once nothing of `work` runs."""
        self.journal.shut()
        await self._admission.leave()
        await self._shipper.close()
        self._slots.close()


async def serve(settings: Settings, post: Post) -> None:
    """Runs until it is told to stop, is replaced, or loses its parent; then leaves (departure.py)."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    _on_signals(stop.set)
    parts = Parts(settings)
    gateway, journal = parts.gateway, parts.journal
    departure = Departure(gateway, journal, settings, lambda: not any(task.done() for task in tasks))
    parent = Parent(post.channel, departure, stop)
    tasks = [loop.create_task(work) for work in (*parts.work(), parent.follow(gateway.unready))]
    for task in tasks:
        task.add_done_callback(lambda _: parent.end())  # if one ends, so do we
    _on_signals(parent.end)
    if post.successor:
        await _until_ready(gateway, stop)
    private_connections: set[Connection] = set()
    public = await _listen(lambda: Connection(gateway, settings, gateway.connections), post.doors.public)
    # Afterwards: whoever is told that we are ready finds us.
    private = await _listen(
        lambda: Connection(Private(gateway, parent), settings, private_connections), post.doors.private
    )
    _say_started(settings, journal)
    _spare_the_collector()
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
    await parts.end()
    _close(private)
    log.info("gateway_stopped", gateway=settings.gateway_id)
    for failure in failures:
        if failure is not None:
            raise failure


def _on_signals(act: Callable[[], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, act)


def _say_started(settings: Settings, journal: Journal) -> None:
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


def _spare_the_collector() -> None:
    """What is here by now stays: looking through all keys and routes for garbage would only cost time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE)


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
        faulthandler.register(signal.SIGUSR1)  # writes where every thread is: to find out why one hangs
        uvloop.run(serve(settings, post))
    except (CannotListen, StateInUse, JournalUnreadable, env.ConfigurationError) as error:
        sys.stderr.write(f"The gateway cannot start: {error}\n")
        return 1
    os.close(held)
    return 0
