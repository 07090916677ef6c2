"""A process of the gateway, as its parent (processes.py) sees it."""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from freehold.gateway import channel
from freehold.gateway.doors import Doors

_MODULE = "freehold.gateway.process"
_REPLAY = "freehold.gateway.replay"
_WRITE_SECONDS = 0.1  # for a stack


class Child:
    """One that runs.

    Attributes:
        number: which of the gateway's processes it is.
        folder: whose state it holds (place.py).
        since: monotonic time of its start.
        heard_at: monotonic time at which it last said something; infinite before it has.
        listening: it takes connections, or has taken them.
        ready: it should be sent requests.
        told: it leaves because it was told to.
        left: requests in flight and records unshipped when its departure was over; None before.
    """

    def __init__(self, pid: int, link: socket.socket, number: int, folder: int) -> None:
        self.pid = pid
        self.number = number
        self.folder = folder
        self.since = time.monotonic()
        self.heard_at = math.inf
        self.listening = False
        self.ready = False
        self.told = False
        self.left: tuple[int, int] | None = None
        self._link = link
        self._silent = False

    def fileno(self) -> int:
        """Of the channel, for a selector."""
        return self._link.fileno()

    def heard(self) -> Iterator[tuple[str, list[int]]]:
        """What it has said. Raises channel.Closed, once, when it will not say anything any more."""
        if not self._silent:
            try:
                for message in channel.heard(self._link):
                    self.heard_at = time.monotonic()
                    yield message
            except channel.Closed:
                self._silent = True
                raise

    def say(self, word: str, *numbers: int) -> None:
        """Tells it something."""
        self.told = self.told or word == channel.REPLACED
        channel.say(self._link, word, *numbers)

    def terminate(self) -> None:
        """SIGTERM."""
        self.told = True
        os.kill(self.pid, signal.SIGTERM)  # it exists until it is waited for

    def kill(self) -> None:
        """For one that hangs: it is to write where (serving.py), and is ended."""
        os.kill(self.pid, signal.SIGUSR1)
        time.sleep(_WRITE_SECONDS)
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Forgets the channel of one that has ended."""
        self._link.close()


def start_child(
    number: int, folder: int, doors: Doors, lock: int, environ: Mapping[str, str], *, successor: bool
) -> Child:
    """Starts one, with the sockets it is to listen on and the lock of the folder that is its own. Raises OSError."""
    ours, theirs = channel.pair()
    command = [
        sys.executable, "-m", _MODULE, "--number", str(number),
        "--channel", str(theirs.fileno()), "--lock", str(lock),
        "--public", *(str(door.fileno()) for door in doors.public),
        "--private", *(str(door.fileno()) for door in doors.private),
        *(["--successor"] if successor else []),
    ]  # fmt: skip
    try:
        pid = _spawn(command, environ, keep=[theirs.fileno(), lock, *(door.fileno() for door in doors.all)])
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return Child(pid, ours, number, folder)


def start_replay(folders: Sequence[int], environ: Mapping[str, str]) -> int:
    """Ships the journals of folders that nobody uses (replay.py). Returns its process id. Raises OSError."""
    return _spawn([sys.executable, "-m", _REPLAY, *map(str, folders)], environ, keep=[])


def _spawn(command: list[str], environ: Mapping[str, str], *, keep: Sequence[int]) -> int:
    for file in keep:
        os.set_inheritable(file, True)
    try:
        # SIGHUP stays blocked: one sent to the whole group, by a terminal that goes away, is for the parent.
        return os.posix_spawn(command[0], command, environ, setsigmask=[signal.SIGHUP])
    finally:
        for file in keep:
            os.set_inheritable(file, False)
