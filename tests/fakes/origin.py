"""An HTTP server of tests that answers as told: redirects, ignored ranges, bodies cut short, errors. It stands for
hubs, CDNs and object stores of other people."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Seen:
    """A request as it came; header names in lower case, `path` decoded and without its query."""

    method: str
    path: str
    query: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Reply:
    """What to answer. `cut`: hang up after so many bytes of the body; Content-Length promises all of it. `raw` is sent
    instead of everything, as it is."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    raw: bytes | None = None


Route = Callable[[Seen], Reply]


class Origin:
    """A running server: routes by path, and what it has seen."""

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self.routes: dict[str, Route] = {}
        self.seen: list[Seen] = []

    def url(self, path: str = "", *, host: str = "", scheme: str = "http") -> str:
        """An address of it; `host` is a name that the test's resolver sends here."""
        return f"{scheme}://{host or self.address}:{self.port}{path}"

    def answers(self, path: str, reply: Reply | Route) -> None:
        """From now on, `path` is answered so."""
        self.routes[path] = (lambda _: reply) if isinstance(reply, Reply) else reply

    def serve(self, path: str, body: bytes, **headers: str) -> None:
        """From now on, `path` is a file that may be had by ranges."""
        self.answers(path, lambda seen: ranged(seen, body, headers))

    def paths(self) -> list[str]:
        """The paths asked for, in order."""
        return [seen.path for seen in self.seen]


def ranged(seen: Seen, body: bytes, headers: dict[str, str]) -> Reply:
    """The file, or the part of it that was asked for."""
    found = re.fullmatch(r"bytes=(\d+)-", seen.headers.get("range", ""))
    if not found:
        return Reply(200, body, headers)
    first = int(found[1])
    span = {"Content-Range": f"bytes {first}-{len(body) - 1}/{len(body)}"}
    return Reply(206, body[first:], headers | span)


@contextmanager
def origin(address: str = "127.0.0.1", *, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Origin]:
    """A server on a loopback address, on a free port unless one is given."""

    class Connection(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            here.seen.append(self._seen())
            route = here.routes.get(here.seen[-1].path)
            self._send(route(here.seen[-1]) if route else Reply(404, b'{"error": "Not found"}'))

        def _seen(self) -> Seen:
            url = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            return Seen(self.command, unquote(url.path), url.query, headers)

        def _send(self, reply: Reply) -> None:
            if reply.raw is not None:
                self.wfile.write(reply.raw)
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body[: reply.cut])
            if reply.cut is not None:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Silent."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients of these tests hang up on purpose."""

    server = Server((address, port), Connection)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    here = Origin(address, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
