"""Starts vLLM on one model folder after another and lets its start-up log through. Run by benchmarks/sizing.py.

It runs under the engine's Python, which has neither Freehold nor its dependencies: arguments are a JSON list of
`[name, folder, arguments of vllm.LLM]`. A line `== name` goes before each model's log, `-- name started` after it, and
`!! name: why` where it did not start.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
from typing import Any


def main(cases: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Starts and stops an engine for each; weights are random and made in memory."""
    vllm = importlib.import_module("vllm")
    parallel_state = importlib.import_module("vllm.distributed.parallel_state")
    logger = importlib.import_module("vllm.logger")
    for name, folder, arguments in cases:
        print(f"== {name}", flush=True)
        logger._print_info_once.cache_clear()  # "once" is once a process, and here are many engines
        try:
            engine = vllm.LLM(
                folder,
                load_format="dummy",
                enforce_eager=True,
                distributed_executor_backend="uni",
                mamba_ssm_cache_dtype="float32",
                **arguments,
            )
            engine.llm_engine.engine_core.shutdown()
            del engine
            print(f"-- {name} started", flush=True)
        except Exception as problem:  # noqa: BLE001 - whatever it is, the other models are still measured
            print(f"!! {name}: {type(problem).__name__}: {problem}".splitlines()[0], flush=True)
        parallel_state.cleanup_dist_env_and_memory()
        gc.collect()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
