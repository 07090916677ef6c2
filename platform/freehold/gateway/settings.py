"""Configuration of a process of the gateway, read once at start. Every field says its environment variable; place.py
has what the parent must know too, GATEWAY_PROCESSES among it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freehold.common import env, ports
from freehold.gateway import place

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_LONGEST_SECONDS = 1e6
_MAX_BODY = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Durations are in seconds, sizes in bytes.

    Attributes:
        redis_url: REDIS_URL. Snapshot, usage stream and watermarks.
        state: GATEWAY_STATE, else $FREEHOLD_DATA/gateway. Journal, slots and snapshot; one gateway a folder.
        gateway_id: GATEWAY_ID, else the host's name. Names this journal to metering; must be stable over restarts.
        region: FREEHOLD_REGION.
        host, port: FREEHOLD_HOST and common/ports.py.
        private_host, private_port: GATEWAY_PRIVATE_HOST (loopback unless set). Serves health and metrics.
        max_requests: GATEWAY_MAX_REQUESTS. Requests in flight; one more is answered 503. Each has a slot on disk.
        max_gateways: GATEWAY_MAX_GATEWAYS. How many gateways share this Redis at most: while it is away, each has this
            part of a tenant's outage credit and limits.
        max_head, max_body, max_answer: 64 KiB of request head, 32 MiB of body, 256 MiB of an answer in one piece.
        max_bodies: GATEWAY_MAX_BODIES. Bytes of all bodies over 64 KiB that are on their way; what goes beyond it is
            answered 503. At least max_body.
        head_seconds, body_seconds, idle_seconds: GATEWAY_HEAD_SECONDS, GATEWAY_BODY_SECONDS, GATEWAY_IDLE_SECONDS. How
            long a client may take for its head and body, or stay idle.
        connect_seconds: GATEWAY_CONNECT_SECONDS. To reach a replica.
        first_token_seconds: GATEWAY_FIRST_TOKEN_SECONDS. From forwarding to the first frame of a stream.
        between_tokens_seconds: GATEWAY_BETWEEN_TOKENS_SECONDS. From frame to frame.
        answer_seconds: GATEWAY_ANSWER_SECONDS. From forwarding to the end of an answer in one piece.
        total_seconds: GATEWAY_TOTAL_SECONDS. From admission to the end of any answer.
        load_percent: GATEWAY_LOAD_PERCENT. How much of its share of an endpoint's requests in flight a replica may
            have before others get its prompts (routing/); at least 100.
        hold_requests: GATEWAY_HOLD_REQUESTS. How many may wait for one endpoint that has no ready replica yet.
        hold_seconds: GATEWAY_HOLD_SECONDS. How long a stream waits there; from 5 s on it gets comments.
        hold_answer_seconds: GATEWAY_HOLD_ANSWER_SECONDS. How long others wait; then they are 503 with retry-after.
        snapshot_seconds: GATEWAY_SNAPSHOT_SECONDS. Keys and routes older than that are not believed any more.
        blocked_seconds: GATEWAY_BLOCKED_SECONDS. A client that takes no bytes for so long is cut off.
        write_buffer: GATEWAY_WRITE_BUFFER. Bytes waiting for one client above which its replica is not read from.
        withdraw_seconds: GATEWAY_WITHDRAW_SECONDS. How long new requests are still served after readyz has begun to
            fail: what load balancers need to notice. 0 where none is asked.
        reload_seconds: GATEWAY_RELOAD_SECONDS. What a process that a reload replaces gets instead, for its clients to
            end by themselves.
        drain_seconds: GATEWAY_DRAIN_SECONDS. What requests in flight get after that.
        ship_seconds: GATEWAY_SHIP_SECONDS. What metering gets to confirm all usage before the process ends.
        replay_seconds: GATEWAY_REPLAY_SECONDS. The same for the journal of a gateway that is gone (replay.py).
        segment_bytes: GATEWAY_SEGMENT_BYTES. Size at which the journal begins a new segment.
        reserve_bytes: GATEWAY_RESERVE_BYTES. With less than this free on the journal's disk, new requests are refused,
        so
            that those in flight can still be settled.
        resend_seconds: GATEWAY_RESEND_SECONDS. Without progress of the watermark for so long, the stream is checked.
        sweep_seconds: GATEWAY_SWEEP_SECONDS. How often deadlines are looked at.
        json_log: GATEWAY_LOG_JSON.
    """

    redis_url: str
    state: Path
    gateway_id: str
    region: str = "local"
    host: str = ports.HOST
    port: int = ports.GATEWAY
    private_host: str = ports.LOOPBACK
    private_port: int = ports.GATEWAY_METRICS
    max_requests: int = 4_096
    max_gateways: int = 4
    max_head: int = 64 * 1024
    max_body: int = _MAX_BODY
    max_answer: int = 256 * 1024 * 1024
    max_bodies: int = 512 * 1024 * 1024
    head_seconds: float = 30
    body_seconds: float = 300
    idle_seconds: float = 75
    connect_seconds: float = 5
    first_token_seconds: float = 300
    between_tokens_seconds: float = 120
    answer_seconds: float = 600
    total_seconds: float = 3_600
    load_percent: int = 150
    hold_requests: int = 256
    hold_seconds: float = 300
    hold_answer_seconds: float = 30
    snapshot_seconds: float = 4 * 3_600
    blocked_seconds: float = 60
    write_buffer: int = 64 * 1024
    withdraw_seconds: float = 0
    reload_seconds: float = 600
    drain_seconds: float = 30
    ship_seconds: float = 20
    replay_seconds: float = 600
    segment_bytes: int = 16 * 1024 * 1024
    reserve_bytes: int = 64 * 1024 * 1024
    resend_seconds: float = 30
    sweep_seconds: float = 1
    json_log: bool = True


