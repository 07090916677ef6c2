"""A running web process and its customers; conftest.py makes fixtures of these."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from freehold.tenancy import services as tenancy
from freehold.tenancy.actors import Actor, system
from freehold.tenancy.choices import ActorKind, Role
from freehold.tenancy.models import Tenant
from tests.factories.ports import free_port

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Web:
    """A running web process."""

    url: str
    pid: int


@dataclass(frozen=True)
class Customer:
    """A tenant, an actor who may do everything in it, and the secret of an API key that acts so too."""

    tenant: Tenant
    actor: Actor
    secret: str

    @property
    def tenant_id(self) -> uuid.UUID:
        return self.tenant.pk


@contextmanager
def web_process(port: int = 0, variables: Mapping[str, str] | None = None) -> Iterator[Web]:
    """granian over freehold.config.asgi on a free port, or on `port`. The pid is its worker's, whose memory counts.
    It may be killed inside the block: kill_web."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)]),
        "PYTHONWARNINGS": "default",
        **(variables or {}),
    }
    command = ["granian", "--interface", "asginl", "--host", "127.0.0.1", "--port", str(port), "--no-ws"]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "freehold.config.asgi:application"], env=environment, start_new_session=True
    )
    try:
        yield Web(url=url, pid=_ready(process, url))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def kill_web(web: Web) -> None:
    """kill -9, for granian and its worker."""
    os.killpg(os.getpgid(web.pid), signal.SIGKILL)


def _ready(process: subprocess.Popen[bytes], url: str) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the web process ended"
        try:
            httpx.get(f"{url}/api/whoami-v2", timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return int(children[-1]) if children else process.pid
    raise AssertionError("the web process did not answer within 60 s")


def customer(slug: str) -> Customer:
    """A new tenant with an admin's key."""
    tenant = tenancy.tenant_create(actor=system("tests"), slug=slug, name=slug)
    actor = Actor(kind=ActorKind.USER, id="usr_test", label="dev@example.com", tenant_id=tenant.pk, role=Role.ADMIN)
    key = tenancy.api_key_create(actor=actor, tenant_id=tenant.pk, name="tests", role=Role.ADMIN)
    return Customer(tenant=tenant, actor=actor, secret=key.secret)
