"""What benchmarks.gateway measures of our gateway beside processor time: memory, hang-ups, revocation."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median, quantiles
from urllib.parse import urlsplit

import httpx

from benchmarks.gateway_load import Load, Request
from benchmarks.gateway_ours import KEYS, Ours, field_of
from benchmarks.gateway_stub import ENDLESS, HELD
from benchmarks.onebox import Figure
from freehold.wire.names import Section
from freehold.wire.publish import Publisher

STREAMS = 1_000
HANG_UPS = 200
REVOCATIONS = 10
CONNECTIONS = 32
MB = 1e6

_PAUSE_SECONDS = 0.02  # JSON requests beside streams: the gateway is busy, not full
_ASK_SECONDS = 0.025  # the stub notes the time itself; asking more often would keep it from its work
_PART_SECONDS = 10.0
_DEADLINE_SECONDS = 30.0
_SETTLE_SECONDS = 2.0


def figures(ours: Ours, stub: str, *, minutes: float) -> list[Figure]:
    """All of them, one after the other; `minutes` of load for the question whether memory stays flat."""
    return [*_memory(ours), *_hang_ups(ours, stub), *_revocation(ours), *_flat(ours, minutes)]


@contextmanager
def _streams(ours: Ours, model: str, count: int) -> Iterator[list[socket.socket]]:
    """So many streams of a model, all of which have had frames."""
    address = urlsplit(ours.url)
    assert address.hostname is not None
    assert address.port is not None
    message = Request(url=ours.url, model=f"bench/{model}", headers=ours.headers, stream=True).message
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection((address.hostname, address.port), _DEADLINE_SECONDS))
            one.sendall(message)
            found.append(one)
        for one in found:
            received = b""
            while received.count(b"data: ") < 2:
                piece = one.recv(65_536)
                assert piece, f"A stream ended early: {received!r}"
                received += piece
        yield found


def _memory(ours: Ours) -> list[Figure]:
    before = ours.rss()
    with _streams(ours, HELD, STREAMS):
        time.sleep(_SETTLE_SECONDS)
        during = ours.rss()
        assert ours.gauge("requests_in_flight") == STREAMS
    return [
        Figure(f"RSS with {KEYS:,} keys, after what went before", f"{before / MB:.0f} MB", ""),
        Figure(f"RSS with {KEYS:,} keys and {STREAMS:,} open streams", f"{during / MB:.0f} MB", "≤ 120 MB"),
    ]


def _hang_ups(ours: Ours, stub: str) -> list[Figure]:
    """From a client's close to the end of the engine's connection, one after the other: alone, and beside streams."""
    alone = [_hang_up(ours, stub) for _ in range(HANG_UPS)]
    others = Request(url=ours.url, headers=ours.headers, stream=True)
    took: list[float] = []
    began, waited = time.monotonic_ns(), ours.waited_ns()
    while len(took) < HANG_UPS:
        load = Load(others, connections=CONNECTIONS, seconds=_PART_SECONDS)
        until = time.monotonic() + _PART_SECONDS - 1
        while len(took) < HANG_UPS and time.monotonic() < until:
            took.append(_hang_up(ours, stub))
        load.result()
    share = (ours.waited_ns() - waited) / (time.monotonic_ns() - began)
    return [
        figure
        for name, times in (("alone", alone), (f"beside {CONNECTIONS} other streams", took))
        for figure in (
            Figure(f"{HANG_UPS} hang-ups {name}, to upstream closed, p50", f"{median(times):.1f} ms", ""),
            Figure("  p99", f"{quantiles(times, n=100)[98]:.1f} ms", "≤ 20 ms"),
        )
    ] + [Figure("  meanwhile the gateway's core was taken by others", f"{share:.0%}", "else they count as ours")]


def _hang_up(ours: Ours, stub: str) -> float:
    """Milliseconds."""
    with httpx.Client(base_url=stub) as engine:
        known = len(engine.get("/cuts").json())
        with _streams(ours, ENDLESS, 1) as (stream,):
            closed = time.monotonic_ns()
            stream.close()
        deadline = time.monotonic() + _DEADLINE_SECONDS
        cuts: Sequence[int] = ()
        while len(cuts) <= known:
            assert time.monotonic() < deadline, "A client hung up and its stream went on."
            time.sleep(_ASK_SECONDS)
            cuts = engine.get("/cuts").json()
    return (cuts[known] - closed) / 1e6


def _revocation(ours: Ours) -> list[Figure]:
    """From the publication of a revoked key to its first 401."""
    publisher = Publisher(ours.redis)
    took = []
    with httpx.Client(base_url=ours.url) as client:
        for token in ours.secrets[1 : REVOCATIONS + 1]:
            headers = {"Authorization": f"Bearer {token}"}
            assert client.get("/v1/models", headers=headers).status_code == 200
            began = time.monotonic()
            publisher.put(Section.KEYS, field_of(token), None, version=2)
            while client.get("/v1/models", headers=headers).status_code != 401:
                assert time.monotonic() < began + _DEADLINE_SECONDS, "A revoked key is still good."
                time.sleep(0.005)
            took.append(time.monotonic() - began)
    return [Figure(f"{REVOCATIONS} keys revoked, to the first 401, longest", f"{max(took):.2f} s", "≤ 5 s")]


def _flat(ours: Ours, minutes: float) -> list[Figure]:
    """Streams and answers in one piece together; the first part is for warming up."""
    answers = Request(url=ours.url, headers=ours.headers)
    streams = Request(url=ours.url, headers=ours.headers, stream=True)
    sizes: list[int] = []
    segments: list[float] = []
    ends = time.monotonic() + minutes * 60 + _PART_SECONDS
    while time.monotonic() < ends:
        loads = [
            Load(answers, connections=CONNECTIONS, seconds=_PART_SECONDS, pause_seconds=_PAUSE_SECONDS),
            Load(streams, connections=CONNECTIONS, seconds=_PART_SECONDS),
        ]
        for load in loads:
            load.result()
        os.truncate(ours.output, 0)
        sizes.append(ours.rss())
        segments.append(ours.gauge("journal_segments"))
    path = f"{sizes[0] / MB:.1f} → {sizes[-1] / MB:.1f} MB"
    return [
        Figure(f"RSS over {minutes:g} min of load, after {_PART_SECONDS:.0f} s of it", path, "flat"),
        Figure("  highest", f"{max(sizes) / MB:.1f} MB", ""),
        Figure(
            "  segments of the journal, most and last", f"{max(segments):.0f}, {segments[-1]:.0f}", "do not pile up"
        ),
    ]
