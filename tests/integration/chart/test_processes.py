"""Every process starts with the command and the environment that the chart gives its pod, against real databases."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from freehold.common import ports
from tests.factories import charts
from tests.factories.charts import CHART, pick
from tests.factories.ports import free_port

ROOT = CHART.parents[1]
SECONDS = 40.0

pytestmark = pytest.mark.usefixtures("committed_db", "redis_client")


def container(kind: str, name: str) -> dict[str, Any]:
    (only,) = pick(charts.rendered("minimum"), kind, name)["spec"]["template"]["spec"]["containers"]
    return dict(only)


def environment(found: dict[str, Any], folder: Path, offset: int) -> dict[str, str]:
    """What the container finds; Secrets are the test's databases, and folders of the pod lie in `folder`."""
    # Where this checkout and its tests lie, and so not to be moved below.
    ours = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
        "DJANGO_SETTINGS_MODULE": "freehold.config.settings.production",  # the image's
        "FREEHOLD_STATIC_ROOT": os.environ["FREEHOLD_DATA"] + "/static",  # the image's
        "FREEHOLD_INSTANCE": os.environ["FREEHOLD_INSTANCE"],  # by which the tests find what they left behind
        "SPT_NOENV": "1",
        "FREEHOLD_PORT_OFFSET": str(offset),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "SECRET_KEY": "a-key-of-the-test-0123456789-abcdefghijklmnopqrstuvwxyz",
        "FREEHOLD_ENCRYPTION_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    }
    for name in ("DATABASE_URL", "REDIS_URL", "GATEWAY_NATIVE"):
        ours[name] = os.environ[name]
    values: dict[str, str] = {}
    for source in found["envFrom"]:
        values |= pick(charts.rendered("minimum"), "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in found["env"]:
        values |= {variable["name"]: variable["value"]} if "value" in variable else {}
    # Not for the world while tests run.
    values |= {"FREEHOLD_HOST": ports.LOOPBACK, "GATEWAY_PRIVATE_HOST": ports.LOOPBACK}
    values |= {"FREEHOLD_METRICS_HOST": ports.LOOPBACK}
    if "GATEWAY_STATE" in values:
        values["GATEWAY_STATE"] = str(folder / "gateway")
    return {name: value.replace("/tmp/", f"{folder}/") for name, value in values.items()} | ours


@contextmanager
def running(command: list[str], values: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process; SIGTERM must end it."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=values, cwd="/", stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def until(true: Any, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert process.poll() is None, (folder / "log").read_text()[-3000:]
        assert time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
        time.sleep(0.1)


def answers(port: int, path: str) -> bool:
    """Whether a probe of Kubernetes would be content: any status from 200 to 399, by the pod's address."""
    connection = http.client.HTTPConnection(ports.LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", path)
        return 200 <= connection.getresponse().status < 400
    except OSError:
        return False
    finally:
        connection.close()


def test_web_passes_its_probes(tmp_path: Path) -> None:
    found, port = container("Deployment", "freehold-web"), free_port()
    changed = {str(ports.WEB): str(port), charts.chart().values["listenAddress"]: ports.LOOPBACK}
    command = [changed.get(word, word) for word in found["command"]]
    with running(command, environment(found, tmp_path, 0), tmp_path) as process:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            until(lambda path=found[probe]["httpGet"]["path"]: answers(port, path), process, tmp_path)


def test_the_gateway_passes_its_liveness_probe_and_drains(tmp_path: Path) -> None:
    found, port = container("StatefulSet", "freehold-gateway"), free_port()
    values = environment(found, tmp_path, port - ports.GATEWAY_METRICS + ports.OFFSET)
    values |= {"GATEWAY_WITHDRAW_SECONDS": "0"}
    with running(found["command"], values, tmp_path) as process:
        until(lambda: answers(port, found["livenessProbe"]["httpGet"]["path"]), process, tmp_path)
        drain = found["lifecycle"]["preStop"]["exec"]["command"]
        done = subprocess.run(drain, env=values, capture_output=True, text=True, check=False, timeout=SECONDS, cwd="/")
        assert done.returncode == 0, done.stderr
        assert not answers(port, found["readinessProbe"]["httpGet"]["path"])


@pytest.mark.parametrize("name", ["worker-default", "worker-transfers", "beat", "watcher"])
def test_a_process_without_http_passes_its_probe(name: str, tmp_path: Path) -> None:
    found = container("Deployment", f"freehold-{name}")
    values = environment(found, tmp_path, free_port() - ports.CONTROL_METRICS + ports.OFFSET)
    command = [word.replace("/tmp/", f"{tmp_path}/") for word in found["command"]]
    alive = Path(values["FREEHOLD_LIVENESS_FILE"])

    def probed() -> bool:
        probe = found["livenessProbe"]["exec"]["command"]
        return subprocess.run(probe, env=values, capture_output=True, check=False, cwd="/").returncode == 0

    with running(command, values, tmp_path) as process:
        if name.startswith("worker"):
            # A worker touches it with its first task; here no beat sends any.
            until(lambda: "ready" in (tmp_path / "log").read_text(), process, tmp_path)
        else:
            until(lambda: alive.exists() and probed(), process, tmp_path)
