"""vLLM's command line and environment for a WorkloadSpec. Flags are vLLM's own (0.32), checked on a CPU."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from workers.manifests.spec import WorkloadSpec

GIB = 1024**3
RUNNERS = {"generate": "generate", "embed": "pooling"}


def arguments(spec: WorkloadSpec, *, model_path: str, host: str, port: int, extra: Sequence[str] = ()) -> list[str]:
    """Arguments of `python -m vllm.entrypoints.openai.api_server`."""
    flags = [
        "--model", model_path,
        "--served-model-name", spec.served_model_name,
        "--host", host,
        "--port", str(port),
        "--runner", RUNNERS[spec.task],
        "--enable-prompt-tokens-details",
        "--shutdown-timeout", "30",
        "--no-enable-log-requests",
        "--disable-access-log-for-endpoints", "/health,/metrics",
    ]  # fmt: skip
    for name, value in sorted(spec.arguments.items()):
        flags += [f"--{name.replace('_', '-')}", str(value)]
    return [*flags, *extra]


def cpu_environment(spec: WorkloadSpec) -> dict[str, str]:
    """What vLLM for CPUs needs in its environment; the KV cache is whole GiB.

    The model runs inside the engine core (with `--distributed-executor-backend uni`, which vLLM for CPUs takes only
    with VLLM_ENABLE_V1_MULTIPROCESSING=0) instead of in a worker process of its own: a third less time to start and
    half a GB less memory. Then vLLM does not bind OpenMP's threads, so their number is set here.
    """
    return {
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, math.ceil(spec.flavor.kv_cache_bytes / GIB))),
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2)),
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
