"""Reading by ranges, gathering bytes, and what S3's errors become; without a server."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import BinaryIO

import pytest
from django.conf import settings

from freehold.common.env import ConfigurationError
from freehold.common.errors import NotFound, Refused, Unavailable
from freehold.registry.storage import object_store, s3
from freehold.registry.storage.bucket import Bucket, Location
from freehold.registry.storage.ranges import BLOCK, RangeReader
from freehold.registry.storage.spool import Spool
from tests.factories.ports import free_port


class Source:
    """Content behind ranges, whose connections break after `lives` bytes each."""

    def __init__(self, content: bytes, *, lives: int = 10**9) -> None:
        self.content, self.lives = content, lives
        self.asked: list[tuple[int, int]] = []
        self.closed = 0

    def fetch(self, first: int, last: int) -> Connection:
        self.asked.append((first, last))
        return Connection(self, self.content[first : last + 1])


class Connection:
    def __init__(self, source: Source, content: bytes) -> None:
        self.source, self.stream, self.left = source, io.BytesIO(content), source.lives

    def read(self, amount: int) -> bytes:
        if not self.left:
            raise ConnectionError("broken")
        chunk = self.stream.read(min(amount, self.left))
        self.left -= len(chunk)
        return chunk

    def close(self) -> None:
        self.source.closed += 1


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """The URL of a server that answers everything with this error of S3."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", free_port()), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def reader(source: Source) -> io.BufferedReader:
    return io.BufferedReader(RangeReader(source.fetch, len(source.content)), BLOCK)


def test_reading_on_asks_for_more_each_time() -> None:
    source = Source(os.urandom(20 * BLOCK))
    with reader(source) as stream:
        assert hashlib.file_digest(stream, "sha256").digest() == hashlib.sha256(source.content).digest()
    lengths = [last - first + 1 for first, last in source.asked]
    assert [length // BLOCK for length in lengths] == [1, 2, 4, 8, 5]
    assert source.closed == len(source.asked)


def test_jumping_asks_for_little() -> None:
    source = Source(os.urandom(20 * BLOCK))
    with reader(source) as stream:
        for position in (0, 19 * BLOCK, 7 * BLOCK):
            stream.seek(position)
            assert stream.read(8) == source.content[position : position + 8]
    assert all(last - first < BLOCK for first, last in source.asked)


def test_a_broken_connection_is_opened_again_where_it_broke() -> None:
    source = Source(os.urandom(3 * BLOCK), lives=700_000)
    with reader(source) as stream:
        assert stream.read() == source.content
    assert source.asked[1][0] == 700_000


def test_a_connection_that_never_brings_a_byte_is_an_error() -> None:
    source = Source(b"12345678", lives=0)
    with reader(source) as stream, pytest.raises(ConnectionError, match="broken"):
        stream.read(1)
    assert len(source.asked) == 5


def test_content_that_ends_early_is_an_error() -> None:
    source = Source(b"12345678")
    raw = RangeReader(source.fetch, 10)
    with io.BufferedReader(raw) as stream, pytest.raises(OSError, match="ended 2 bytes early"):
        stream.read()


def test_seeking_before_the_beginning_is_refused() -> None:
    with reader(Source(b"123")) as stream, pytest.raises(ValueError, match="cannot seek"):
        stream.seek(-4, io.SEEK_END)


def test_a_spool_sends_what_it_was_given_with_its_hashes() -> None:
    sent: list[tuple[bytes, bytes, bytes]] = []

    def send(file: BinaryIO, sha256: bytes, md5: bytes) -> str:
        sent.append((file.read(), sha256, md5))
        return "etag"

    content = os.urandom(5 * 1024 * 1024)
    spool = Spool(size=len(content), send=send)
    for at in range(0, len(content), 1_000_000):
        spool.write(content[at : at + 1_000_000])
    assert spool.commit() == "etag"
    assert sent == [(content, hashlib.sha256(content).digest(), hashlib.md5(content, usedforsecurity=False).digest())]
    spool.abort()


def test_a_spool_sends_nothing_that_was_not_declared() -> None:
    def send(*_: object) -> str:
        raise AssertionError("sent")

    for content, size in ((b"123", 4), (b"abc", 3)):
        spool = Spool(size=size, sha256=hashlib.sha256(b"123").hexdigest(), send=send)
        spool.write(content)
        with pytest.raises(Refused):
            spool.commit()
    spool = Spool(size=2, send=send)
    with pytest.raises(Refused, match="More than the declared 2 bytes"):
        spool.write(b"123")
    spool.abort()


@pytest.mark.parametrize(
    ("status", "code", "error", "says"),
    [
        (
            403,
            "AccessDenied",
            Unavailable,
            "refuses access to the bucket 'b'. The operator must check S3_",
        ),
        (403, "InvalidAccessKeyId", Unavailable, "refuses access"),
        (403, "SignatureDoesNotMatch", Unavailable, "refuses access"),
        (404, "NoSuchBucket", Unavailable, "no bucket 'b'"),
        (404, "NoSuchUpload", NotFound, "Start it again"),
        (400, "BadDigest", Refused, "not what was sent"),
        (507, "XMinioStorageFull", Unavailable, "failed"),
    ],
)
def test_errors_say_what_to_do(status: int, code: str, error: type[Exception], says: str) -> None:
    with answering(status, code) as url:
        place = Location(bucket="b", endpoint_url=url, access_key_id="a", secret_access_key="s")
        with pytest.raises(error, match=says):
            Bucket(place).parts("key", "upload")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("S3_ENDPOINT_URL", "s3.example.com", "Invalid endpoint"),
        ("S3_ADDRESSING_STYLE", "sideways", "addressing style"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setattr(settings, "S3_BUCKET", "weights")
    monkeypatch.setattr(settings, name, value)
    s3.configured.cache_clear()
    with pytest.raises(ConfigurationError, match=rf"S3_….*{says}"):
        object_store()
