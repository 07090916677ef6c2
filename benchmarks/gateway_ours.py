"""Our gateway as benchmarks.gateway runs it: everything on, a real Redis, and what the control plane would publish."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import redis

from benchmarks.gateway_peers import Peer, process
from benchmarks.gateway_stub import ENDLESS, HASTY, HELD, SERVED
from freehold.common import ports
from freehold.onebox.layout import ROOT
from freehold.onebox.redis import EmbeddedRedis
from freehold.wire import names
from freehold.wire.balances import Balances
from freehold.wire.names import Section
from freehold.wire.publish import Publisher
from freehold.wire.records import (
    AccountRecord,
    KeyRecord,
    Limits,
    PriceRecord,
    PriceStep,
    ReplicaRecord,
    RouteRecord,
    TenantRecord,
)
from freehold.wire.usage import UsageBatch
from tests.factories.ports import free_port, is_free

KEYS = 10_000
LIMITS = Limits(requests_per_minute=10**9, tokens_per_minute=10**12, concurrency=10**5)
BALANCE_NANOS = 10**15
GATEWAY_ID = "gateway-bench"
SOURCE = "FREEHOLD_BENCH_SOURCE"

_DRAIN_SECONDS = 0.2  # as metering's drain, which waits for no more


@dataclass
class Ours(Peer):
    """Our gateway, with what surrounds it.

    Attributes:
        private_url: health and metrics.
        redis: of the control plane's part, which the benchmark plays.
        secrets: API keys in force.
        output: its log, access lines included.
    """

    private_url: str = ""
    redis: redis.Redis = field(default_factory=redis.Redis)
    secrets: Sequence[str] = ()
    output: Path = Path()

    def complaints(self) -> str:
        """The last of what it logged beside the requests."""
        lines = self.output.read_text(errors="replace").replace("\0", "").splitlines()
        return "\n".join([line for line in lines if not line.startswith('{"at":')][-20:])

    def gauge(self, name: str) -> float:
        """A gauge of /metrics."""
        lines = httpx.get(f"{self.private_url}/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"freehold_gateway_{name} "))


@contextmanager
def ours(home: Path, core: int, engine: str) -> Iterator[Ours]:
    """`python -m freehold.gateway` with everything on, 10,000 keys, and a stand-in for metering that confirms.

    Redis runs on our caller's core. SOURCE names the folder whose code runs, if it is not this checkout's platform/.
    """
    home.mkdir()
    home.chmod(0o755)
    server = EmbeddedRedis(home / "redis", port=free_port(), password=secrets.token_hex(16))
    with ExitStack() as stack:
        server.start()
        stack.callback(server.stop)
        client = stack.enter_context(redis.Redis.from_url(server.url))
        tokens = ["fh_" + secrets.token_hex(16) for _ in range(KEYS)]
        publish(client, engine, tokens)
        offset = _free_offset()
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get(SOURCE, str(ROOT / "platform")),
            "REDIS_URL": server.url,
            "GATEWAY_STATE": str(home / "state"),
            "GATEWAY_ID": GATEWAY_ID,
            "FREEHOLD_PORT_OFFSET": str(offset),
            "GATEWAY_NATIVE": os.environ.get("GATEWAY_NATIVE", "require"),  # as in the image
        }
        base = f"http://{ports.LOOPBACK}"
        private = f"{base}:{ports.GATEWAY_METRICS - ports.OFFSET + offset}"
        log = home / "gateway.log"
        command = [sys.executable, "-m", "freehold.gateway"]
        pid = stack.enter_context(process(command, core=core, ready=f"{private}/readyz", log=log, environ=environ))
        stack.enter_context(_metering(client))
        url = f"{base}:{ports.GATEWAY - ports.OFFSET + offset}"
        headers = {"Authorization": f"Bearer {tokens[0]}"}
        yield Ours("Freehold", url, pid, headers, private, client, tokens, log)


def publish(client: redis.Redis, engine: str, tokens: Sequence[str]) -> None:
    """What the control plane would: keys, a tenant and routes to the stub, all with limits; prices, a prepaid balance.

    None of them ever runs out, so that all of it is reckoned and nothing is refused.
    """
    publisher = Publisher(client)
    keys = {
        field_of(token): KeyRecord(id=f"key_{number}", tenant="tnt_bench", limits=LIMITS)
        for number, token in enumerate(tokens)
    }
    publisher.replace(Section.KEYS, keys, version=1)
    tenant = TenantRecord(slug="bench", cache_salt=secrets.token_hex(16), limits=LIMITS)
    publisher.replace(Section.TENANTS, {"tnt_bench": tenant}, version=1)
    host, port = engine.removeprefix("http://").split(":")
    replica = ReplicaRecord(id="rpl_1", host=host, port=int(port))
    routes = {
        f"bench/{name}": RouteRecord(
            endpoint=f"ep_{name}", tenant="tnt_bench", generation=1, task="generate", served_model_name=served,
            billing_mode="tokens", region="local", phase="Ready", weight_digest="sha256:w", engine_digest="sha256:e",
            max_model_len=32_768, replicas=(replica,), limits=LIMITS,
        )
        for name, served in (("chat", SERVED), (HELD, HELD), (ENDLESS, ENDLESS), (HASTY, HASTY))
    }  # fmt: skip
    publisher.replace(Section.ROUTES, routes, version=1)
    price = PriceStep(valid_from=0, prompt=200_000_000, completion=600_000_000, cached=50_000_000)
    publisher.replace(Section.PRICES, {"": PriceRecord(steps=(price,))}, version=1)
    publisher.replace(Section.ACCOUNTS, {"tnt_bench": AccountRecord(prepaid=True)}, version=1)
    balances = Balances(client)
    draft = balances.draft()
    balances.put({"tnt_bench": BALANCE_NANOS}, version=1)
    balances.begin(draft, expected=[GATEWAY_ID])


def field_of(token: str) -> str:
    """A key's field in its section."""
    return hashlib.sha256(token.encode()).hexdigest()


def _free_offset() -> int:
    """A shift under which the gateway's two ports are free."""
    while True:
        offset = free_port() - ports.GATEWAY + ports.OFFSET
        if is_free(ports.GATEWAY_METRICS - ports.OFFSET + offset):
            return offset


@contextmanager
def _metering(client: redis.Redis) -> Iterator[None]:
    """Confirms whatever was shipped and empties the stream, as metering does once PostgreSQL has it."""
    over = threading.Event()

    def drain() -> None:
        while not over.wait(_DRAIN_SECONDS):
            entries: Any = client.xrevrange(names.USAGE, count=1)
            if not entries:
                continue
            position, fields = entries[0]
            batch = msgspec.msgpack.decode(fields[b"b"], type=UsageBatch)
            last = batch.first_sequence + len(batch.records) - 1
            client.hset(names.WATERMARKS, f"{batch.gateway}/{batch.epoch}", last)
            client.xtrim(names.USAGE, minid=position, approximate=False)

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
