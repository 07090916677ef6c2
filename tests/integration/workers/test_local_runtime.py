"""The local runtime with real processes; only the engine is a stand-in, so that each way to end can be played."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.factories.workloads import workload
from workers.manifests.spec import WeightsRef, WorkloadSpec
from workers.runtimes.base import Action, FetchToken, ObservedReplica, ReplicaState, StepRefused, Verb
from workers.runtimes.fetcher import MANIFEST, File, digest_of
from workers.runtimes.local import process, state
from workers.runtimes.local.observation import terminate
from workers.runtimes.local.runtime import TENANT_UIDS, LocalRuntime, LocalSettings

ENGINE = Path(__file__).resolve().parents[2] / "fakes" / "engine_package"
FIRST_PORT = 18500
ENDPOINT = "ep_1"
COMMIT = "c" * 40
TOKEN = FetchToken(secret="token", expires_at=datetime(2100, 1, 1, tzinfo=UTC))


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    return LocalSettings(
        root=tmp_path / "replicas",
        weights=tmp_path / "weights",
        engine_python=Path(sys.executable),
        hub_url="http://127.0.0.1:1",
        instance=str(tmp_path),
        first_port=FIRST_PORT,
        port_count=4,
        engine_environment={"PYTHONPATH": str(ENGINE)},
    )


@pytest.fixture
def runtime(settings: LocalSettings) -> Iterator[LocalRuntime]:
    yield LocalRuntime(settings)
    for folder in settings.root.glob("*/*"):
        content = state.read(folder, state.STATE)
        if content is not None:
            kill_session(int(content["shim_pid"]))


def kill_session(shim: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(shim, signal.SIGKILL)


def warm(settings: LocalSettings, **play: Any) -> WorkloadSpec:
    """A workload whose weights are in the cache already, as the fetcher leaves them."""
    content = json.dumps(play).encode()
    file = File("play.json", len(content), "0" * 64)
    digest = digest_of([file])
    folder = settings.weights / "tnt_1" / digest
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "play.json").write_bytes(content)
    manifest = {"repo": "acme/tiny", "revision": COMMIT, "digest": digest, "files": [vars(file)]}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return workload(weights=WeightsRef(tenant="tnt_1", repo="acme/tiny", commit_id=COMMIT, digest=digest))


def create(runtime: LocalRuntime, spec: WorkloadSpec) -> None:
    runtime.apply(Action(verb=Verb.CREATE, reason="test", spec=spec), endpoint=ENDPOINT, fetch_token=TOKEN)


def delete(runtime: LocalRuntime, replica: ObservedReplica, cause: str = "ScaledDown") -> None:
    action = Action(verb=Verb.DELETE, reason="test", replica=replica.id, cause=cause)
    runtime.apply(action, endpoint=ENDPOINT, fetch_token=None)


def until(runtime: LocalRuntime, accept: Callable[[ObservedReplica], bool], *, seconds: float = 20) -> ObservedReplica:
    deadline = time.monotonic() + seconds
    found: tuple[ObservedReplica, ...] = ()
    while time.monotonic() < deadline:
        found = runtime.observe().of(ENDPOINT)
        for replica in found:
            if accept(replica):
                return replica
        time.sleep(0.02)
    raise AssertionError(f"never came about; last seen: {found}")


def in_state(wanted: ReplicaState) -> Callable[[ObservedReplica], bool]:
    return lambda replica: replica.state is wanted


def folder_of(settings: LocalSettings, replica: ObservedReplica) -> Path:
    return settings.root / ENDPOINT / replica.id


def engine_pid(settings: LocalSettings, replica: ObservedReplica) -> int:
    content = state.read(folder_of(settings, replica), state.STATE)
    assert content is not None
    return int(content["engine_pid"])


def log_of(settings: LocalSettings, replica: ObservedReplica) -> list[str]:
    return state.tail(folder_of(settings, replica) / state.LOG, 1000)


def test_a_replica_starts_becomes_ready_and_ends_gracefully(runtime: LocalRuntime, settings: LocalSettings) -> None:
    create(runtime, warm(settings, ready_after=0.3))
    ready = until(runtime, in_state(ReplicaState.READY))
    assert ready.port == FIRST_PORT
    assert ready.ready_at is not None
    pid = engine_pid(settings, ready)
    assert os.getsid(pid) == os.getpgid(pid) != os.getsid(0), "in a session of its own"
    delete(runtime, ready)
    delete(runtime, ready)
    exited = until(runtime, in_state(ReplicaState.EXITED))
    assert exited.exit is not None
    assert exited.exit.wanted
    assert process.started(pid) == 0
    runtime.apply(Action(verb=Verb.FORGET, reason="test", replica=ready.id), endpoint=ENDPOINT, fetch_token=None)
    assert runtime.observe().of(ENDPOINT) == ()


def test_another_worker_adopts_what_runs(runtime: LocalRuntime, settings: LocalSettings) -> None:
    spec = warm(settings)
    create(runtime, spec)
    ready = until(runtime, in_state(ReplicaState.READY))
    (adopted,) = LocalRuntime(settings).observe().of(ENDPOINT)
    assert (adopted.id, adopted.state, adopted.template_hash) == (ready.id, ReplicaState.READY, spec.template_hash)


def test_the_engine_gets_an_allowlisted_environment(
    runtime: LocalRuntime, settings: LocalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "of the platform")
    create(runtime, warm(settings))
    ready = until(runtime, in_state(ReplicaState.READY))
    line = next(line for line in log_of(settings, ready) if line.startswith("environment:"))
    environment = json.loads(line.removeprefix("environment:"))
    assert not {"SECRET_KEY", "DATABASE_URL", "REDIS_URL", "FREEHOLD_FETCH_TOKEN"} & environment.keys()
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["HOME"].startswith(str(folder_of(settings, ready)))
    for name in ("shim", "engine"):
        pid = json.loads((folder_of(settings, ready) / state.STATE).read_text())[f"{name}_pid"]
        assert b"of the platform" not in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run engines as another user")
def test_as_root_the_engine_runs_as_another_user_who_cannot_write_its_weights(tmp_path: Path) -> None:
    # An interpreter that the other user can run: the machine's own, where there is one.
    python = next((path for path in map(Path, ("/usr/bin/python3", "/usr/local/bin/python3")) if path.exists()), None)
    if python is None:
        pytest.skip("no interpreter that another user may run")
    shared = Path("/var/tmp") / f"freehold-shim-{os.getpid()}"
    shared.mkdir(mode=0o755)
    shutil.copytree(ENGINE, shared / "engine")
    settings = LocalSettings(
        root=shared / "replicas",
        weights=shared / "weights",
        engine_python=python,
        hub_url="http://127.0.0.1:1",
        engine_uid=61234,
        first_port=FIRST_PORT + 50,
        port_count=4,
        engine_environment={"PYTHONPATH": str(shared / "engine")},
    )
    runtime = LocalRuntime(settings)
    try:
        create(runtime, warm(settings))
        ready = until(runtime, in_state(ReplicaState.READY))
        identity = next(line for line in log_of(settings, ready) if line.startswith("identity:"))
        uid = int(identity.split()[1])
        assert 61234 <= uid < 61234 + TENANT_UIDS
        assert identity.split()[2] == str(uid), "user and group are the tenant's"
        weights = settings.weights / "tnt_1"
        found = weights.stat()
        assert (found.st_gid, found.st_mode & 0o777) == (uid, 0o750), "closed to other tenants' engines"
        request = folder_of(settings, ready) / state.REQUEST
        assert request.stat().st_mode & 0o077 == 0, "who runs the engine cannot read what was asked"
        delete(runtime, ready)
        until(runtime, in_state(ReplicaState.EXITED))
    finally:
        for folder in settings.root.glob("*/*"):
            content = state.read(folder, state.STATE)
            if content is not None:
                kill_session(int(content["shim_pid"]))
        shutil.rmtree(shared)


def test_a_crash_is_told_in_the_engines_own_words(runtime: LocalRuntime, settings: LocalSettings) -> None:
    create(runtime, warm(settings, crash="ValueError: To serve at least one request, 5 GiB KV cache is needed"))
    exited = until(runtime, in_state(ReplicaState.EXITED))
    assert exited.exit is not None
    assert (exited.exit.reason, exited.exit.code, exited.exit.wanted) == ("EngineExited", 1, False)
    assert exited.exit.message == "ValueError: To serve at least one request, 5 GiB KV cache is needed"
    assert exited.exit.log_tail


def test_an_engine_that_is_killed_takes_its_children_along(runtime: LocalRuntime, settings: LocalSettings) -> None:
    create(runtime, warm(settings, child=True))
    ready = until(runtime, in_state(ReplicaState.READY))
    child = int(next(line for line in log_of(settings, ready) if line.startswith("child:")).split()[1])
    os.kill(engine_pid(settings, ready), signal.SIGKILL)
    exited = until(runtime, in_state(ReplicaState.EXITED))
    assert exited.exit is not None
    assert exited.exit.reason == "Killed"
    assert "SIGKILL" in exited.exit.message
    assert process.started(child) == 0


def test_an_engine_dies_with_its_shim(runtime: LocalRuntime, settings: LocalSettings) -> None:
    create(runtime, warm(settings, child=True))
    ready = until(runtime, in_state(ReplicaState.READY))
    content = state.read(folder_of(settings, ready), state.STATE)
    assert content is not None
    os.kill(content["shim_pid"], signal.SIGKILL)
    exited = until(runtime, in_state(ReplicaState.EXITED))
    assert exited.exit is not None
    assert exited.exit.reason == "Lost"
    assert process.group_members(content["shim_pid"]) == []


def test_an_engine_that_was_shut_down_with_the_machine_is_no_failure(
    runtime: LocalRuntime, settings: LocalSettings
) -> None:
    create(runtime, warm(settings))
    ready = until(runtime, in_state(ReplicaState.READY))
    content = state.read(folder_of(settings, ready), state.STATE)
    assert content is not None
    os.killpg(content["shim_pid"], signal.SIGTERM)
    exited = until(runtime, in_state(ReplicaState.EXITED))
    assert exited.exit is not None
    assert exited.exit.wanted


def test_a_replica_can_be_ended_while_it_is_starting(runtime: LocalRuntime, settings: LocalSettings) -> None:
    create(runtime, warm(settings, never=True))
    starting = until(runtime, in_state(ReplicaState.STARTING))
    delete(runtime, starting, cause="ReadinessDeadlineExceeded")
    exited = until(runtime, in_state(ReplicaState.EXITED))
    assert exited.exit is not None
    assert (exited.exit.reason, exited.exit.wanted) == ("ReadinessDeadlineExceeded", False)


def test_weights_that_cannot_be_fetched_are_a_failure_of_their_own(
    runtime: LocalRuntime, settings: LocalSettings
) -> None:
    create(runtime, workload())
    exited = until(runtime, in_state(ReplicaState.EXITED), seconds=60)
    assert exited.exit is not None
    assert exited.exit.reason == "HubUnreachable"
    assert "127.0.0.1:1" in exited.exit.message


def test_a_missing_engine_is_told_with_the_remedy(settings: LocalSettings, tmp_path: Path) -> None:
    missing = LocalSettings(**{**vars(settings), "engine_python": tmp_path / "nowhere" / "python"})
    runtime = LocalRuntime(missing)
    create(runtime, warm(missing))
    exited = until(runtime, in_state(ReplicaState.EXITED))
    assert exited.exit is not None
    assert exited.exit.reason == "EngineMissing"
    assert "make up" in exited.exit.message


def test_ports_of_others_are_left_alone_and_running_out_is_told(runtime: LocalRuntime, settings: LocalSettings) -> None:
    spec = warm(settings, never=True)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", FIRST_PORT))
        taken.listen()
        for _ in range(3):
            create(runtime, spec)
        used = sorted(replica.port for replica in runtime.observe().of(ENDPOINT))
        assert used == [FIRST_PORT + 1, FIRST_PORT + 2, FIRST_PORT + 3]
        with pytest.raises(StepRefused, match="ports"):
            create(runtime, spec)
        assert len(runtime.observe().of(ENDPOINT)) == 3


def test_a_pid_that_was_given_to_somebody_else_is_never_signalled(
    runtime: LocalRuntime, settings: LocalSettings
) -> None:
    """As after a reboot: the recorded numbers belong to strangers, here to a process group of ours."""
    create(runtime, warm(settings))
    ready = until(runtime, in_state(ReplicaState.READY))
    folder = folder_of(settings, ready)
    content = state.read(folder, state.STATE)
    assert content is not None
    kill_session(content["shim_pid"])
    stranger = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    try:
        numbers = {"shim_pid": stranger.pid, "shim_started": 1.0, "engine_pid": stranger.pid, "engine_started": 1.0}
        state.write(folder, state.STATE, content | numbers)
        terminate(folder)
        exited = until(runtime, in_state(ReplicaState.EXITED))
        assert exited.exit is not None
        assert exited.exit.reason == "Lost"
        state.write(folder, state.STOP, state.Stop(at=0, cause="ScaledDown", wanted=True))
        terminate(folder)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_an_endpoint_is_never_started_with_another_engine_than_it_pins(settings: LocalSettings) -> None:
    upgraded = LocalRuntime(LocalSettings(**{**vars(settings), "engine_digest": "sha256:newer"}))
    with pytest.raises(StepRefused, match="pins the engine sha256:e"):
        create(upgraded, warm(settings))
    assert upgraded.observe().of(ENDPOINT) == ()
