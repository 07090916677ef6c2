"""Peers that vanish without a word (a pulled cable, a dead node): the kernel asks after a quiet while and ends the
connection (TCP keepalive, RFC 9293, section 3.8.4). What it does not acknowledge, or has no room for, does not wait for
ever either (TCP_USER_TIMEOUT, tcp(7)): a peer that reads nothing still answers every question. Used for clients and for
replicas."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

_PATIENCE_SECONDS = 60.0
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


def watch(transport: asyncio.Transport, patience: float = _PATIENCE_SECONDS) -> None:
    """A peer that is gone is noticed within a minute, also while nothing is to be sent. `patience`, in seconds, is how
    long it may take nothing of what was sent, where that is longer."""
    peer: socket.socket | None = transport.get_extra_info("socket")
    if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
        for level, option, value in _OPTIONS:
            peer.setsockopt(level, option, value)
        # It also ends the questions above, so that a shorter one would end a quiet connection by one lost packet.
        milliseconds = int(max(patience, _PATIENCE_SECONDS) * 1000)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
