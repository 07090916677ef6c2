"""An HTTP client that cannot be turned against the operator's network. Used by exchange.py, for every source.

The check sits where connections are made, so nothing gets round it: each new connection resolves its host once, checks
every address that came back, connects to one of those very addresses and compares the peer. A name that resolves to
something else a moment later (DNS rebinding) changes nothing. TLS still shows and verifies the host's name.

What is reached: https on port 443 or 8443 of public addresses; http and any port where the operator allows the host or
network. No proxies, cookies, credentials from the environment or from URLs, no redirects (exchange.py follows them).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final

import httpcore
import httpx

from freehold.registry.sources.addresses import AddressPolicy, host_problem
from freehold.registry.sources.errors import OutboundRefused
from freehold.registry.sources.sockets import CONNECT_SECONDS, STREAM, GuardedBackend, GuardedStream, Resolver, resolve

if TYPE_CHECKING:
    import ssl

READ_SECONDS: Final = 60.0

_BAD_IN_URL = frozenset("\\ \t\r\n") | {chr(code) for code in range(32)} | {"\x7f"}


def guarded_client(
    policy: AddressPolicy,
    *,
    resolver: Resolver = resolve,
    tls: ssl.SSLContext | None = None,
    read_seconds: float = READ_SECONDS,
) -> httpx.Client:
    """A client to stream answers with. Raises OutboundRefused where it may not connect, httpx.TransportError where it
    cannot. `tls` defaults to certifi's authorities, or those that SSL_CERT_FILE or SSL_CERT_DIR name."""
    return httpx.Client(
        transport=GuardedTransport(policy, resolver=resolver, tls=tls or httpx.create_ssl_context()),
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        timeout=httpx.Timeout(read_seconds, connect=CONNECT_SECONDS),
        headers={"User-Agent": "freehold-import", "Accept-Encoding": "identity"},
    )


def parse_url(text: str, *, base: httpx.URL | None = None) -> httpx.URL:
    """A URL as a person or a redirect gives it (relative to `base`), if its form is one we take.

    Raises OutboundRefused: for schemes but http and https, names and passwords inside, disguised addresses.
    """
    if _BAD_IN_URL.intersection(text) or len(text) > 8192:
        raise OutboundRefused("The address holds characters that no URL may, or is too long. Write it anew.")
    try:
        url = httpx.URL(text) if base is None else base.join(text)
    except (httpx.InvalidURL, ValueError):
        raise OutboundRefused("The address is no valid URL. Write it as https://host/path.") from None
    check_url(url)
    return url


def check_url(url: httpx.URL) -> None:
    """Raises OutboundRefused for a URL whose form we do not take. Says nothing of where it leads."""
    if url.scheme not in {"http", "https"}:
        raise OutboundRefused(f"Only https addresses are imported from, not {url.scheme or 'relative'}: ones.")
    if url.userinfo:
        raise OutboundRefused("The address holds a user name or password. Give credentials in their own fields.")
    host = url.raw_host.decode("ascii", "replace")
    problem = host_problem(host)
    if problem is not None:
        raise OutboundRefused(f"The host {host[:100]!r} {problem}.")
    if not 0 < port_of(url) < 65536:
        raise OutboundRefused(f"{url.port} is no port.")


def port_of(url: httpx.URL) -> int:
    """The port, the scheme's own where none is written."""
    if url.port is not None:
        return url.port
    return 443 if url.scheme == "https" else 80


class GuardedTransport(httpx.BaseTransport):
    """httpx over two connection pools, one for each scheme, whose sockets come from a guarded backend."""

    def __init__(self, policy: AddressPolicy, *, resolver: Resolver, tls: ssl.SSLContext) -> None:
        self._pools = {
            scheme: httpcore.ConnectionPool(
                ssl_context=tls,
                max_connections=16,
                max_keepalive_connections=4,
                keepalive_expiry=15.0,
                network_backend=GuardedBackend(policy, resolver, plain=scheme == "http"),
            )
            for scheme in ("https", "http")
        }

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        check_url(request.url)
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        with _as_httpx():
            answer = self._pools[request.url.scheme].handle_request(
                httpcore.Request(
                    request.method,
                    url,
                    headers=request.headers.raw,
                    content=request.read(),
                    extensions=request.extensions,
                )
            )
        stream = answer.extensions["network_stream"].get_extra_info(STREAM)
        if isinstance(stream, GuardedStream):
            stream.head_done()
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


_ERRORS: Final[tuple[tuple[type[Exception], type[httpx.TransportError]], ...]] = (
    (httpcore.ConnectTimeout, httpx.ConnectTimeout),
    (httpcore.TimeoutException, httpx.ReadTimeout),
    (httpcore.ConnectError, httpx.ConnectError),
    (httpcore.NetworkError, httpx.ReadError),
    (httpcore.ProtocolError, httpx.RemoteProtocolError),
)


@contextmanager
def _as_httpx() -> Iterator[None]:
    try:
        yield
    except tuple(ours for ours, _ in _ERRORS) as error:
        theirs = next(theirs for ours, theirs in _ERRORS if isinstance(error, ours))
        raise theirs(str(error)) from error
