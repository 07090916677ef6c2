"""What stands in front of the replicas in benchmarks/routing.py: nothing, vllm-router, our gateway."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import redis

from benchmarks.gateway_ours import field_of
from benchmarks.gateway_peers import cores, environment, process
from benchmarks.routing_replicas import SERVED
from benchmarks.routing_simulation import Plain, Policy, Request
from freehold.common import ports
from freehold.onebox.layout import ROOT
from freehold.onebox.redis import EmbeddedRedis
from freehold.wire.names import Section
from freehold.wire.publish import Publisher
from freehold.wire.records import KeyRecord, ReplicaRecord, RouteRecord, TenantRecord
from tests.factories.ports import free_port, is_free

TENANTS = 10
_MODEL = "bench/chat"


@dataclass(frozen=True, slots=True)
class Way:
    """Where a request goes, and what it says besides its messages.

    Attributes:
        salt: the tenant's, where no gateway sets it.
        request: told how it goes.
    """

    url: str
    model: str
    headers: dict[str, str]
    salt: str
    request: Request


class Door(Protocol):
    """What clients talk to."""

    def way(self, tenant: int, messages: bytes) -> Way:
        """For one request."""


@dataclass(slots=True)
class Direct:
    """No gateway: clients choose among the replicas themselves, by one policy for all of them."""

    policy: Policy
    replicas: Sequence[str]
    model: str = SERVED

    def way(self, tenant: int, messages: bytes) -> Way:
        """To the replica that the policy chooses."""
        request = self.policy.begin(f"tnt_{tenant}", messages)
        return Way(self.replicas[request.replica], self.model, {}, f"salt-{tenant}", request)


@dataclass(slots=True)
class Through:
    """A gateway that chooses.

    Attributes:
        keys: of the tenants; none where it knows no tenants.
    """

    url: str
    model: str
    keys: Sequence[str] = field(default_factory=list)

    def way(self, tenant: int, messages: bytes) -> Way:
        """To the gateway."""
        if self.keys:
            return Way(self.url, self.model, {"authorization": f"Bearer {self.keys[tenant]}"}, "", Plain(0))
        return Way(self.url, self.model, {}, f"salt-{tenant}", Plain(0))


@contextmanager
def replicas(count: int) -> Iterator[list[str]]:
    """URLs of simulated replicas."""
    command = [sys.executable, "-m", "benchmarks.routing_replicas", str(count)]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}", "PYTHONHASHSEED": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        try:
            yield [f"http://{ports.LOOPBACK}:{port}" for port in json.loads(child.stdout.readline())]
        finally:
            child.stdin.close()


@contextmanager
def vllm_router(home: Path, urls: Sequence[str], policy: str) -> Iterator[Door]:
    """vllm-router with the policy's default settings."""
    program = environment("vllm-router", "vllm-router==0.1.17") / "vllm-router"
    url = f"http://{ports.LOOPBACK}:{(port := free_port())}"
    command: list[str | Path] = [
        program, "--host", ports.LOOPBACK, "--port", str(port), "--policy", policy, "--worker-urls", *urls,
        "--prometheus-host", ports.LOOPBACK, "--prometheus-port", str(free_port()),
    ]  # fmt: skip
    with process(command, core=cores()[0], ready=f"{url}/health", log=home / "vllm-router.log"):
        yield Through(url, SERVED)


@contextmanager
def ours(home: Path, urls: Sequence[str], served: str = SERVED) -> Iterator[Door]:
    """`python -m freehold.gateway` with a key for each tenant."""
    folder = home / f"freehold-{secrets.token_hex(4)}"
    folder.mkdir()
    folder.chmod(0o755)
    server = EmbeddedRedis(folder / "redis", port=free_port(), password=secrets.token_hex(16))
    with ExitStack() as stack:
        server.start()
        stack.callback(server.stop)
        client = stack.enter_context(redis.Redis.from_url(server.url))
        keys = ["fh_" + secrets.token_hex(16) for _ in range(TENANTS)]
        _publish(client, urls, keys, served)
        offset = _free_offset()
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "platform"),
            "REDIS_URL": server.url,
            "GATEWAY_STATE": str(folder / "state"),
            "GATEWAY_ID": "gateway-bench",
            "GATEWAY_SHIP_SECONDS": "0",  # nobody meters here
            "FREEHOLD_PORT_OFFSET": str(offset),
            "GATEWAY_NATIVE": os.environ.get("GATEWAY_NATIVE", "require"),  # as in the image
        }
        ready = f"http://{ports.LOOPBACK}:{ports.GATEWAY_METRICS - ports.OFFSET + offset}/readyz"
        command = [sys.executable, "-m", "freehold.gateway"]
        log = folder / "gateway.log"
        stack.enter_context(process(command, core=cores()[0], ready=ready, log=log, environ=environ))
        yield Through(f"http://{ports.LOOPBACK}:{ports.GATEWAY - ports.OFFSET + offset}", _MODEL, keys)


def _publish(client: redis.Redis, urls: Sequence[str], keys: Sequence[str], served: str) -> None:
    publisher = Publisher(client)
    numbered = list(enumerate(keys))
    publisher.replace(
        Section.KEYS,
        {field_of(key): KeyRecord(id=f"key_{number}", tenant=f"tnt_{number}") for number, key in numbered},
        version=1,
    )
    publisher.replace(
        Section.TENANTS,
        {f"tnt_{number}": TenantRecord(slug=f"t{number}", cache_salt=secrets.token_hex(16)) for number, _ in numbered},
        version=1,
    )
    records = []
    for number, url in enumerate(urls):
        host, port = url.removeprefix("http://").split(":")
        records.append(ReplicaRecord(id=f"rpl_{number}", host=host, port=int(port)))
    route = RouteRecord(
        endpoint="ep_chat",
        tenant="tnt_0",
        generation=1,
        task="generate",
        served_model_name=served,
        billing_mode="tokens",
        region="local",
        phase="Ready",
        weight_digest="sha256:w",
        engine_digest="sha256:e",
        serverless=True,
        replicas=tuple(records),
    )
    publisher.replace(Section.ROUTES, {_MODEL: route}, version=1)


def _free_offset() -> int:
    while True:
        offset = free_port() - ports.GATEWAY + ports.OFFSET
        if is_free(ports.GATEWAY_METRICS - ports.OFFSET + offset):
            return offset
