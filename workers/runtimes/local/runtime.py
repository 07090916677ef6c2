"""The local runtime: a vLLM child process for each replica, owned by a shim and found again by its folder.

A worker that restarts adopts what runs: `observe` reads the folders, compares pids with their start times and asks
`/health`. Nothing is kept in memory between calls.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from freehold.common import clock, env, ids, ports
from freehold.common.ids import uuid7
from workers.manifests import vllm
from workers.manifests.spec import WorkloadSpec
from workers.runtimes.base import (
    Action,
    FetchToken,
    Observed,
    ObservedReplica,
    Pace,
    RuntimeUnavailable,
    Scope,
    StepRefused,
    Verb,
    Wanted,
)
from workers.runtimes.local import state
from workers.runtimes.local.observation import GRACE_SECONDS, SPAWN_SECONDS, observe_replica, terminate

SHIM = Path(__file__).resolve().parent / "shim.py"
# User ids engines may have: FREEHOLD_ENGINE_UID and up. Fits below 65534 (nobody), which user namespaces often end at.
TENANT_UIDS = 4_000
WANTED_CAUSES = frozenset({"ScaledDown", "Replaced", "Stopped"})


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """Where things lie and as whom engines run.

    Attributes:
        root: replica folders; `weights` beside it is the cache, readable by the engine's user.
        engine_python: the interpreter of the engine's environment.
        engine_uid: first of TENANT_UIDS user ids for engines, one a tenant. None runs engines as our own user (only
        where     we are not root).
        engine_digest: of what is installed; an endpoint that pins another is not started with it. Empty: not checked.
        library_path: LD_LIBRARY_PATH of that interpreter, if it needs one.
        instance: mark in every process's environment by which leftovers are found.
        extra_arguments: vLLM flags for every engine of this machine.
    """

    root: Path
    weights: Path
    engine_python: Path
    hub_url: str
    engine_uid: int | None = None
    engine_digest: str = ""
    library_path: str = ""
    instance: str = ""
    first_port: int = ports.ENGINE_FIRST
    port_count: int = ports.ENGINE_COUNT
    extra_arguments: tuple[str, ...] = ("--enforce-eager", "--distributed-executor-backend", "uni")
    engine_environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_environment(cls) -> LocalSettings:
        """Reads FREEHOLD_DATA and the FREEHOLD_ENGINE_… variables (docs/configuration.md)."""
        data = Path(env.text("FREEHOLD_DATA"))
        uid = env.text("FREEHOLD_ENGINE_UID", "")
        if os.geteuid() == 0 and not uid:
            raise env.ConfigurationError("FREEHOLD_ENGINE_UID is not set: as root, engines need a user of their own.")
        return cls(
            root=data / "replicas",
            weights=data / "weights",
            engine_python=Path(env.text("FREEHOLD_ENGINE_PYTHON")),
            hub_url=env.text("FREEHOLD_PUBLIC_URL", f"http://{ports.HOST}:{ports.WEB}"),
            engine_uid=int(uid) if uid and os.geteuid() == 0 else None,
            engine_digest=env.text("FREEHOLD_ENGINE_DIGEST", ""),
            library_path=env.text("FREEHOLD_ENGINE_LD_LIBRARY_PATH", ""),
            instance=env.text("FREEHOLD_INSTANCE", ""),
        )


class LocalRuntime:
    """Runtime (runtimes/base.py) on this machine."""

    keeps_objects = False
    pace = Pace()
    batch = 50
    parallel = 1
    drain = timedelta(0)

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings

    # Observe

    def observe(self, scope: Scope | None = None) -> Observed:
        """Raises RuntimeUnavailable where the folder cannot be read."""
        root = self._settings.root
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o755)
            folders = sorted(root.glob("ep_*/rpl_*"))
        except OSError as error:
            raise RuntimeUnavailable(f"The replicas' folder cannot be read: {error}") from error
        replicas: dict[str, list[ObservedReplica]] = {}
        with ThreadPoolExecutor(max_workers=8) as pool:
            for found in pool.map(observe_replica, folders):
                if found is not None:
                    replicas.setdefault(found.endpoint, []).append(found)
        return Observed(at=clock.now(), replicas={endpoint: tuple(found) for endpoint, found in replicas.items()})

    def log_tail(self, endpoint: str, replica: str, *, lines: int) -> list[str]:
        """The newest lines of a replica's log."""
        return state.tail(self._settings.root / endpoint / replica / state.LOG, lines)

    # Apply

    def wanted(self, spec: WorkloadSpec, *, tenant_slug: str) -> Wanted:
        """Nothing: replicas are started here, step by step."""
        return Wanted(tenant=(), endpoint=())

    def apply(self, action: Action, *, endpoint: str, fetch_token: FetchToken | None) -> str:
        """Does one step. Raises StepRefused where the disk or the ports are full."""
        folder = self._settings.root / endpoint / action.replica
        match action.verb:
            case Verb.CREATE if action.spec is not None:
                try:
                    self._create(action.spec, failures=action.failures, fetch_token=_secret(fetch_token))
                except (OSError, subprocess.TimeoutExpired) as error:
                    raise StepRefused(f"A replica cannot be started: {error}") from error
            case Verb.DELETE:
                self._stop(folder, cause=action.cause)
            case Verb.FORGET:
                self._forget(folder)
            case _:
                raise ValueError(f"{action.verb} is not a step")
        return ""

    def _forget(self, folder: Path) -> None:
        """Moved away first: whoever observes sees a whole folder or none."""
        others = [path for path in folder.parent.glob("rpl_*") if path != folder]
        gone = folder if others else folder.parent
        trash = self._settings.root / f".forgotten-{folder.name}"
        with suppress(FileNotFoundError):
            gone.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)

    def _create(self, spec: WorkloadSpec, *, failures: int, fetch_token: str) -> None:
        settings = self._settings
        if settings.engine_digest not in {"", spec.engine_digest}:
            raise StepRefused(
                f"The endpoint pins the engine {spec.engine_digest[:19]}…, and this machine has "
                f"{settings.engine_digest[:19]}…. Deploy it again to serve it with this one."
            )
        replica = ids.encode("rpl", uuid7())
        folder = settings.root / spec.endpoint / replica
        weights = settings.weights / spec.weights.tenant / spec.weights.digest
        uid = self._uid(spec)
        self._open_weights_to(weights.parent, uid)
        with self._port() as port:
            # Other users may pass through, not look: the engine reaches its home and nothing else here.
            folder.mkdir(parents=True, mode=0o711)
            request = state.Request(
                endpoint=spec.endpoint,
                replica=replica,
                template_hash=spec.template_hash,
                created_at=time.time(),
                failures=failures,
                host=ports.LOOPBACK,
                port=port,
                fetch={
                    "FREEHOLD_FETCH_URL": settings.hub_url,
                    "FREEHOLD_FETCH_REPO": spec.weights.repo,
                    "FREEHOLD_FETCH_REVISION": spec.weights.commit_id,
                    "FREEHOLD_FETCH_TARGET": str(weights),
                    "FREEHOLD_FETCH_DIGEST": spec.weights.digest,
                },
                command=self._command(spec, weights, port),
                environment=self._environment(spec, folder),
                uid=uid,
                grace_seconds=GRACE_SECONDS,
            )
            state.write(folder, state.REQUEST, request)
        with (folder / "shim.log").open("ab") as log:
            launcher = subprocess.Popen(
                [sys.executable, "-I", str(SHIM), str(folder)],
                env={
                    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                    "FREEHOLD_INSTANCE": settings.instance,
                    state.MARK: replica,
                    "FREEHOLD_FETCH_TOKEN": fetch_token,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        launcher.wait(timeout=SPAWN_SECONDS)

    def _uid(self, spec: WorkloadSpec) -> int | None:
        """One user and group a tenant: engines of different tenants can neither read nor signal each other."""
        base = self._settings.engine_uid
        if base is None:
            return None
        return base + int.from_bytes(hashlib.sha256(spec.weights.tenant.encode()).digest()[:4], "big") % TENANT_UIDS

    def _open_weights_to(self, folder: Path, uid: int | None) -> None:
        """The tenant's folder of weights: written by us, read by its engines, closed to everybody else's."""
        folder.mkdir(parents=True, exist_ok=True)
        if uid is not None:
            folder.parent.chmod(0o711)
            os.chown(folder, -1, uid)
            folder.chmod(0o750)

    def _command(self, spec: WorkloadSpec, weights: Path, port: int) -> list[str]:
        return [
            str(self._settings.engine_python),
            "-m",
            "vllm.entrypoints.openai.api_server",
            *vllm.arguments(
                spec, model_path=str(weights), host=ports.LOOPBACK, port=port, extra=self._settings.extra_arguments
            ),
        ]

    def _environment(self, spec: WorkloadSpec, folder: Path) -> dict[str, str]:
        """The engine's whole environment: nothing of ours, least of all a secret, is inherited."""
        home = str(folder / "home")
        environment = {
            "PATH": f"{self._settings.engine_python.parent}:/usr/bin:/bin",
            "HOME": home,
            "VLLM_CACHE_ROOT": str(folder.parent / state.CACHE),
            "TMPDIR": home,
            "USER": "engine",
            "LOGNAME": "engine",
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "SPT_NOENV": "1",  # vLLM's setproctitle would overwrite the environment by which leftovers are found
            "FREEHOLD_INSTANCE": self._settings.instance,
            state.MARK: folder.name,
            # What vLLM compiles even so (for logprobs) needs a compiler and Python's headers, else its core dies.
            "TORCHDYNAMO_DISABLE": "1",
            "VLLM_RPC_BASE_PATH": "/tmp",  # noqa: S108 - sockets named by UUID; under TMPDIR they pass the 107 bytes of sun_path
            **vllm.offline_environment(),
            **vllm.cpu_environment(spec),
            **self._settings.engine_environment,
        }
        if self._settings.library_path:
            environment["LD_LIBRARY_PATH"] = self._settings.library_path
        return environment

    def _stop(self, folder: Path, *, cause: str) -> None:
        """Asks a replica to end; asked again after the grace period it is made to."""
        stop = state.read(folder, state.STOP)
        if stop is None:
            wanted = cause in WANTED_CAUSES
            state.write(folder, state.STOP, state.Stop(at=time.time(), cause=cause, wanted=wanted))
        terminate(folder)

    @contextmanager
    def _port(self) -> Iterator[int]:
        """A port that no replica has and nobody listens on; held until the request that names it is written."""
        settings = self._settings
        settings.root.mkdir(parents=True, exist_ok=True)
        with (settings.root / ".ports.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            taken = {
                request["port"]
                for folder in settings.root.glob("*/*")
                if (request := state.read(folder, state.REQUEST)) and state.read(folder, state.EXIT) is None
            }
            for port in range(settings.first_port, settings.first_port + settings.port_count):
                if port not in taken and _free(port):
                    yield port
                    return
        last = settings.first_port + settings.port_count - 1
        raise StepRefused(f"All ports for engines are taken ({settings.first_port} to {last}).")


def _secret(token: FetchToken | None) -> str:
    return token.secret if token is not None else ""


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ports.LOOPBACK, port))
        except OSError:
            return False
        return True
