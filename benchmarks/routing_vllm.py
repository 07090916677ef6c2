"""Two real vLLMs on the CPU for benchmarks/routing.py, and what is said to them.

The model is the one made on the spot (freehold.onebox.tiny_chat), which computes a prompt in no time; so only hit rates
mean something here. Its caches are made small, so that it matters where a prompt goes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

from benchmarks.gateway_peers import cores, process
from benchmarks.routing_workloads import Conversation, Turn, Workload
from freehold.common.ports import LOOPBACK
from freehold.onebox.environment import engine_variables
from freehold.onebox.tiny_chat import MAX_LENGTH, write_tiny_chat
from tests.factories.ports import free_port

SERVED = "tiny"
_CACHE_BLOCKS = 500  # of 16 tokens, for each engine


@contextmanager
def engines(home: Path) -> Iterator[list[str]]:
    """URLs of both."""
    variables = engine_variables()
    model = write_tiny_chat(home / "model")
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CACHE_ROOT": str(home / "cache"),
        "LD_LIBRARY_PATH": variables.get("FREEHOLD_ENGINE_LD_LIBRARY_PATH", ""),
    }
    with ExitStack() as stack:
        found = []
        for number, core in enumerate(cores()):
            found.append(f"http://{LOOPBACK}:{(port := free_port())}")
            command = [
                variables["FREEHOLD_ENGINE_PYTHON"], "-m", "vllm.entrypoints.openai.api_server", "--host", LOOPBACK,
                "--port", str(port), "--model", str(model), "--served-model-name", SERVED, "--enforce-eager",
                "--max-model-len", str(MAX_LENGTH), "--num-gpu-blocks-override", str(_CACHE_BLOCKS),
            ]  # fmt: skip
            log = home / f"vllm-{number}.log"
            stack.enter_context(process(command, core=core, ready=f"{found[-1]}/health", log=log, environ=environ))
        yield found


def conversations(seconds: float) -> Workload:
    """Chats under one of 12 system prompts. A letter is about a token to this model, and it takes 2,048 of them."""
    random = Random(5)
    systems = [random.randbytes(250).hex() for _ in range(12)]
    found, now = [], 0.0
    while (now := now + random.expovariate(1.5)) < seconds:
        number = random.randrange(len(systems))
        turns = tuple(
            Turn(random.randbytes(random.randint(20, 80)).hex(), 16, random.expovariate(1.0))
            for _ in range(random.randint(2, 5))
        )
        found.append(Conversation(now, number % 10, systems[number], turns))
    return found
