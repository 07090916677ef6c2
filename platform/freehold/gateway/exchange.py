"""What a connection (http1.py) and who answers say to each other: the request, and the job that answers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Request:
    """A request as parsed. Only the headers that the gateway knows are kept."""

    method: bytes
    path: bytes
    authorization: bytes = b""
    api_key: bytes = b""
    content_encoding: bytes = b""
    host: bool = False
    content_length: int = -1
    chunked: bool = False
    expect: bool = False
    keep_alive: bool = True
    modern: bool = True  # HTTP/1.1: chunked answers are understood
    body: bytes = b""


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
