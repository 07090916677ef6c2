"""A TCP relay that counts what clients send, so that tests can say how many bytes moved."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from tests.integration.hub.live import Web


class Relay:
    """Listens on a port of its own and passes everything to a web process. `sent` counts bytes towards it."""

    def __init__(self, web: Web) -> None:
        parts = urlsplit(web.url)
        self._target = (parts.hostname or "", parts.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.sent = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, count: bool) -> None:
        """One direction. Where a server answers and closes before it has read everything, its answer still arrives."""
        with suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)
                if count:
                    with self._lock:
                        self.sent += len(piece)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR if count else socket.SHUT_RDWR)
        if not count:
            source.close()
            target.close()


@contextmanager
def relay(web: Web) -> Iterator[Relay]:
    """A relay for the block."""
    running = Relay(web)
    try:
        yield running
    finally:
        running.close()
