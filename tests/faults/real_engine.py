"""vLLM itself on the CPU, with the model that is made on the spot and its engine core in a process of its own (as on a
GPU), so that server and core can be stopped and killed one without the other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from freehold.onebox.tiny_chat import MAX_LENGTH, write_tiny_chat
from tests.factories.ports import free_port
from tests.faults.cell import until

if TYPE_CHECKING:
    from collections.abc import Mapping

_START_SECONDS = 240.0
_RUNNING = ("vllm:num_requests_running", "vllm:num_requests_waiting")


class RealEngine:
    """One vLLM.

    Args:
        folder: for the model, caches and the log.
        variables: FREEHOLD_ENGINE_*, as the local runtime gets them.

    Attributes:
        name: served_model_name.
        port: where it listens, the same after a restart.
    """

    name = "tiny"

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._folder = folder
        self._variables = variables
        self._model = write_tiny_chat(folder / "model")
        self._process: subprocess.Popen[bytes] | None = None
        self._client = httpx.Client(timeout=10)
        self.port = free_port()

    @property
    def _address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ensure(self) -> None:
        """Runs and answers; started where it does not run."""
        if self._process is None or self._process.poll() is not None:
            self.end()
            self._spawn()
        await until(self._answers, "vLLM's start", _START_SECONDS)

    def _spawn(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "FREEHOLD_INSTANCE": os.environ["FREEHOLD_INSTANCE"],  # by which the session ends it whatever happens
            "SPT_NOENV": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CACHE_ROOT": str(self._folder / "cache"),
            "LD_LIBRARY_PATH": self._variables.get("FREEHOLD_ENGINE_LD_LIBRARY_PATH", ""),
        }
        command = [
            self._variables["FREEHOLD_ENGINE_PYTHON"], "-m", "vllm.entrypoints.openai.api_server",
            "--host", "127.0.0.1", "--port", str(self.port), "--model", str(self._model),
            "--served-model-name", self.name, "--enforce-eager",
            "--max-model-len", str(MAX_LENGTH), "--enable-prompt-tokens-details",
        ]  # fmt: skip
        with (self._folder / "vllm.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "vllm.log").read_text()[-4000:]
        try:
            return self._client.get(f"{self._address}/health").status_code == 200
        except httpx.TransportError:
            return False

    def requests(self) -> int:
        """Requests that it runs or keeps waiting, by its own metrics."""
        text = self._client.get(f"{self._address}/metrics").text
        return sum(int(float(line.rsplit(" ", 1)[1])) for line in text.splitlines() if line.startswith(_RUNNING))

    async def idle_since(self, moment: float) -> float:
        """Seconds from a moment of time.monotonic() until it runs nothing."""
        await until(lambda: self.requests() == 0, "an idle engine")
        return time.monotonic() - moment

    # Faults

    @property
    def _server(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def _core(self) -> int:
        children = Path(f"/proc/{self._server}/task/{self._server}/children").read_text().split()
        return next(int(pid) for pid in children if "EngineCore" in Path(f"/proc/{pid}/cmdline").read_text())

    def terminate(self) -> None:
        """SIGTERM, as the kubelet sends it."""
        os.kill(self._server, signal.SIGTERM)

    def kill_core(self) -> None:
        """SIGKILL for the engine core, as the kernel does when memory runs out."""
        os.kill(self._core, signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP for all of it."""
        os.killpg(self._server, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.killpg(self._server, signal.SIGCONT)

    async def gone(self) -> None:
        """Waits until the server has ended."""
        await until(lambda: self._process is not None and self._process.poll() is not None, "the end of vLLM")

    def end(self) -> None:
        """Leaves nothing behind."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """At the end of the tests."""
        self.end()
        self._client.close()
