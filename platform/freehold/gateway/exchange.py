"""What the two kinds of connection say to those in between: the request, the job that answers it (http1.py), the
listener that waits for an engine (upstream.py)."""

from __future__ import annotations

from typing import Protocol


class Request:
    """A request as parsed. Only the headers that the gateway knows are kept.

    Attributes:
        content_length: -1 where there is none, or none that is a number.
        modern: HTTP/1.1, so that chunked answers are understood.
    """

    __slots__ = (
        "api_key",
        "authorization",
        "body",
        "chunked",
        "content_encoding",
        "content_length",
        "expect",
        "host",
        "keep_alive",
        "method",
        "modern",
        "path",
    )

    def __init__(self, method: bytes = b"", path: bytes = b"", *, keep_alive: bool = True) -> None:
        self.method = method
        self.path = path
        self.authorization = b""
        self.api_key = b""
        self.content_encoding = b""
        self.host = False
        self.content_length = -1
        self.chunked = False
        self.expect = False
        self.keep_alive = keep_alive
        self.modern = True
        self.body = b""


class Job(Protocol):
    """Whatever is answering a request; told what happens to the client meanwhile."""

    def client_lost(self) -> None:
        """The client hung up or was cut off. Nothing more can be written."""

    def client_blocked(self) -> None:
        """The client does not take what was written: write no more for now."""

    def client_flowing(self) -> None:
        """The client takes bytes again."""

    def check(self, now: float) -> None:
        """Called by the sweeper: look at deadlines."""


class Listener:
    """Who waits for an engine's answer. A class to derive from: compiled code calls those for less (native.py)."""

    def upstream_head(self, status: int) -> None:
        """The head has arrived."""
        raise NotImplementedError

    def upstream_data(self, data: bytes) -> None:
        """Bytes of the body."""
        raise NotImplementedError

    def upstream_complete(self) -> None:
        """The answer is complete; the connection is no longer the listener's."""
        raise NotImplementedError

    def upstream_lost(self, reason: str) -> None:
        """The connection ended before the answer did."""
        raise NotImplementedError
