"""The process that owns one replica. `python -I shim.py FOLDER`, started by the runtime; standard library only.

It leads a session of its own, so it outlives the worker that started it; the next worker finds it by its folder. It
fetches the weights, starts the engine (as another user where it can), waits, and writes down how it ended. SIGTERM
ends the engine gracefully; the engine never outlives the shim, nor the shim the engine.

It is to a replica what containerd-shim is to a container.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from workers.runtimes import engine_errors  # noqa: E402 - run by file and in isolation: see above
from workers.runtimes.local import process, state  # noqa: E402

FETCHER = HERE.parent / "fetcher.py"
# Routes are withdrawn when a replica is asked to end; gateways that have not heard yet get this long.
DRAIN_SECONDS = 1.0
TOLD_LINES = 40
SEARCHED_LINES = 400
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
IDLE_SECONDS = 5.0
WATCHED = {signal.SIGTERM, signal.SIGCHLD}
FETCH_REASONS = {
    3: "FetchUnauthorized",
    4: "WeightsNotFound",
    5: "WeightsCorrupt",
    6: "DiskFull",
    7: "HubUnreachable",
}


class Shim:
    """One replica from fetch to exit."""

    def __init__(self, folder: Path) -> None:
        content = state.read(folder, state.REQUEST)
        if content is None:
            raise SystemExit(f"{folder / state.REQUEST} is missing")
        self.folder = folder
        self.request = state.Request(**content)
        self.child: subprocess.Popen[bytes] | None = None
        self.asked_to_end = False

    def run(self) -> None:
        """Writes exit.json in every case but SIGKILL; then the runtime finds the folder without a process."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, _noticed)  # one that is ignored is not delivered to sigtimedwait either
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)  # taken by sigtimedwait, not by a handler
        self._record("fetching", detail="The weights are being fetched.")
        if self._fetch():
            self._serve()

    def _record(self, phase: str, *, engine: int = 0, detail: str = "") -> None:
        own = os.getpid()
        state.write(
            self.folder,
            state.STATE,
            state.State(
                phase=phase,
                since=time.time(),
                shim_pid=own,
                shim_started=process.started(own),
                engine_pid=engine,
                engine_started=process.started(engine) if engine else 0.0,
                detail=detail,
            ),
        )

    def _fetch(self) -> bool:
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "FREEHOLD_INSTANCE": os.environ.get("FREEHOLD_INSTANCE", ""),
            state.MARK: self.request.replica,
            "FREEHOLD_FETCH_TOKEN": os.environ.pop("FREEHOLD_FETCH_TOKEN", ""),
            **self.request.fetch,
        }
        with (self.folder / state.LOG).open("ab") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-I", str(FETCHER)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_in_child,  # noqa: PLW1509 - single-threaded here
            )
        code = self._wait(self.child, grace=5.0)
        if self.asked_to_end:
            self._end("Stopped", "It was stopped while its weights were being fetched.", code)
            return False
        if code:
            lines = [line for line in state.tail(self.folder / state.LOG, 3) if line.strip()]
            self._end(
                FETCH_REASONS.get(code, "FetchFailed"), lines[-1] if lines else f"The fetcher exited with {code}.", code
            )
            return False
        return True

    def _serve(self) -> None:
        request = self.request
        home, cache = self.folder / "home", self.folder.parent / state.CACHE
        identity: dict[str, object] = {}
        for folder in (home, cache):
            folder.mkdir(mode=0o700, exist_ok=True)
            if request.uid is not None:
                os.chown(folder, request.uid, request.uid, follow_symlinks=False)
        if request.uid is not None:
            identity = {"user": request.uid, "group": request.uid, "extra_groups": []}
        try:
            with (self.folder / state.LOG).open("ab") as log:
                self.child = subprocess.Popen(  # type: ignore[call-overload]
                    request.command,
                    env=request.environment,
                    cwd=home,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    umask=0o077,
                    preexec_fn=_in_child,  # noqa: PLW1509 - single-threaded here
                    **identity,
                )
        except OSError as error:
            self._end("EngineMissing", f"The engine cannot be started: {error}. `make up` installs it.", None)
            return
        self._record("running", engine=self.child.pid, detail="The engine is loading the model.")
        code = self._wait(self.child, grace=request.grace_seconds)
        self._end_group()
        lines = state.tail(self.folder / state.LOG, SEARCHED_LINES)
        if self.asked_to_end:
            self._end("Stopped", "It was asked to end.", code)
        else:
            message = engine_errors.error_line(lines) or _how(code)
            reason = "Killed" if code == -signal.SIGKILL else "EngineExited"
            self._end(reason, message, code, lines[-TOLD_LINES:])

    def _wait(self, child: subprocess.Popen[bytes], *, grace: float) -> int:
        """Waits for the child; once asked to end, passes that on after the drain and insists after `grace` seconds."""
        told_at = None
        asked_at = None
        while True:
            code = child.poll()
            if code is not None:
                self.asked_to_end |= signal.SIGTERM in signal.sigpending()  # both were told at once, and it was faster
                return code
            now = time.monotonic()
            if self.asked_to_end and asked_at is None:
                asked_at = now
            if asked_at is not None and told_at is None and now - asked_at >= DRAIN_SECONDS:
                child.terminate()
                told_at = now
            if told_at is not None and now - told_at > grace:
                self._end_group()
                child.kill()
            # Sleeps until something happens: a signal, or, once asked to end, a moment's passing.
            received = signal.sigtimedwait(WATCHED, IDLE_SECONDS if asked_at is None else 0.1)
            if received is not None and received.si_signo == signal.SIGTERM:
                self.asked_to_end = True

    def _end_group(self) -> None:
        """Ends whatever of our own process group the engine left behind (its worker processes)."""
        own = os.getpid()
        for pid in process.group_members(os.getpgrp()):
            if pid != own:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def _end(self, reason: str, message: str, code: int | None, log_tail: list[str] | None = None) -> None:
        state.write(
            self.folder,
            state.EXIT,
            state.Ended(at=time.time(), reason=reason, message=message, code=code, log_tail=log_tail or []),
        )


def _in_child() -> None:
    """In the child, after its user was set: SIGKILL when the shim is gone (prctl(2); survives exec), signals as
    usual."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)


def _noticed(_number: int, _frame: FrameType | None) -> None:
    """Never called: SIGCHLD is blocked."""


def _how(code: int) -> str:
    if code < 0:
        return f"The engine was killed by {signal.Signals(-code).name}."
    return f"The engine exited with code {code} and said no error."


def main() -> None:
    """Detaches twice over, so that no worker has to wait for us."""
    if os.fork():
        os._exit(0)
    os.setsid()
    Shim(Path(sys.argv[1])).run()


if __name__ == "__main__":
    main()
