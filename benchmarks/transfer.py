"""Upload and download of one large file with huggingface_hub over loopback: Freehold beside a bare file server.

Figures to reach: ≥ 0.7 of the bare server's throughput both ways; the web process grows by ≤ 64 MiB whatever the size.
Starts its own databases, web process and peer in a temporary folder, and takes turns with them, so that whatever else
runs on the machine hits both. `python -m benchmarks.transfer [GiB] [rounds]`; benchmarks.registry calls `figures()`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

from benchmarks.onebox import Figure
from freehold.onebox.layout import ROOT
from freehold.onebox.postgres import APP, OWNER, EmbeddedPostgres, Passwords
from freehold.onebox.redis import EmbeddedRedis
from tests.factories.models_on_disk import CONFIG, framed
from tests.factories.ports import free_port

SIZE_BYTES = 2 * 1024**3
ROUNDS = 3
MIB = 1024 * 1024

_DATABASE = "freehold_bench"
_WEB = ["granian", "--interface", "asginl", "--workers", "1", "--log-level", "warning"]  # as onebox.supervisor runs it

_CUSTOMER = """
import django; django.setup(set_prefix=False)
from freehold.tenancy import services
from freehold.tenancy.actors import Actor, system
from freehold.tenancy.choices import ActorKind, Role
tenant = services.tenant_create(actor=system("bench"), slug="acme", name="acme")
actor = Actor(kind=ActorKind.USER, id="usr_bench", label="bench", tenant_id=tenant.pk, role=Role.ADMIN)
print(services.api_key_create(actor=actor, tenant_id=tenant.pk, name="bench", role=Role.ADMIN).secret)
"""

# Its hash is computed beforehand: the client's own reading of the file is not what is measured.
_UPLOAD = """
import sys, time
from huggingface_hub import CommitOperationAdd, HfApi
api, folder = HfApi(), sys.argv[1]
api.create_repo("acme/bench", exist_ok=True)
names = ("config.json", "model.safetensors")
operations = [CommitOperationAdd(name, f"{folder}/{name}") for name in names]
[operation.upload_info.sha256 for operation in operations]
began = time.monotonic()
api.create_commit("acme/bench", operations, commit_message="bench")
print(time.monotonic() - began)
"""
_DOWNLOAD = """
import sys, time
from huggingface_hub import hf_hub_download
began = time.monotonic()
hf_hub_download("acme/bench", "model.safetensors", local_dir=sys.argv[1])
print(time.monotonic() - began)
"""


@dataclass
class Hub:
    """A server to measure. Throughputs in bytes a second, `grown` in bytes: its peak above what it had before."""

    name: str
    url: str
    token: str
    pid: int
    up: list[float] = field(default_factory=list)
    down: list[float] = field(default_factory=list)
    grown_up: list[int] = field(default_factory=list)
    grown_down: list[int] = field(default_factory=list)
    environment: Mapping[str, str] = field(default_factory=dict)


def main() -> None:
    """Prints the table."""
    size = int(float(sys.argv[1]) * 1024**3) if len(sys.argv) > 1 else SIZE_BYTES
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    lines = figures(size=size, rounds=rounds)
    width = max(len(line.name) for line in lines)
    for line in lines:
        print(f"{line.name:<{width}}  {line.value:>14}  {line.goal}")


def figures(*, size: int = SIZE_BYTES, rounds: int = ROUNDS) -> list[Figure]:
    """Moves `size` bytes both ways `rounds` times through each, after one round to warm up."""
    with tempfile.TemporaryDirectory(prefix="freehold-bench-", dir="/var/tmp") as name, ExitStack() as stack:
        home = Path(name)
        home.chmod(0o755)
        hubs = [stack.enter_context(freehold(home / "freehold")), stack.enter_context(_bare(home / "bare"))]
        for number in range(rounds + 1):
            for hub in hubs if number % 2 else reversed(hubs):
                _round(hub, home / "files", size)
        for hub in hubs:
            for figure in (hub.up, hub.down, hub.grown_up, hub.grown_down):
                del figure[0]
        return _table(*hubs)


def _table(ours: Hub, bare: Hub) -> list[Figure]:
    def ratio(one: list[float], other: list[float]) -> str:
        return f"{median(a / b for a, b in zip(one, other, strict=True)):.2f}"

    def speed(rates: list[float]) -> str:
        return f"{median(rates) / MIB:.0f} MiB/s"

    return [
        Figure("upload, Freehold", speed(ours.up), ""),
        Figure("upload, bare file server", speed(bare.up), ""),
        Figure("upload, ratio", ratio(ours.up, bare.up), "≥ 0.7"),
        Figure("download, Freehold", speed(ours.down), ""),
        Figure("download, bare file server", speed(bare.down), ""),
        Figure("download, ratio", ratio(ours.down, bare.down), "≥ 0.7"),
        Figure("web process grows while uploading", f"{max(ours.grown_up) / MIB:.0f} MiB", "≤ 64 MiB"),
        Figure("web process grows while downloading", f"{max(ours.grown_down) / MIB:.0f} MiB", "≤ 64 MiB"),
    ]


def _round(hub: Hub, folder: Path, size: int) -> None:
    """One file that nobody has seen before, up and down again."""
    source, target = folder / "source", folder / "target"
    source.mkdir(parents=True)
    (source / "config.json").write_text(json.dumps(CONFIG))
    _write_weights(source / "model.safetensors", size)
    environment = {
        **os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    for script, place, rates, growth in (
        (_UPLOAD, source, hub.up, hub.grown_up),
        (_DOWNLOAD, target, hub.down, hub.grown_down),
    ):
        os.sync()  # what the turn before has left to write is not this one's to pay
        before = _peak(hub.pid, reset=True)
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, str(place)],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
        )
        rates.append(size / float(ran.stdout))
        growth.append(_peak(hub.pid) - before)
    assert (target / "model.safetensors").stat().st_size == (source / "model.safetensors").stat().st_size
    shutil.rmtree(folder)


def _write_weights(path: Path, size: int) -> None:
    """A safetensors file whose tensor is one random MiB after another: each file differs from every other."""
    count = size // MIB
    header = {"w": {"dtype": "U8", "shape": [count * MIB], "data_offsets": [0, count * MIB]}}
    with path.open("wb") as file:
        file.write(framed(json.dumps(header).encode()))
        piece = bytearray(os.urandom(MIB))
        for number in range(count):
            piece[:8] = number.to_bytes(8, "little")
            file.write(piece)


def _peak(pid: int, *, reset: bool = False) -> int:
    """The most bytes the process has held in memory since the last reset (proc(5): clear_refs)."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextmanager
