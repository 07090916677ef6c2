"""The gateway's parent: opens the sockets, keeps GATEWAY_PROCESSES processes at work on them, and does nothing else.

- One that crashes is started again on its own folder, where it settles what was open. One that says nothing for
  GATEWAY_HUNG_SECONDS hangs, takes connections all the same, and is killed.
- SIGHUP replaces all: successors start on free folders, and only when every one of them is ready are the old ones told
  to let their clients go. One that does not come up leaves everything as it was.
- SIGTERM and SIGINT have all of them leave; so does a drain, asked for on any private port, after which they answer 503
  until SIGTERM.
- A folder that nobody uses any more, and whose journal may not have been shipped, gets a replay (replay.py).

In a container it is process 1 and waits for whatever is orphaned there. When it is killed its processes leave by
themselves (parent.py). It never imports uvloop, msgspec or redis: what it weighs is added to every gateway.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence

from freehold.common import env
from freehold.gateway import channel
from freehold.gateway.children import Child, start_child, start_replay
from freehold.gateway.doors import CannotListen, Doors, open_doors
from freehold.gateway.place import Place, place
from freehold.gateway.state import PARENT, StateInUse, hold

READY_SECONDS = 120.0  # that successors get
_STEADY_SECONDS = 10.0  # one that has served so long may be started again at once
_PAUSE_MOST = 5.0
_TRIES = 8
_REPLAY_SECONDS = 60.0  # between tries
_LOOKS = 6  # for those that hang, within the time after which they do
_CANNOT_START = 1
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Seat:
    """One of the GATEWAY_PROCESSES, whoever sits there.

    Attributes:
        folder: that the last one had and the next one takes, if it is free.
        failures: ends in a row without having served for a while.
        due: monotonic time from which an empty seat is filled.
    """

    def __init__(self, number: int, doors: Doors) -> None:
        self.number = number
        self.doors = doors
        self.child: Child | None = None
        self.successor: Child | None = None
        self.folder = number
        self.failures = 0
        self.due = 0.0


class Processes:
    """All of them, from the first start to the last end.

    Args:
        environ: what the processes find in their environment, besides what differs between them.
    """

    def __init__(self, where: Place, doors: Sequence[Doors], environ: Mapping[str, str]) -> None:
        self._place = where
        self._environ = environ
        self._json = env.boolean("GATEWAY_LOG_JSON", True, environ=environ)
        self._seats = [Seat(number, own) for number, own in enumerate(doors)]
        self._children: dict[int, Child] = {}
        self._replay = 0  # process id of the replay that runs
        self._replayed: set[int] = set()  # folders it is at, but for those that were taken into use meanwhile
        self._replay_at = 0.0
        self._looked_at = time.monotonic()
        self._shipped: set[int] = set()  # folders known to hold nothing that metering has not confirmed
        self._reload_by: float | None = None  # deadline of the reload that goes on
        self._reload_again = False
        self._served = False
        self._draining = False
        self._stopping = False
        self._code = 0
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Until SIGTERM or SIGINT, or until a process cannot be started. Returns the exit code."""
        signals = _catch()
        self._selector.register(signals, selectors.EVENT_READ)
        while not (self._stopping and not self._children and not self._replay):
            self._look_after()
            ready = self._selector.select(self._pause())
            for number in _taken(signals):  # first: who has been told to stop starts nobody in a leaver's place
                self._signalled(number)
            for key, _ in ready:
                if isinstance(key.fileobj, Child) and key.fileobj.pid in self._children:
                    self._hear(key.fileobj)
        return self._code

    # Signals

    def _signalled(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._wait_for_children()
        elif number == signal.SIGHUP:
            self._reload()
        else:
            self._stop(0)

    def _stop(self, code: int) -> None:
        """All leave; the parent ends after the last one."""
        if self._stopping:
            return
        self._stopping = True
        self._code = code
        self._say("info", "gateway_processes_leaving", processes=len(self._children))
        for child in self._children.values():
            child.terminate()
        if self._replay:
            os.kill(self._replay, signal.SIGTERM)

    def _wait_for_children(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            if pid == self._replay:
                if code == 0:
                    self._shipped |= self._replayed
                self._replay, self._replay_at = 0, time.monotonic() + _REPLAY_SECONDS
            elif pid in self._children:
                self._ended(self._children[pid], code)

    # Processes

    def _look_after(self) -> None:
        """What is due now."""
        now = time.monotonic()
        self._kill_hung(now)
        if self._stopping:
            return
        for seat in self._seats:
            if seat.child is None and seat.successor is None and seat.due <= now:
                self._fill(seat)
        if self._reload_by is not None:
            if all(seat.successor is not None and seat.successor.listening for seat in self._seats):
                self._take_over()
            elif self._reload_by <= now:
                self._keep("They were not ready in time.")
        if self._is_idle and self._replay_at <= now:
            self._ship_left_behind()

    def _pause(self) -> float:
        """Seconds until something is due."""
        times = [self._looked_at + self._place.hung_seconds / _LOOKS]
        if not self._stopping:
            times += [seat.due for seat in self._seats if seat.child is None and seat.successor is None]
            if self._reload_by is not None:
                times.append(self._reload_by)
            elif self._is_idle:
                times.append(self._replay_at)
        return max(0.0, min(times) - time.monotonic())

    def _kill_hung(self, now: float) -> None:
        """Ends those that say nothing any more; `_ended` does the rest. They are given time anew where it was we that
        stood still, and perhaps they with us."""
        longest = self._place.hung_seconds
        stood_still = now - self._looked_at > longest / 2
        self._looked_at = now
        for child in self._children.values():
            if stood_still:
                child.heard_at = max(child.heard_at, now)
            elif now - child.heard_at > longest:
                child.heard_at = now  # tried again after as long, should it not end
                self._say("error", "gateway_process_hung", process=child.number, pid=child.pid, seconds=longest)
                child.kill()

    @property
    def _is_idle(self) -> bool:
        """Whether there is time for what was left behind."""
        settled = all(seat.child is not None and seat.child.listening for seat in self._seats)
        return settled and self._reload_by is None and not (self._replay or self._draining)

    def _fill(self, seat: Seat) -> None:
        try:
            seat.child = self._start(seat, successor=False)
        except OSError as error:
            self._say("error", "gateway_process_not_started", process=seat.number, error=str(error))
            self._failed(seat)

    def _start(self, seat: Seat, *, successor: bool) -> Child:
        """Raises OSError."""
        folder, lock = self._hold(seat.folder)
        environ = self._place.environment_of(folder, self._environ)
        try:
            with contextlib.suppress(OSError):  # it can serve without, a little later
                self._place.share_snapshot(folder)
            child = start_child(seat.number, folder, seat.doors, lock, environ, successor=successor)
        finally:
            os.close(lock)
        self._shipped.discard(folder)
        self._replayed.discard(folder)
        self._children[child.pid] = child
        self._selector.register(child, selectors.EVENT_READ)
        seat.folder = folder
        return child

    def _hold(self, preferred: int) -> tuple[int, int]:
        """A folder that nobody uses, and its lock. Raises OSError."""
        for folder in itertools.chain([preferred], itertools.count()):
            try:
                return folder, hold(self._place.path_of(folder))
            except StateInUse:
                continue  # by one that leaves, by a replay, or by one whose parent was killed
        raise AssertionError("there is always another number")

    def _failed(self, seat: Seat) -> None:
        seat.failures += 1
        seat.due = time.monotonic() + min(_PAUSE_MOST, 0.1 * 2**seat.failures)
        if seat.failures >= _TRIES:
            self._say("error", "gateway_gives_up", process=seat.number)
            self._stop(_CANNOT_START)

    def _ended(self, child: Child, code: int) -> None:
        self._hear(child)  # its last words
        child.close()
        del self._children[child.pid]
        if child.left is not None and not child.left[1]:
            self._shipped.add(child.folder)
        else:
            self._replay_at = 0.0
        seat = self._seats[child.number]
        if not child.told:
            self._say("error", "gateway_process_ended", process=child.number, pid=child.pid, exit_code=code)
        if seat.successor is child:
            seat.successor = None
            self._keep("One of them ended.")
        elif seat.child is child:
            self._vacate(seat, child)
            if code == _CANNOT_START and not self._served:
                self._stop(_CANNOT_START)  # it has said why, and starting it again would change nothing
        self._tell_others()
        self._report_drained()

    def _vacate(self, seat: Seat, child: Child) -> None:
        """Its process has ended or is about to: the seat is filled again, at once if it had served for a while."""
        seat.child = None
        if self._reload_by is not None:
            self._keep("One of those that serve has ended.")
        if child.listening and time.monotonic() - child.since > _STEADY_SECONDS:
            seat.failures, seat.due = 0, 0.0
        elif not self._stopping:
            self._failed(seat)

    # What they say

    def _hear(self, child: Child) -> None:
        try:
            for word, numbers in child.heard():
                if word == channel.LISTENING:
                    self._listening(child)
                elif word == channel.READY:
                    if child.ready is not bool(numbers[0]):
                        child.ready = not child.ready
                        self._tell_others()
                elif word == channel.LEAVING:
                    self._leaving(child)
                elif word == channel.LEFT:
                    in_flight, unshipped = numbers
                    child.left = in_flight, unshipped
                    self._report_drained()
                elif word == channel.DRAIN:
                    self._drain()
        except channel.Closed:
            self._selector.unregister(child)

    def _listening(self, child: Child) -> None:
        child.listening = self._served = True
        self._say("info", "gateway_process_started", process=child.number, pid=child.pid, folder=child.folder)
        self._tell_others()
        if self._draining:
            child.say(channel.DRAIN)

    def _tell_others(self) -> None:
        """Whoever asks one process asks for the whole gateway."""
        ready = [seat.child is not None and seat.child.ready for seat in self._seats]
        for child in self._children.values():
            others = [each for number, each in enumerate(ready) if number != child.number]
            child.say(channel.OTHERS, others.count(False))

    def _leaving(self, child: Child) -> None:
        """By itself, because something in it has failed or somebody has sent it SIGTERM: another takes its seat."""
        seat = self._seats[child.number]
        if seat.child is child and not (child.told or self._draining or self._stopping):
            self._say("warning", "gateway_process_leaving", process=child.number, pid=child.pid)
            self._vacate(seat, child)

    # Drain

    def _drain(self) -> None:
        """All of them, those that are on their way out too. Asked again, it is said again."""
        self._draining = True
        for child in self._children.values():
            child.say(channel.DRAIN)
        self._report_drained()

    def _report_drained(self) -> None:
        left = [child.left for child in self._children.values() if child.left is not None]
        seated = all(seat.child is not None for seat in self._seats)
        if self._draining and seated and len(left) == len(self._children):
            totals = sum(in_flight for in_flight, _ in left), sum(unshipped for _, unshipped in left)
            for child in self._children.values():
                child.say(channel.DRAINED, *totals)

    # Reload

    def _reload(self) -> None:
        if self._draining or self._stopping:
            self._say("warning", "gateway_reload_refused", reason="It is on its way out.")
        elif self._reload_by is not None:
            self._reload_again = True
        else:
            self._say("info", "gateway_reloading")
            self._reload_by = time.monotonic() + READY_SECONDS
            try:
                for seat in self._seats:
                    seat.successor = self._start(seat, successor=True)
            except OSError as error:
                self._keep(str(error))

    def _take_over(self) -> None:
        self._reload_by = None
        for seat in self._seats:
            old, seat.child, seat.successor = seat.child, seat.successor, None
            seat.failures = 0
            if old is not None:
                old.say(channel.REPLACED)
        self._tell_others()
        self._say("info", "gateway_reloaded")
        if self._reload_again:
            self._reload_again = False
            self._reload()

    def _keep(self, reason: str) -> None:
        """Everything stays as it was before the reload."""
        if self._reload_by is None:
            return
        self._reload_by, self._reload_again = None, False
        self._say("error", "gateway_reload_failed", reason=reason)
        for seat in self._seats:
            if seat.successor is not None:
                seat.successor.terminate()
                seat.successor = None

    # What was left behind

    def _ship_left_behind(self) -> None:
        used = {child.folder for child in self._children.values()}
        folders = [folder for folder in self._place.journals() if folder not in used | self._shipped]
        self._replay_at = time.monotonic() + _REPLAY_SECONDS
        if folders:
            self._say("info", "gateway_replays", folders=folders)
            self._replay, self._replayed = start_replay(folders, self._environ), set(folders)

    def _say(self, level: str, event: str, **facts: object) -> None:
        """A line as the processes write them, in JSON or to be read."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        if self._json:
            line = {**facts, "module": __name__, "event": event, "level": level, "timestamp": stamp}
            sys.stderr.write(json.dumps(line) + "\n")
        else:
            words = " ".join(f"{name}={fact}" for name, fact in facts.items())
            sys.stderr.write(f"{stamp} [{level}] {event} {words}\n")
        sys.stderr.flush()


def _catch() -> socket.socket:
    """Has signals arrive as bytes on a socket, so that one that comes just before a wait ends it."""
    arriving, leaving = socket.socketpair()
    arriving.setblocking(False)
    leaving.setblocking(False)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(leaving.detach())
    return arriving


def _taken(signals: socket.socket) -> bytes:
    try:
        return signals.recv(4096)
    except BlockingIOError:
        return b""


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Entry point of `python -m freehold.gateway`. Returns the exit code."""
    try:
        where = place(environ)
        held = hold(where.state, PARENT)
        doors = open_doors(where.processes, where.private_host)
        processes = Processes(where, doors, environ)
    except (CannotListen, StateInUse, OSError, env.ConfigurationError) as error:
        sys.stderr.write(f"The gateway cannot start: {error}\n")
        return _CANNOT_START
    code = processes.run()
    os.close(held)
    return code
