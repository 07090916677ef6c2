"""vLLM's command line and environment for a WorkloadSpec. Flags are vLLM's own (0.32), checked on a CPU."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from workers.manifests.spec import WorkloadSpec

GIB = 1024**3
SHUTDOWN_SECONDS = 30
SERVER = ("-m", "vllm.entrypoints.openai.api_server")
# What spans nodes is started through vLLM's command line: the server's own module ignores --headless.
GROUP_SERVER = ("-m", "vllm.entrypoints.cli.main", "serve")
RUNNERS = {"generate": "generate", "embed": "pooling"}


def arguments(
    spec: WorkloadSpec,
    *,
    model_path: str,
    host: str,
    port: int,
    shutdown_seconds: int = SHUTDOWN_SECONDS,
    extra: Sequence[str] = (),
) -> list[str]:
    """Arguments of SERVER, `extra` last, so that they win. GROUP_SERVER wants the model without `--model`.

    `shutdown_seconds` is what requests under way get after SIGTERM; whoever sends it must wait longer than that.
    """
    flags = [
        "--model", model_path,
        "--served-model-name", spec.served_model_name,
        "--host", host,
        "--port", str(port),
        "--runner", RUNNERS[spec.task],
        "--enable-prompt-tokens-details",
        "--shutdown-timeout", str(shutdown_seconds),
        "--no-enable-log-requests",
        "--disable-access-log-for-endpoints", "/health,/metrics",
    ]  # fmt: skip
    for name, value in sorted(spec.arguments.items()):
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            flags += [f"--{flag}", str(value)]
    return [*flags, *extra]


def parallel_arguments(*, tensor: int, pipeline: int) -> list[str]:
    """How a model is split: every layer over `tensor` accelerators of a node, the layers over `pipeline` nodes."""
    flags = ["--tensor-parallel-size", str(tensor)] if tensor > 1 else []
    return [*flags, "--pipeline-parallel-size", str(pipeline)] if pipeline > 1 else flags


def group_arguments(*, nodes: int, rank: str, leader: str, headless: bool) -> list[str]:
    """vLLM over several nodes without Ray: its multiprocessing executor, one process group over all nodes.

    `rank` and `leader` are the node's number (0 leads) and the leader's address, or what will be replaced by them. Only
    the leader answers HTTP; the others are headless.
    """
    flags = [
        "--distributed-executor-backend", "mp",
        "--nnodes", str(nodes),
        "--node-rank", rank,
        "--master-addr", leader,
    ]  # fmt: skip
    return [*flags, "--headless"] if headless else flags


def cpu_environment(spec: WorkloadSpec, *, threads: int | None = None) -> dict[str, str]:
    """What vLLM for CPUs needs in its environment; the KV cache is whole GiB. `threads`: half of this machine's.

    The model runs inside the engine core (with `--distributed-executor-backend uni`, which vLLM for CPUs takes only
    with VLLM_ENABLE_V1_MULTIPROCESSING=0) instead of in a worker process of its own: a third less time to start and
    half a GB less memory. Then vLLM does not bind OpenMP's threads, so their number is set here.
    """
    return {
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, math.ceil(spec.flavor.kv_cache_bytes / GIB))),
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": str(threads or max(1, (os.cpu_count() or 1) // 2)),
    }


def offline_environment() -> dict[str, str]:
    """Weights are local, nothing is fetched, nothing is reported, media come as data: only."""
    return {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    }
