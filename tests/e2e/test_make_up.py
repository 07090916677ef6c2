"""`make up`, from nothing to a bill, twice; and that nothing is left of it."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from freehold.onebox.layout import ROOT
from freehold.onebox.reap import find

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Onebox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def _usage(onebox: Onebox) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {onebox.facts['api_key']}"}
    answer = httpx.get(f"{onebox.facts['api_url']}/usage", headers=headers, timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_demo_json_holds_exactly_what_scripts_need_and_is_private(onebox: Onebox) -> None:
    assert set(onebox.facts) == {
        "console_url", "api_url", "gateway_url", "hub_url", "api_key", "tenant", "logins", "models",
    }  # fmt: skip
    assert onebox.facts["models"] == {"chat": "demo/chat", "embedding": "demo/embeddings"}
    for name in ("demo.json", "secrets.json"):
        assert stat.S_IMODE((onebox.home / name).stat().st_mode) == 0o600


def test_the_output_shows_the_key_once_the_result_and_the_price(onebox: Onebox) -> None:
    assert onebox.output.count(onebox.facts["api_key"]) == 1
    assert "similar" in onebox.output
    assert "random" in onebox.output
    assert "metered" in onebox.output


def test_the_printed_snippets_work_when_pasted(onebox: Onebox) -> None:
    pasted = onebox.output[onebox.output.index("export FREEHOLD_KEY") :]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FREEHOLD_")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", pasted],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert '"embedding"' in done.stdout


def test_everything_listens_on_loopback_only(onebox: Onebox) -> None:
    ours = {found.pid for found in find(str(onebox.home))}
    inodes = {link for pid in ours for link in _sockets(pid)}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as lines:  # noqa: PTH123 - a file of the kernel's
            for line in list(lines)[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                    assert fields[1].startswith(("0100007F:", "00000000000000000000000001000000:")), line


def test_a_second_make_up_while_it_runs_says_so_and_changes_nothing(onebox: Onebox) -> None:
    done = onebox.command("up", seconds=30)
    assert done.returncode == 0
    assert "already running" in done.stdout
    assert onebox.facts["api_key"] not in done.stdout


def test_a_taken_port_is_named_with_its_remedy(onebox: Onebox, tmp_path: Path) -> None:
    other = {**onebox.environment, "FREEHOLD_HOME": str(tmp_path / "other"), "FREEHOLD_DATA": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-m", "freehold.onebox", "up", "--detach"],
        env=other, cwd=ROOT, check=False, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    assert "is taken" in done.stdout
    assert "FREEHOLD_PORT_OFFSET" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_killed_supervisor_takes_everything_with_it_and_the_next_up_has_its_data(onebox: Onebox) -> None:
    before, key = _usage(onebox), onebox.facts["api_key"]
    supervisor = int((onebox.home / "run" / "supervisord.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    _until(lambda: not find(str(onebox.home)), seconds=40)
    onebox.up()
    assert onebox.facts["api_key"] == key
    assert key not in onebox.output
    after = _usage(onebox)
    tokens = {line["model"]: line["prompt_tokens"] for line in after["data"]}
    for line in before["data"]:
        assert tokens[line["model"]] >= line["prompt_tokens"]


def test_down_leaves_no_process_and_frees_the_ports(onebox: Onebox) -> None:
    onebox.down()
    port = httpx.URL(onebox.facts["gateway_url"]).port
    assert port is not None
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    onebox.up()  # for whoever comes next


def _sockets(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    found = []
    for name in os.listdir(folder):  # noqa: PTH208 - a folder of the kernel's, gone while we look
        try:
            found.append(os.readlink(f"{folder}/{name}"))  # noqa: PTH115
        except OSError:
            continue
    return found


def _until(condition: Any, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
