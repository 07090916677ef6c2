"""supervisord: its configuration, and its remote control over a Unix socket. Called by up.py and down.py.

One supervisor runs everything but the engines, which workers start. Programs are started by `up` in order; while it
stops, supervisord goes through the groups backwards: the control plane, the gateway (which finishes its streams), the
databases, and last the guard, which ends the engines.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
import xmlrpc.client
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from supervisor.xmlrpc import SupervisorTransport

from freehold.common import ports
from freehold.onebox.account import database_account
from freehold.onebox.layout import DATABASE_USER, ROOT, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

DATABASES = ("postgres", "redis")
PLATFORM = ("gateway", "web", "watcher", "worker", "transfers", "beat")
GUARD = "guard"
STOP_SECONDS = 90.0
_START_SECONDS = 15.0


class SupervisorFailed(Exception):
    """supervisord or one of its programs did not come up; the message says which and where its log is."""


@dataclass(frozen=True)
class Program:
    """A process that supervisord keeps alive.

    Attributes:
        group: programs of one group are stopped together.
        order: groups start in this order and stop in the opposite one.
        bare: gets no secrets in its environment, and runs as the databases' user.
    """

    name: str
    command: list[str]
    group: str
    order: int
    stop_signal: str = "TERM"
    stop_seconds: int = 15
    bare: bool = False


@dataclass(frozen=True)
class Status:
    """One program as supervisord sees it."""

    name: str
    state: str
    pid: int
    description: str


def programs(layout: Layout, *, postgres: list[str], redis: list[str]) -> list[Program]:
    """Everything that supervisord runs, given the databases' commands."""
    python = sys.executable
    celery = [python, "-m", "celery", "-A", "workers.app"]
    return [
        Program("postgres", postgres, "postgres", 10, stop_signal="INT", stop_seconds=30, bare=True),
        Program("redis", redis, "redis", 20, stop_seconds=20, bare=True),
        Program("gateway", [python, "-m", "freehold.gateway"], "gateway", 30, stop_seconds=45),
        Program(
            "web",
            [
                python, "-m", "granian", "--interface", "asginl", "--host", ports.HOST, "--port", str(ports.WEB),
                "--workers", "1", "--log-level", "warning", "freehold.config.asgi:application",
            ],
            "control", 40,
        ),
        Program("watcher", [python, "-m", "workers.watch"], "control", 40),
        Program(
            "worker",
            [
                *celery, "worker", "--concurrency", "2", "--queues", "default", "--without-gossip", "--without-mingle",
                "--loglevel", "INFO",
            ],
            "control", 40,
        ),
        # Hours of bytes must not hold up seconds of reconciling. Threads: they wait for network and disk, or hash.
        Program(
            "transfers",
            [
                *celery, "worker", "--pool", "threads", "--concurrency", "2", "--queues", "transfers",
                "--hostname", "transfers@%h", "--without-gossip", "--without-mingle", "--loglevel", "INFO",
            ],
            "control", 40,
        ),
        Program(
            "beat",
            [*celery, "beat", "--schedule", str(layout.data / "beat-schedule"), "--pidfile=", "--loglevel", "INFO"],
            "control", 40,
        ),
    ]  # fmt: skip


def configuration(layout: Layout, wanted: list[Program]) -> str:
    """supervisord.conf. It holds no secret: those are inherited from supervisord's own environment."""
    as_root = database_account().user is not None
    sections = [
        f"[unix_http_server]\nfile={_escaped(str(layout.socket))}\nchmod=0700",
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        "\n".join(
            [
                "[supervisord]",
                "nodaemon=true",
                "silent=true",
                f"pidfile={_escaped(str(layout.run / 'supervisord.pid'))}",
                f"logfile={_escaped(str(layout.logs / 'supervisord.log'))}",
                "logfile_maxbytes=10MB",
                "logfile_backups=3",
                f"directory={_escaped(str(ROOT))}",
                *(["user=root"] if as_root else []),
            ]
        ),
    ]
    groups: dict[str, list[Program]] = {}
    for program in wanted:
        groups.setdefault(program.group, []).append(program)
        sections.append(_program(layout, program, as_root=as_root))
    for group, members in groups.items():
        names = ",".join(program.name for program in members)
        sections.append(f"[group:{group}-group]\nprograms={names}\npriority={members[0].order}")
    sections.append(
        "\n".join(
            [
                f"[eventlistener:{GUARD}]",
                f"command={_escaped(shlex.join([sys.executable, '-m', 'freehold.onebox.guard']))}",
                "events=SUPERVISOR_STATE_CHANGE",
                "priority=-1",
                "autostart=true",
                "autorestart=true",
                "stopwaitsecs=40",
                f"stderr_logfile={_escaped(str(layout.logs / 'guard.log'))}",
                "stdout_logfile=NONE",
            ]
        )
    )
    return "\n\n".join(sections) + "\n"


