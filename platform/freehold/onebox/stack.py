"""Starts and ends the processes of one installation, without any demo. Called by up.py and down.py."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from freehold.common import ports
from freehold.onebox.credentials import Credentials
from freehold.onebox.environment import environment
from freehold.onebox.layout import ROOT, Layout, private
from freehold.onebox.postgres import EmbeddedPostgres, Passwords
from freehold.onebox.reap import find, reap
from freehold.onebox.redis import EmbeddedRedis
from freehold.onebox.report import Report
from freehold.onebox.supervisor import PLATFORM, Supervisor, programs, tail

_READY_SECONDS = 60.0


class StackFailed(Exception):
    """A process of the installation did not come up, or did not end; the message says what to do."""


class Busy(Exception):
    """Another `make up` or `make down` of this installation is at work."""


@dataclass(frozen=True)
class Stack:
    """The processes of one installation: databases, platform, supervisor."""

    layout: Layout

    @property
    def supervisor(self) -> Supervisor:
        """Remote control; whether anything is there to control is another question."""
        return Supervisor(self.layout)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Keeps a second `make up` out while one is at work. Raises Busy."""
        self.layout.claim()  # before anything lies there
        private(self.layout.run)
        with (self.layout.run / "up.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy("Another `make up` of this installation is at work. Wait for it, or `make down`.") from None
            yield

    def start(self, report: Report) -> dict[str, str]:
        """Starts everything and returns the environment that its processes have.

        Raises StackFailed, DatabaseFailed, MissingWheel, SupervisorFailed.
        """
        credentials = Credentials.of(self.layout.secrets)
        variables = environment(self.layout, credentials)
        postgres = EmbeddedPostgres(
            self.layout.postgres,
            port=ports.POSTGRES,
            passwords=Passwords(credentials.postgres_superuser, credentials.postgres_owner, credentials.postgres_app),
        )
        redis = EmbeddedRedis(self.layout.redis, port=ports.REDIS, password=credentials.redis)
        postgres.initialise()
        redis.initialise()
        supervisor = self.supervisor
        supervisor.launch(programs(self.layout, postgres=postgres.command(), redis=redis.command()), variables)
        supervisor.begin("postgres")
        supervisor.begin("redis")
        postgres.wait()
        redis.wait()
        postgres.prepare()
        report.step(f"PostgreSQL and Redis answer on {ports.LOOPBACK}:{ports.POSTGRES} and :{ports.REDIS}")
        self._migrate(variables)
        report.step("the database is migrated")
        for name in PLATFORM:
            supervisor.begin(name)
        self._wait_for_doors(supervisor)
        for status in supervisor.status():
            report.step(
                f"  {status.name:<9} {status.state.lower()}, pid {status.pid}, {self.layout.logs / status.name}.log"
            )
        return variables

    def stop(self) -> int:
        """Ends everything, whoever started it. Returns how many stragglers had to be ended one by one.

        Raises StackFailed where a process is still there afterwards.
        """
        self.supervisor.stop()
        stragglers = len(reap(self.layout.instance))
        if left := find(self.layout.instance):
            pids = ", ".join(f"{found.pid} ({found.command[:40].strip()})" for found in left)
            raise StackFailed(f"These processes do not end, even when killed: {pids}. They may be another user's.")
        return stragglers

    def is_running(self) -> bool:
        """Whether a supervisor answers."""
        return self.supervisor.is_running()

    def _migrate(self, variables: dict[str, str]) -> None:
        command = [sys.executable, str(ROOT / "manage.py"), "freehold_migrate", "--verbosity", "0"]
        done = subprocess.run(command, env=variables, check=False, capture_output=True, text=True)
        if done.returncode:
            log = self.layout.logs / "migrate.log"
            log.write_text(done.stdout + done.stderr)
            raise StackFailed(f"The database could not be migrated. {log} ends with:\n{tail(log)}")

    def _wait_for_doors(self, supervisor: Supervisor) -> None:
        """Until web and gateway answer and no process is in trouble."""
        doors = {
            "web": f"http://{ports.ADDRESS}:{ports.WEB}/healthz",
            "gateway": f"http://{ports.ADDRESS}:{ports.GATEWAY}/v1/models",
        }
        deadline = time.monotonic() + _READY_SECONDS
        with httpx.Client(timeout=2, trust_env=False) as client:
            while True:
                shut = [name for name, url in doors.items() if not _answers(client, url)]
                states = {status.name: status.state for status in supervisor.status()}
                fatal = [name for name in PLATFORM if states[name] in {"FATAL", "EXITED", "UNKNOWN"}]
                slow = [name for name in PLATFORM if states[name] != "RUNNING"] or shut
                if fatal or (slow and time.monotonic() > deadline):
                    name = (fatal or slow)[0]
                    log = self.layout.logs / f"{name}.log"
                    raise StackFailed(f"{name} does not come up. {log} ends with:\n{tail(log, 25)}")
                if not slow:
                    return
                time.sleep(0.1)


def _answers(client: httpx.Client, url: str) -> bool:
    """Any answer below 500 counts: the gateway wants a key."""
    try:
        return client.get(url).status_code < 500
    except httpx.HTTPError:
        return False
