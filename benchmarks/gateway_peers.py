"""The gateways that benchmarks.gateway compares, each as one process tree on one core, in front of one stub engine."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.gateway_stub import SERVED
from freehold.common import ports
from freehold.onebox.layout import ROOT
from tests.factories.ports import free_port

ENVIRONMENTS = ROOT / ".bench"
_START_SECONDS = 120.0


class PeerMissing(Exception):
    """A program is not there and cannot be installed; the message says what to do."""


@dataclass
class Peer:
    """A gateway that runs.

    Attributes:
        pid: of its process; its children count as well.
        headers: what its clients send.
    """

    name: str
    url: str
    pid: int
    headers: Mapping[str, str] = field(default_factory=dict)

    def cpu_ns(self) -> int:
        """Processor time of all its threads, the ended ones too, from the kernel's clock of each process."""
        return sum(time.clock_gettime_ns(_clock(pid)) for pid in self._tree())

    def rss(self) -> int:
        """Resident bytes (VmRSS) of all its processes; what they share counts for each."""
        found = [Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0] for pid in self._tree()]
        return sum(int(kibibytes) for kibibytes in found) * 1024

    def waited_ns(self) -> int:
        """How long threads of its busiest process were ready to run and had no core (run delay in their schedstat)."""
        files = Path(f"/proc/{self.busiest}/task").glob("*/schedstat")
        return sum(int(file.read_text().split()[1]) for file in files)

    @property
    def busiest(self) -> int:
        """The process of the tree that has done most."""
        return max(self._tree(), key=lambda pid: time.clock_gettime_ns(_clock(pid)))

    def _tree(self) -> list[int]:
        found = [self.pid]
        for pid in found:
            found += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return found


def _clock(pid: int) -> int:
    """The clock id of a process's CPU time: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) in the kernel's posix-timers.h,
    what clock_getcpuclockid(3) computes."""
    return ~pid << 3 | 2


def cores() -> tuple[int, int]:
    """The core of the gateway under test, and that of stub, load and Redis."""
    found = sorted(os.sched_getaffinity(0))
    if len(found) < 2:
        raise PeerMissing("Two cores are needed: one for the gateway, one for what surrounds it.")
    return found[0], found[1]


def debian(program: str) -> None:
    """Makes sure that a program of Debian's is there. Raises PeerMissing."""
    if shutil.which(program) is not None:
        return
    subprocess.run(
        ["apt-get", "install", "-y", "--no-install-recommends", program],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if shutil.which(program) is None:
        raise PeerMissing(f"{program} is missing. Run `apt-get install {program}`.")


def environment(name: str, *requirements: str) -> Path:
    """The bin folder of an environment of its own, in .bench. Installed once."""
    folder = ENVIRONMENTS / name
    stamp, wanted = folder / ".requirements", "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"Installing {', '.join(requirements)} into .bench/{name} …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements]
        ran = subprocess.run(pip, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if ran.returncode:
            raise PeerMissing(f"{', '.join(requirements)} cannot be installed:\n{ran.stdout[-2000:]}")
        stamp.write_text(wanted)
    return folder / "bin"


@contextmanager
def process(
    command: Sequence[str | Path], *, core: int, ready: str, log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Runs a server on a core until the block ends, from when `ready` (a URL) answers 200. Yields its pid."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            ["taskset", "-c", str(core), *map(str, command)],
            stdout=output, stderr=output, env=environ, cwd=ROOT,
        )  # fmt: skip
    try:
        _wait(child, ready, log)
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait(child: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        if child.poll() is not None or time.monotonic() > deadline:
            raise PeerMissing(f"{child.args!r} does not answer at {ready}:\n{log.read_text()[-3000:]}")
        try:
            if httpx.get(ready, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)


@contextmanager
def stub(home: Path, core: int) -> Iterator[str]:
    """The stub engine's URL."""
    url = f"http://{ports.LOOPBACK}:{(port := free_port())}"
    command = [sys.executable, "-m", "benchmarks.gateway_stub", str(port)]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}
    with process(command, core=core, ready=f"{url}/health", log=home / "stub.log", environ=environ):
        yield url


_NGINX = """
daemon off; worker_processes 1; pid {home}/nginx.pid; error_log /dev/null crit; {user}
events {{ worker_connections 8192; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 1000000000; client_max_body_size 32m;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  upstream engine {{ server {engine}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {host}:{port} backlog=4096;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


@contextmanager
def nginx(home: Path, core: int, engine: str) -> Iterator[Peer]:
    """A plain proxy: one worker, connections to the engine kept open, nothing buffered, nothing logged."""
    debian("nginx")
    home.mkdir()
    port = free_port()
    text = _NGINX.format(
        home=home,
        engine=engine.removeprefix("http://"),
        host=ports.LOOPBACK,
        port=port,
        user="user root;" if os.geteuid() == 0 else "",  # its worker could not enter the temporary folder otherwise
    )
    (home / "nginx.conf").write_text(text)
    program = shutil.which("nginx") or "nginx"
    url = f"http://{ports.LOOPBACK}:{port}"
    command: list[str | Path] = [program, "-p", home, "-c", home / "nginx.conf", "-e", home / "nginx.error"]
    with process(command, core=core, ready=f"{url}/health", log=home / "nginx.log") as pid:
        yield Peer("nginx", url, pid)


@contextmanager
def vllm_router(home: Path, core: int, engine: str) -> Iterator[Peer]:
    """vllm-router, as its launcher starts it, in front of one worker."""
    program = environment("vllm-router", "vllm-router==0.1.17") / "vllm-router"
    home.mkdir()
    port = free_port()
    url = f"http://{ports.LOOPBACK}:{port}"
    command: list[str | Path] = [
        program, "--host", ports.LOOPBACK, "--port", str(port), "--worker-urls", engine,
        "--prometheus-host", ports.LOOPBACK, "--prometheus-port", str(free_port()),
    ]  # fmt: skip
    with process(command, core=core, ready=f"{url}/health", log=home / "router.log") as pid:
        yield Peer("vllm-router", url, pid)


@contextmanager
def litellm(home: Path, core: int, engine: str) -> Iterator[Peer]:
    """LiteLLM's proxy with a master key, one worker, no database."""
    program = environment("litellm", "litellm[proxy]==1.106.*") / "litellm"
    home.mkdir()
    port, key = free_port(), "sk-" + secrets.token_hex(16)
    url = f"http://{ports.LOOPBACK}:{port}"
    (home / "config.yaml").write_text(
        "model_list:\n  - model_name: bench/chat\n    litellm_params:\n"
        f"      model: hosted_vllm/{SERVED}\n      api_base: {engine}/v1\n      api_key: none\n"
        f"general_settings:\n  master_key: {key}\n"
    )
    command: list[str | Path] = [
        program, "--config", home / "config.yaml", "--host", ports.LOOPBACK, "--port", str(port),
        "--num_workers", "1", "--telemetry", "False",
    ]  # fmt: skip
    environ = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with process(
        command, core=core, ready=f"{url}/health/liveliness", log=home / "litellm.log", environ=environ
    ) as pid:
        yield Peer("LiteLLM", url, pid, {"Authorization": f"Bearer {key}"})