def freehold(home: Path) -> Iterator[Hub]:
    """Databases, a tenant with a key, and granian, as an installation of one machine runs them."""
    home.mkdir()
    (home / "static").mkdir()
    passwords = Passwords(*(secrets.token_urlsafe(16) for _ in range(3)))
    postgres = EmbeddedPostgres(home / "postgres", port=free_port(), passwords=passwords)
    redis = EmbeddedRedis(home / "redis", port=free_port(), password=secrets.token_urlsafe(16))
    postgres.start()
    try:
        redis.start()
        postgres.prepare(_DATABASE)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)]),
            "DJANGO_SETTINGS_MODULE": "freehold.config.settings.onebox",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "FREEHOLD_ENCRYPTION_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
            "DATABASE_URL": postgres.url(APP, _DATABASE),
            "DATABASE_MIGRATE_URL": postgres.url(OWNER, _DATABASE),
            "REDIS_URL": redis.url,
            "FREEHOLD_HOME": str(home),
            "FREEHOLD_DATA": str(home),
            "FREEHOLD_INSTANCE": str(home),
        }
        subprocess.run([sys.executable, "manage.py", "freehold_migrate", "-v0"], cwd=ROOT, env=environment, check=True)
        made = subprocess.run(
            [sys.executable, "-c", _CUSTOMER], env=environment, stdout=subprocess.PIPE, check=True, text=True
        )
        port = free_port()
        command = ["-m", *_WEB, "--host", "127.0.0.1", "--port", str(port), "freehold.config.asgi:application"]
        with _process(command, environment, f"http://127.0.0.1:{port}/healthz") as pid:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            yield Hub(
                "Freehold",
                f"http://127.0.0.1:{port}",
                made.stdout.split()[-1],
                int(children[-1]),
                environment=environment,
            )
    finally:
        redis.stop()
        postgres.stop()


@contextmanager
def _bare(home: Path) -> Iterator[Hub]:
    home.mkdir()
    port = free_port()
    command = ["-m", "benchmarks.bare_hub", str(port), str(home)]
    with _process(command, os.environ, f"http://127.0.0.1:{port}/api") as pid:
        yield Hub("bare file server", f"http://127.0.0.1:{port}", "hf_bench", pid)


@contextmanager
def _process(arguments: list[str], environment: Mapping[str, str], url: str) -> Iterator[int]:
    """A Python process from when it answers at `url` until the end of the block."""
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=dict(environment), start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not _answers(url):
            assert process.poll() is None, f"{arguments} has ended"
            assert time.monotonic() < deadline, f"{arguments} does not answer"
            time.sleep(0.1)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code < 500
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
