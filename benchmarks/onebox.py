"""The one-machine installation: how fast it comes up, how fast an endpoint's engine starts, how much memory it takes.

Figures to reach: a later `make up` ≤ 90 s; from POST /api/v1/endpoints to the vLLM process started, p95 ≤ 1 s; all
six processes of the platform together ≤ 650 MB PSS. Uses the installation in .freehold; brings it up where it is down.
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
import psutil

from freehold.onebox.layout import ROOT, Layout

ROUNDS = 20
PLATFORM = {
    "web": "granian",
    "gateway": "freehold.gateway",
    "watcher": "workers.watch",
    "worker": "workers.app worker --concurrency",
    "transfers": "workers.app worker --pool",
    "beat": "workers.app beat",
}


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    value: str
    goal: str


def main() -> None:
    """Prints the table."""
    layout = Layout.of()
    running = layout.demo.exists() and _answers(json.loads(layout.demo.read_text())["console_url"])
    if not running:
        _make("up", "DETACH=1")
    figures = [*_deploy(layout), *_memory(layout)]
    _make("down")
    started = time.monotonic()
    _make("up", "DETACH=1")
    figures.append(
        Figure("make up, second run, to both endpoints answering", f"{time.monotonic() - started:.0f} s", "≤ 90 s")
    )
    if not running:
        _make("down")
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        print(f"{figure.name:<{width}}  {figure.value:>10}  {figure.goal}")


def _make(*arguments: str) -> None:
    subprocess.run(["make", "--no-print-directory", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2).is_success
    except httpx.TransportError:
        return False


def _deploy(layout: Layout) -> list[Figure]:
    """Creates an endpoint, waits for its engine's process, deletes it; one at a time."""
    demo = json.loads(layout.demo.read_text())
    headers = {"Authorization": f"Bearer {demo['api_key']}"}
    with httpx.Client(base_url=demo["api_url"], headers=headers, timeout=30) as api:
        chat = next(e for e in api.get("/endpoints").json()["data"] if e["model_name"] == demo["models"]["chat"])
        seconds = sorted(_round(api, layout, chat["model"], number) for number in range(ROUNDS))
    return [
        Figure("POST endpoint → vLLM process started, p50", f"{median(seconds):.2f} s", ""),
        Figure("POST endpoint → vLLM process started, p95", f"{seconds[int(ROUNDS * 0.95) - 1]:.2f} s", "≤ 1 s"),
    ]


def _round(api: httpx.Client, layout: Layout, model: str, number: int) -> float:
    body = {"name": f"bench-{number}", "model": model, "billing_mode": "tokens", "replicas": 1}
    started = time.time()
    answer = api.post("/endpoints", json=body).raise_for_status().json()
    folder = layout.data / "replicas" / answer["id"]
    took = _until_engine(folder) - started
    api.delete(f"/endpoints/{answer['id']}").raise_for_status()
    deadline = time.monotonic() + 90
    while folder.exists() and any(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return took


def _until_engine(folder: Path) -> float:
    """Unix seconds at which the replica's engine process was there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in folder.glob("*/state.json"):
            state = json.loads(path.read_text())
            if state["engine_pid"]:
                return float(state["since"])
        time.sleep(0.005)
    raise SystemExit(f"No engine was started within a minute: {folder}")


def _memory(layout: Layout) -> list[Figure]:
    total = 0
    lines = []
    for name, mark in PLATFORM.items():
        size = sum(_pss(process) for process in psutil.process_iter() if _is(process, layout, mark))
        total += size
        lines.append(Figure(f"  {name}", f"{size / 1e6:.0f} MB", ""))
    return [
        Figure("PSS of web + gateway + watcher + worker + transfers + beat", f"{total / 1e6:.0f} MB", "≤ 650 MB"),
        *lines,
    ]


def _is(process: psutil.Process, layout: Layout, mark: str) -> bool:
    try:
        return mark in " ".join(process.cmdline()) and process.environ().get("FREEHOLD_INSTANCE") == layout.instance
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0
