"""The fetcher's token file, its last words and its manners in a pod, against a small hub over HTTP."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from workers.runtimes import fetcher
from workers.runtimes.fetcher import MANIFEST, Exit

CONTENT = {"config.json": b"{}", "model.safetensors": b"weights" * 1000}
PROGRAM = Path(fetcher.__file__)


class Hub(ThreadingHTTPServer):
    """Serves CONTENT to those who have the token; `on_refusal` runs before each 401, `on_answer` before each 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.accepted = "good"
        self.seen: list[str] = []
        self.on_refusal: Callable[[], object] = lambda: None
        self.on_answer: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        """Its origin."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Exchange(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        token = self.headers["Authorization"].removeprefix("Bearer ")
        self.server.seen.append(token)
        if token != self.server.accepted:
            self.server.on_refusal()
            self._answer(401, json.dumps({"error": "This fetch token has expired."}).encode())
            return
        self.server.on_answer()
        if "/tree/" in self.path:
            files = [
                {"type": "file", "path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for path, content in CONTENT.items()
            ]
            self._answer(200, json.dumps(files).encode())
        else:
            self._answer(200, CONTENT[self.path.rpartition("/")[2]])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nothing."""

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret" / "token"
    file.parent.mkdir()
    file.write_text("good\n")
    return file


def _fetch(url: str, target: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    values = {
        "FREEHOLD_FETCH_URL": url,
        "FREEHOLD_FETCH_REPO": "acme/chat",
        "FREEHOLD_FETCH_REVISION": "c" * 40,
        "FREEHOLD_FETCH_TARGET": str(target),
    }
    return subprocess.run(
        [sys.executable, "-I", str(PROGRAM)],
        env=values | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_token_may_be_in_a_file(hub: Hub, token_file: Path, tmp_path: Path) -> None:
    done = _fetch(hub.url, tmp_path / "w" / "d", FREEHOLD_FETCH_TOKEN_FILE=str(token_file))
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert (tmp_path / "w" / "d" / "model.safetensors").read_bytes() == CONTENT["model.safetensors"]


def test_an_expired_token_is_waited_out(hub: Hub, token_file: Path, tmp_path: Path) -> None:
    token_file.write_text("expired")
    hub.on_refusal = lambda: token_file.write_text("good")
    done = _fetch(hub.url, tmp_path / "w" / "d", FREEHOLD_FETCH_TOKEN_FILE=str(token_file))
    assert done.returncode == Exit.OK
    assert "Waiting for another token" in done.stderr
    assert hub.seen == ["expired", "good", "good", "good"]


def test_a_token_that_expires_in_the_middle_loses_nothing(hub: Hub, token_file: Path, tmp_path: Path) -> None:
    tokens = iter(["second", "third", "fourth"])

    def expire() -> None:
        hub.accepted = next(tokens)

    hub.on_answer = expire
    hub.on_refusal = lambda: token_file.write_text(hub.accepted)
    done = _fetch(hub.url, tmp_path / "w" / "d", FREEHOLD_FETCH_TOKEN_FILE=str(token_file))
    assert done.returncode == Exit.OK
    assert hub.seen == ["good", "good", "second", "second", "third"]


def test_a_token_that_is_not_renewed_in_time_ends_the_fetch(hub: Hub, token_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    done = _fetch(
        hub.url,
        tmp_path / "w" / "d",
        FREEHOLD_FETCH_TOKEN_FILE=str(token_file.with_name("absent")),
        FREEHOLD_FETCH_TOKEN_SECONDS="0",
        FREEHOLD_TERMINATION_LOG=str(log),
    )
    assert done.returncode == Exit.UNAUTHORIZED
    assert log.read_text() == done.stderr.splitlines()[-1]
    assert "There is no token in" in log.read_text()
    assert hub.seen == []


def test_a_token_from_the_environment_is_not_waited_for(hub: Hub, tmp_path: Path) -> None:
    done = _fetch(hub.url, tmp_path / "w" / "d", FREEHOLD_FETCH_TOKEN="expired")
    assert done.returncode == Exit.UNAUTHORIZED
    assert len(done.stderr.splitlines()) == 1
    assert hub.seen == ["expired"]


def test_three_refused_tokens_are_enough(hub: Hub, token_file: Path, tmp_path: Path) -> None:
    numbers = iter(range(10))
    hub.accepted = "none of them"
    hub.on_refusal = lambda: token_file.write_text(f"bad-{next(numbers)}")
    done = _fetch(hub.url, tmp_path / "w" / "d", FREEHOLD_FETCH_TOKEN_FILE=str(token_file))
    assert done.returncode == Exit.UNAUTHORIZED
    assert hub.seen == ["good", "bad-0", "bad-1"]


def test_a_warm_folder_needs_neither_token_nor_hub(hub: Hub, token_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "w" / "d"
    assert _fetch(hub.url, target, FREEHOLD_FETCH_TOKEN_FILE=str(token_file)).returncode == Exit.OK
    token_file.unlink()
    again = _fetch("http://127.0.0.1:1", target, FREEHOLD_FETCH_TOKEN_FILE=str(token_file))
    assert (again.returncode, "there already" in again.stdout) == (Exit.OK, True)


def test_a_folder_of_others_above_the_target_is_left_as_it_is(hub: Hub, token_file: Path, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o2770)  # as Kubernetes makes a volume for a group: not ours to change
    done = _fetch(hub.url, volume / "d", FREEHOLD_FETCH_TOKEN_FILE=str(token_file))
    assert done.returncode == Exit.OK
    assert volume.stat().st_mode & 0o7777 == 0o2770
    assert {path.name for path in volume.iterdir()} == {"d", "d.lock"}
    assert (volume / "d" / MANIFEST).exists()


def test_a_termination_log_that_cannot_be_written_hides_no_reason(hub: Hub, tmp_path: Path) -> None:
    done = _fetch(
        hub.url, tmp_path / "d", FREEHOLD_FETCH_TOKEN="bad", FREEHOLD_TERMINATION_LOG=str(tmp_path / "no" / "log")
    )
    assert (done.returncode, "refuses the token" in done.stderr) == (Exit.UNAUTHORIZED, True)


def test_what_is_missing_in_the_environment_is_named(tmp_path: Path) -> None:
    done = _fetch("http://127.0.0.1:1", tmp_path / "d")
    assert (done.returncode, "FREEHOLD_FETCH_TOKEN" in done.stderr) == (Exit.MISCONFIGURED, True)


def test_a_long_fetch_says_how_far_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "_PROGRESS_SECONDS", 0)
    progress = fetcher._Progress(total=200, done=50)
    progress.add(50)
    assert capsys.readouterr().err == "50 % 100 of 200 bytes\n"
