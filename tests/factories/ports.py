"""Ports for servers that tests start."""

from __future__ import annotations

import random
import socket

# Below what the kernel gives to outgoing connections (32768 and up): one of those could take a port before it is used.
_RANGE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port that nobody listens on."""
    return next(port for port in random.sample(_RANGE, 1_000) if is_free(port))