def _seconds(name: str, default: int, environ: Mapping[str, str]) -> float:
    value = environ.get(name, "")
    try:
        number = float(value) if value else default
    except ValueError:
        number = -1
    if not 0 <= number < _LONGEST_SECONDS:
        raise env.ConfigurationError(f"{name}={value!r} is not a number of seconds.")
    return number


def departure_seconds(environ: Mapping[str, str] = os.environ) -> float:
    """The longest that leaving takes by these settings. Raises env.ConfigurationError."""
    parts = (("GATEWAY_WITHDRAW_SECONDS", 0), ("GATEWAY_DRAIN_SECONDS", 30), ("GATEWAY_SHIP_SECONDS", 20))
    return sum(_seconds(name, default, environ) for name, default in parts)


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings as the environment has them. Raises env.ConfigurationError, naming the variable."""

    def seconds(name: str, default: int) -> float:
        return _seconds(name, default, environ)

    max_gateways = env.integer("GATEWAY_MAX_GATEWAYS", 4, environ=environ)
    if max_gateways < 1:
        raise env.ConfigurationError(f"GATEWAY_MAX_GATEWAYS={max_gateways} must be at least 1.")
    load_percent = env.integer("GATEWAY_LOAD_PERCENT", 150, environ=environ)
    if load_percent < 100:
        raise env.ConfigurationError(f"GATEWAY_LOAD_PERCENT={load_percent} must be at least 100, an equal share.")
    max_bodies = env.integer("GATEWAY_MAX_BODIES", 512 * 1024 * 1024, environ=environ)
    if max_bodies < _MAX_BODY:
        raise env.ConfigurationError(f"GATEWAY_MAX_BODIES={max_bodies} must be at least {_MAX_BODY}, one body.")
    return Settings(
        redis_url=env.text("REDIS_URL", environ=environ),
        state=place.state_from(environ),
        gateway_id=place.name_from(environ),
        region=env.text("FREEHOLD_REGION", "local", environ=environ),
        private_host=place.private_host_from(environ),
        max_requests=env.integer("GATEWAY_MAX_REQUESTS", 4_096, environ=environ),
        max_gateways=max_gateways,
        max_bodies=max_bodies,
        head_seconds=seconds("GATEWAY_HEAD_SECONDS", 30),
        body_seconds=seconds("GATEWAY_BODY_SECONDS", 300),
        idle_seconds=seconds("GATEWAY_IDLE_SECONDS", 75),
        connect_seconds=seconds("GATEWAY_CONNECT_SECONDS", 5),
        first_token_seconds=seconds("GATEWAY_FIRST_TOKEN_SECONDS", 300),
        between_tokens_seconds=seconds("GATEWAY_BETWEEN_TOKENS_SECONDS", 120),
        answer_seconds=seconds("GATEWAY_ANSWER_SECONDS", 600),
        total_seconds=seconds("GATEWAY_TOTAL_SECONDS", 3_600),
        load_percent=load_percent,
        hold_requests=env.integer("GATEWAY_HOLD_REQUESTS", 256, environ=environ),
        hold_seconds=seconds("GATEWAY_HOLD_SECONDS", 300),
        hold_answer_seconds=seconds("GATEWAY_HOLD_ANSWER_SECONDS", 30),
        snapshot_seconds=seconds("GATEWAY_SNAPSHOT_SECONDS", 4 * 3_600),
        blocked_seconds=seconds("GATEWAY_BLOCKED_SECONDS", 60),
        write_buffer=env.integer("GATEWAY_WRITE_BUFFER", 64 * 1024, environ=environ),
        withdraw_seconds=seconds("GATEWAY_WITHDRAW_SECONDS", 0),
        reload_seconds=seconds("GATEWAY_RELOAD_SECONDS", 600),
        drain_seconds=seconds("GATEWAY_DRAIN_SECONDS", 30),
        ship_seconds=seconds("GATEWAY_SHIP_SECONDS", 20),
        replay_seconds=seconds("GATEWAY_REPLAY_SECONDS", 600),
        segment_bytes=env.integer("GATEWAY_SEGMENT_BYTES", 16 * 1024 * 1024, environ=environ),
        reserve_bytes=env.integer("GATEWAY_RESERVE_BYTES", 64 * 1024 * 1024, environ=environ),
        resend_seconds=seconds("GATEWAY_RESEND_SECONDS", 30),
        sweep_seconds=seconds("GATEWAY_SWEEP_SECONDS", 1),
        json_log=env.boolean("GATEWAY_LOG_JSON", True, environ=environ),
    )
