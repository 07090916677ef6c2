"""Connections that lead where they were checked to lead. Used by guard.py, whose promises are kept here.

Each connection resolves its host once, checks every address that came back, dials one of those very addresses and
compares the peer.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import httpcore

from freehold.common.logging import get_logger
from freehold.registry.sources.addresses import Address, AddressPolicy, Standing, host_problem, literal
from freehold.registry.sources.errors import ALLOW_VARIABLE, OutboundRefused

if TYPE_CHECKING:
    import ssl

log = get_logger(__name__)

Resolver = Callable[[str, int], Sequence[str]]
"""Host and port to every address of it, as text. Raises OSError where there is none."""

CONNECT_SECONDS: Final = 10.0
HEAD_SECONDS: Final = 60.0
PUBLIC_PORTS: Final = frozenset({443, 8443})
STREAM: Final = "freehold_stream"
"""What to ask a connection's get_extra_info for, to get its GuardedStream."""

_HEAD_BYTES = 256 * 1024  # h11 bounds one header block; this also bounds a flood of interim (1xx) answers
_TRIED = 4


def resolve(host: str, port: int) -> list[str]:
    """Every address of a host, as the machine's resolver orders them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedBackend(httpcore.NetworkBackend):
    """Connects by the policy. `plain`: for http, which only allowed hosts and networks are reached by."""

    def __init__(self, policy: AddressPolicy, resolver: Resolver, *, plain: bool) -> None:
        self._policy = policy
        self._resolver = resolver
        self._plain = plain
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._checked(host, port)[:_TRIED]
        deadline = time.monotonic() + (timeout or CONNECT_SECONDS)
        failure: Exception = httpcore.ConnectTimeout(f"{host} did not answer in time")
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            seconds = (deadline - time.monotonic()) / left
            if seconds <= 0:
                break
            try:
                stream = self._sockets.connect_tcp(str(address), port, timeout=seconds, socket_options=socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            self._check_peer(stream, host, address)
            return GuardedStream(stream)
        raise failure

    def _checked(self, host: str, port: int) -> list[Address]:
        """The addresses of `host`, all of which we may connect to. Raises OutboundRefused, httpcore.ConnectError."""
        problem = host_problem(host)
        if problem is not None:
            raise OutboundRefused(f"The host {host[:100]!r} {problem}.")
        own = literal(host)
        if own is not None:
            addresses = [own]
        else:
            try:
                addresses = [ip_address(found) for found in self._resolver(host, port)]
            except OSError as error:
                raise httpcore.ConnectError(f"{host} was not found ({error})") from error
            if not addresses:
                raise httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            self._check(host, port, address)
        return addresses

    def _check(self, host: str, port: int, address: Address) -> None:
        standing = self._policy.standing(host, address)
        if standing is Standing.ALLOWED:
            return
        if standing is Standing.PUBLIC and not self._plain and port in PUBLIC_PORTS:
            return
        log.warning("outbound_refused", host=host, port=port, address=str(address), standing=standing)
        if standing is Standing.NEVER:
            raise OutboundRefused(
                f"{host} is link-local, a machine's metadata or no host at all. Nobody may import there."
            )
        if standing is Standing.REFUSED:
            raise OutboundRefused(
                f"{host} is not on the public Internet. If it may be imported from, the operator allows the host or "
                f"its network in {ALLOW_VARIABLE}."
            )
        reason = "Plain http is" if self._plain else f"Port {port} is"
        raise OutboundRefused(
            f"{reason} not used with {host}: imports go to public hosts by https, on port 443 or 8443. The operator "
            f"can allow the host or its network in {ALLOW_VARIABLE}."
        )

    @staticmethod
    def _check_peer(stream: httpcore.NetworkStream, host: str, address: Address) -> None:
        peer = stream.get_extra_info("server_addr")
        if not peer or ip_address(str(peer[0])) != address:
            stream.close()
            log.error("outbound_peer_differs", host=host, address=str(address), peer=str(peer))
            raise OutboundRefused(f"The connection to {host} did not lead where it should have.")


class GuardedStream(httpcore.NetworkStream):
    """A connection on which the head of an answer must come within HEAD_SECONDS and _HEAD_BYTES in all: a timeout of
    single reads lets a server hold a worker for hours, a byte at a time."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._deadline: float | None = None
        self._left = _HEAD_BYTES

    def head_done(self) -> None:
        """The body may take as long as whoever reads it bears."""
        self._deadline = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._deadline is None:
            return self._inner.read(max_bytes, timeout)
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the answer did not begin in time")
        data = self._inner.read(max_bytes, min(timeout or left, left))
        self._left -= len(data)
        if self._left < 0:
            raise httpcore.RemoteProtocolError("the answer's head does not end")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._deadline, self._left = time.monotonic() + HEAD_SECONDS, _HEAD_BYTES
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return GuardedStream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self if info == STREAM else self._inner.get_extra_info(info)
