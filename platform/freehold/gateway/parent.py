"""The parent, as a process of the gateway sees it; and how leaving is agreed on with it.

Leaving is begun by SIGTERM or SIGINT, by `POST /drain` on any process's private port (all of them leave then), by the
parent that has put another process in our place, or by the parent's death: nobody would start us again, and a new
parent needs the ports.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from freehold.common.logging import get_logger
from freehold.gateway import channel
from freehold.gateway.departure import Left

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from freehold.gateway.departure import Departure

_LOOK_SECONDS = 0.1

log = get_logger(__name__)


class Parent:
    """One process's side of the channel. Without a channel it agrees with itself.

    Attributes:
        others: how many of the gateway's other processes are not ready; None until the parent has said so.
        taken_over: others listen on our sockets now, or want to.
    """

    def __init__(self, link: socket.socket | None, departure: Departure, stop: asyncio.Event) -> None:
        self._link = link
        self._departure = departure
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._drained: asyncio.Future[Left] = self._loop.create_future()
        self._left: Left | None = None
        self._ready = False
        self.others: int | None = 0 if link is None else None
        self.taken_over = False
        if link is not None:
            self._loop.add_reader(link.fileno(), self._hear)

    def listening(self) -> None:
        """Tells it that we take connections."""
        self._say(channel.LISTENING)

    async def follow(self, unready: Callable[[], str]) -> None:
        """Tells it whether we are ready, at once where that changes, and that we live, until cancelled."""
        due = 0.0
        while True:
            now = self._loop.time()
            if (ready := not unready()) is not self._ready or now >= due:
                self._ready = ready
                due = now + channel.SIGN_SECONDS
                self._say(channel.READY, int(ready))
            await asyncio.sleep(_LOOK_SECONDS)

    def end(self) -> None:
        """SIGTERM. Whoever is being replaced, and has all the time in the world, hurries then."""
        self.leave()
        self._departure.hurry()
        self._stop.set()

    def leave(self) -> asyncio.Task[Left]:
        """Begins the departure, or returns what was begun."""
        task = self._departure.task
        if task is None:
            self._say(channel.LEAVING)
            task = self._departure.begin(replaced=self.taken_over)
            task.add_done_callback(self._gone)
        return task

    def drain_all(self) -> asyncio.Future[Left]:
        """Has all processes of the gateway leave. The future says what they left behind, taken together; it must not be
        cancelled."""
        self._say(channel.DRAIN)  # before it hears that we leave, which would have it put another in our place
        self.leave()
        self._departure.hurry()
        return self._drained

    def _gone(self, task: asyncio.Task[Left]) -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self._stop.set()  # the process ends of it
            if not self._drained.done():
                self._drained.set_exception(failure)
                self._drained.exception()  # seen, whether or not somebody asked for the drain
            return
        self._left = task.result()
        self._say(channel.LEFT, self._left.in_flight, self._left.unshipped)
        if self._link is None:
            self._told(self._left)

    def _told(self, left: Left) -> None:
        if not self._drained.done():
            self._drained.set_result(left)

    def _say(self, word: str, *numbers: int) -> None:
        if self._link is not None:
            channel.say(self._link, word, *numbers)

    def _hear(self) -> None:
        if self._link is None:
            return
        try:
            for word, numbers in channel.heard(self._link):
                if word == channel.OTHERS:
                    (self.others,) = numbers
                elif word == channel.DRAIN:
                    self.leave()
                    self._departure.hurry()
                elif word == channel.DRAINED:
                    in_flight, unshipped = numbers
                    self._told(Left(in_flight=in_flight, unshipped=unshipped))
                elif word == channel.REPLACED:
                    self.taken_over = True
                    self._stop.set()
        except channel.Closed:
            self._lost()

    def _lost(self) -> None:
        if self._link is None:
            return
        self._loop.remove_reader(self._link.fileno())
        self._link.close()
        self._link = None
        log.error("gateway_parent_lost")
        self.taken_over = True
        self.end()
        if self._left is not None:
            self._told(self._left)
