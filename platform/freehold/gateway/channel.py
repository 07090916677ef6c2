"""What the parent and a process of the gateway say to each other: a word and some numbers a message, over a pair of
sockets that keep messages apart. When the other side is gone, so is the channel: that is how a process learns that its
parent was killed.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

# A process to its parent:
LISTENING = "listening"  # takes connections from now on
READY = "ready"  # 1 or 0: whether it should be sent requests; said again every SIGN_SECONDS, as a sign of life
LEAVING = "leaving"  # and needs somebody in its place, unless it was told to go
DRAIN = "drain"  # somebody asked for it on the private port; the parent says the same word to all processes
LEFT = "left"  # in_flight, unshipped: the departure is over (departure.Left)
# The parent to a process:
REPLACED = "replaced"  # another has taken over: take nothing new, let what is there end
OTHERS = "others"  # how many others are not ready; the answer to "listening", and said again where that changes
DRAINED = "drained"  # in_flight, unshipped: the departures of all processes are over

SIGN_SECONDS = 1.0
_LONGEST = 256


class Closed(Exception):
    """The other side is gone."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new channel. Neither ever blocks."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def say(channel: socket.socket, word: str, *numbers: int) -> None:
    """Sends a message, or drops it: whoever is gone, or so stuck that its queue is full, is not waited for."""
    try:
        channel.send(" ".join([word, *map(str, numbers)]).encode())
    except OSError:
        return


def heard(channel: socket.socket) -> Iterator[tuple[str, list[int]]]:
    """The messages that are there. Raises Closed after the last one of a side that is gone."""
    while True:
        try:
            message = channel.recv(_LONGEST)
        except BlockingIOError:
            return
        except ConnectionResetError:
            message = b""
        if not message:
            raise Closed
        word, *numbers = message.decode().split()
        yield word, [int(number) for number in numbers]
