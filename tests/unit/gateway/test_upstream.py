"""What an engine sends arrives as it was sent, however it was cut into chunks, and the chunks into reads."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.gateway.admission.link import Link
from freehold.gateway.exchange import Listener
from freehold.gateway.http1 import Connection
from freehold.gateway.upstream import Pool, Upstream
from freehold.wire.records import ReplicaRecord

REPLICA = ReplicaRecord(id="rpl_1", host="127.0.0.1", port=9)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Transport:
    """Of nothing."""

    aborted = False

    def write(self, data: bytes) -> None:
        """Goes nowhere."""

    def get_extra_info(self, name: str) -> None:
        """There is no socket."""

    def is_closing(self) -> bool:
        """It is open until it is aborted."""
        return self.aborted

    def abort(self) -> None:
        """Ends."""
        self.aborted = True


class Heard(Listener):
    """What a listener was told."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.parts: list[bytes] = []
        self.complete = 0
        self.lost = ""

    def upstream_head(self, status: int) -> None:
        """Part of Listener."""
        self.statuses.append(status)

    def upstream_data(self, data: bytes) -> None:
        """Part of Listener."""
        self.parts.append(data)

    def upstream_complete(self) -> None:
        """Part of Listener."""
        self.complete += 1

    def upstream_lost(self, reason: str) -> None:
        """Part of Listener."""
        self.lost = reason


async def connected() -> tuple[Upstream, Transport]:
    upstream, transport = Upstream(Pool(1), REPLICA), Transport()
    upstream.connection_made(cast("asyncio.Transport", transport))
    return upstream, transport


async def hear(upstream: Upstream, reads: list[bytes]) -> Heard:
    heard = Heard()
    upstream.send(heard, b"")
    for data in reads:
        upstream.data_received(data)
    return heard


@st.composite
def chunk(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """(content, as a chunk). Contents look like framing now and then."""
    content = draw(
        st.one_of(st.binary(min_size=1, max_size=300), st.sampled_from([b"\r\n", b"1\r\na\r\n", b"0\r\n\r\n"]))
    )
    size = draw(st.sampled_from([b"%x", b"%X", b"%04x"])) % len(content)
    extension = draw(st.sampled_from([b"", b"", b"", b";a=1"]))
    return content, size + extension + b"\r\n" + content + b"\r\n"


@st.composite
def answer(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """(content, reads)."""
    chunks = draw(st.lists(chunk(), max_size=12))
    reads = [HEAD, *(wire for _, wire in chunks), b"0\r\n\r\n"]
    if draw(st.booleans()):  # else a chunk a read, as engines mostly write them
        wire = b"".join(reads)
        cuts = sorted(draw(st.sets(st.integers(1, len(wire) - 1), max_size=20)))
        reads = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    return b"".join(content for content, _ in chunks), reads


@settings(max_examples=600, deadline=None)
@given(answers=st.lists(answer(), min_size=1, max_size=3))
def test_answers_arrive_as_they_were_sent(answers: list[tuple[bytes, list[bytes]]]) -> None:
    async def check() -> None:
        upstream, transport = await connected()
        for content, reads in answers:  # one after the other on one connection
            heard = await hear(upstream, reads)
            assert b"".join(heard.parts) == content
            assert (heard.statuses, heard.complete, heard.lost) == ([200], 1, "")
            assert not transport.aborted

    asyncio.run(check())


async def test_a_chunk_that_is_none_ends_the_connection_after_any_number_of_good_ones() -> None:
    upstream, transport = await connected()
    heard = await hear(upstream, [HEAD, b"5\r\nhello\r\n", b"5\r\nworld\r\n", b"zz\r\nhello\r\n"])
    assert b"".join(heard.parts) == b"helloworld"
    assert heard.lost.startswith("the engine's answer is not valid HTTP")
    assert transport.aborted


async def test_a_chunk_that_is_longer_than_it_says_is_no_chunk() -> None:
    upstream, transport = await connected()
    heard = await hear(upstream, [HEAD, b"5\r\nhello\r\n", b"5\r\nworlds\r\n"])
    assert b"".join(heard.parts).startswith(b"hello")
    assert heard.complete == 0
    assert transport.aborted


@pytest.mark.parametrize("kind", [Connection, Upstream, Link])
def test_a_connection_has_every_method_that_its_transport_may_call(kind: type) -> None:
    expected = [name for name in dir(asyncio.Protocol) if not name.startswith("_")]
    assert "pause_writing" in expected
    assert [name for name in expected if not callable(getattr(kind, name, None))] == []
