"""Peers that vanish without a word (a pulled cable, a dead node): the kernel asks after a quiet while and ends the
connection (TCP keepalive, RFC 9293, section 3.8.4). Used for clients and for replicas."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


def watch(transport: asyncio.Transport) -> None:
    """A peer that is gone is noticed within a minute, also while nothing is to be sent."""
    peer: socket.socket | None = transport.get_extra_info("socket")
    if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
        for level, option, value in _OPTIONS:
            peer.setsockopt(level, option, value)