def _program(layout: Layout, program: Program, *, as_root: bool) -> str:
    command = program.command
    if program.bare:
        bare = ["PATH=/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/", f"FREEHOLD_INSTANCE={layout.instance}"]
        command = ["/usr/bin/env", "-i", *bare, *command]
    lines = [
        f"[program:{program.name}]",
        f"command={_escaped(shlex.join(command))}",
        "autostart=false",
        "autorestart=true",
        "startsecs=1",
        "startretries=5",
        f"stopsignal={program.stop_signal}",
        f"stopwaitsecs={program.stop_seconds}",
        "redirect_stderr=true",
        f"stdout_logfile={_escaped(str(layout.logs / (program.name + '.log')))}",
        "stdout_logfile_maxbytes=10MB",
        "stdout_logfile_backups=3",
    ]
    if program.bare:
        lines.append("directory=/")
        if as_root:
            lines.append(f"user={DATABASE_USER}")
    else:
        # A worker's pool or granian's child must not outlive it; engines have sessions of their own and do.
        lines.append("killasgroup=true")
    return "\n".join(lines)


def _escaped(value: str) -> str:
    return value.replace("%", "%%")  # supervisord expands %(…)s


class Supervisor:
    """Remote control of the supervisor of one installation."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._groups = {program: f"{program}-group" for program in (*DATABASES, "gateway")}

    def launch(self, wanted: list[Program], environment: Mapping[str, str]) -> None:
        """Starts supervisord in a session of its own: it outlives the terminal. Raises SupervisorFailed."""
        file = self.layout.run / "supervisord.conf"
        file.touch(mode=0o600)
        file.write_text(configuration(self.layout, wanted))
        self.layout.socket.unlink(missing_ok=True)
        log = self.layout.logs / "supervisord.log"
        with log.open("ab") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "supervisor.supervisord", "-c", str(file)],
                env=dict(environment), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while not self.is_running():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SupervisorFailed(f"The supervisor did not come up. {log} says why:\n{tail(log)}")
            time.sleep(0.05)

    def is_running(self) -> bool:
        """Whether a supervisor answers on this installation's socket."""
        try:
            return cast("dict[str, object]", self._call("getState"))["statename"] == "RUNNING"
        except SupervisorFailed:
            return False

    def pid(self) -> int:
        """supervisord's process id. Raises SupervisorFailed."""
        return int(str(self._call("getPID")))

    def start(self, name: str) -> None:
        """Starts a program, waits until it has lived for a second. Raises SupervisorFailed with the end of its log."""
        try:
            self._call("startProcess", f"{self._group(name)}:{name}", True)
        except SupervisorFailed as problem:
            if "ALREADY_STARTED" in str(problem):
                return
            log = self.layout.logs / f"{name}.log"
            raise SupervisorFailed(f"{name} does not stay up. {log} ends with:\n{tail(log)}") from None

    def begin(self, name: str) -> None:
        """Starts a program without waiting."""
        try:
            self._call("startProcess", f"{self._group(name)}:{name}", False)
        except SupervisorFailed as problem:
            if "ALREADY_STARTED" not in str(problem):
                raise

    def status(self) -> list[Status]:
        """All programs, in the order in which they start."""
        found = {
            str(info["name"]): Status(
                str(info["name"]), str(info["statename"]), int(info["pid"]), str(info["description"])
            )
            for info in cast("list[dict[str, Any]]", self._call("getAllProcessInfo"))
        }
        return [found[name] for name in (*DATABASES, *PLATFORM, GUARD) if name in found]

    def stop(self) -> None:
        """Ends supervisord and all of its programs, and waits for that; kills it when it takes too long."""
        try:
            pid = self.pid()
            self._call("shutdown")
        except SupervisorFailed:
            return
        deadline = time.monotonic() + STOP_SECONDS
        while Path(f"/proc/{pid}").exists() and _state(pid) != "Z":
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.05)

    def _group(self, name: str) -> str:
        return self._groups.get(name, GUARD if name == GUARD else "control-group")

    def _call(self, method: str, *arguments: str | bool) -> object:
        transport = SupervisorTransport(None, None, f"unix://{self.layout.socket}")
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except (xmlrpc.client.Error, HTTPException, OSError) as problem:
            raise SupervisorFailed(f"supervisord: {problem}") from None
        finally:
            transport.close()


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, indented."""
    if not log.exists():
        return "  (no log)"
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 8192))
        text = stream.read().decode(errors="replace")
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "Z"
