"""The sockets a gateway listens on. The parent opens them and keeps them for its whole life, processes inherit them:
while one is replaced or started again, connections wait in the kernel instead of being refused.

Several processes have a public socket each, and the kernel shares connections out among them by a hash
(SO_REUSEPORT, socket(7)). One socket for all would let whichever process wakes first take most of them, and wake them
all for each.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from freehold.common import ports

BACKLOG = 4096
_EVERYWHERE = ("", ports.LOOPBACK, "0.0.0.0")  # noqa: S104 - compared with, not listened on


class CannotListen(Exception):
    """The message says what to do."""


class Doors:
    """What one process listens on.

    Attributes:
        public, private: listening sockets, one an address.
    """

    def __init__(self, public: Sequence[socket.socket], private: Sequence[socket.socket]) -> None:
        self.public = public
        self.private = private

    @property
    def all(self) -> list[socket.socket]:
        """Both kinds."""
        return [*self.public, *self.private]


def open_doors(processes: int, private_host: str) -> list[Doors]:
    """Listens for so many processes: the same public address for all, a private port for each.

    Raises CannotListen.
    """
    shared = processes > 1
    if shared:
        # SO_REUSEPORT would let another gateway of the same user in unnoticed: make sure that nobody is there.
        for probe in _listen([ports.HOST], ports.GATEWAY):
            probe.close()
    private_hosts = [private_host] if private_host in _EVERYWHERE else [private_host, ports.LOOPBACK]
    return [
        Doors(
            _listen([ports.HOST], ports.GATEWAY, shared=shared),
            # With loopback, so that this machine can always come in.
            _listen(private_hosts, ports.gateway_metrics(number)),
        )
        for number in range(processes)
    ]


def _listen(hosts: Sequence[str], port: int, *, shared: bool = False) -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        for family, address in _addresses(hosts, port):
            listener = _socket(family)
            if listener is None:
                continue
            opened.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            listener.setblocking(False)
    except OSError as error:
        for listener in opened:
            listener.close()
        raise CannotListen(
            f"Port {port} on {' and '.join(hosts)} cannot be listened on ({_reason(error)}). Stop what uses it, or "
            "shift all ports with FREEHOLD_PORT_OFFSET."
        ) from error
    return opened


def _addresses(hosts: Sequence[str], port: int) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    """Where to listen; the empty host is everywhere, by IPv4 and by IPv6."""
    found: dict[tuple[socket.AddressFamily, tuple[object, ...]], None] = {}
    for host in hosts:
        for family, _, _, _, address in socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            found[family, address] = None
    return list(found)


def _socket(family: socket.AddressFamily) -> socket.socket | None:
    """None where the machine does not have the family at all (IPv6 switched off)."""
    try:
        return socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return None


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error.strerror or error)


def inherited(public: Sequence[int], private: Sequence[int]) -> Doors:
    """From file descriptors that the parent left open."""
    return Doors([socket.socket(fileno=file) for file in public], [socket.socket(fileno=file) for file in private])
