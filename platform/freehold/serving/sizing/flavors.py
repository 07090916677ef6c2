"""What is asked and on what: accelerators, the workload, and the settings of vLLM that sizing depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from freehold.common.errors import InvalidInput
from freehold.serving.sizing.steps import GIB

KvCacheDtype = Literal["auto", "fp8"]
CPU: Final = "cpu"

# vLLM 0.32, config/cache.py.
GPU_MEMORY_UTILIZATION: Final = 0.92


@dataclass(frozen=True, kw_only=True)
class Flavor:
    """A kind of node as it is sold; the fields of fleet.models.GpuFlavor.

    Attributes:
        accelerator: product name, or "cpu".
        accelerators: that one replica occupies.
        memory_bytes: of one accelerator as its driver reports it; on a CPU of the replica, 0 for no limit.
        kv_cache_bytes: fixed KV cache of a CPU engine; 0 on GPUs.
    """

    name: str
    accelerator: str
    accelerators: int = 1
    memory_bytes: int = 0
    kv_cache_bytes: int = 0

    def __post_init__(self) -> None:
        if self.accelerators < 1 or self.memory_bytes < 0 or self.kv_cache_bytes < 0:
            raise InvalidInput(f"The flavor {self.name} needs at least one accelerator and no negative memory.")
        if not self.is_cpu and not self.memory_bytes:
            raise InvalidInput(f"The flavor {self.name} does not say how much memory an accelerator has.")

    @property
    def is_cpu(self) -> bool:
        """Whether vLLM runs on the processor."""
        return self.accelerator.lower() == CPU


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What the endpoint must hold.

    Attributes:
        context_length: tokens of prompt and answer together (max_model_len).
        concurrency: requests of that length at once.
        max_num_batched_tokens, max_num_seqs: vLLM's settings; None takes its defaults for the accelerator.
        recurrent_bytes: bytes of a number of a recurrent state where the engine is told
            (`--mamba-ssm-cache-dtype`); None takes its default.
    """

    context_length: int
    concurrency: int = 1
    kv_cache_dtype: KvCacheDtype = "auto"
    gpu_memory_utilization: float = GPU_MEMORY_UTILIZATION
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    recurrent_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("context_length", "concurrency", "max_num_batched_tokens", "max_num_seqs"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 2**31:
                raise InvalidInput(f"{name} must be a whole number from 1 to {2**31:,}.", field=name)
        if not 0 < self.gpu_memory_utilization <= 1:
            raise InvalidInput("gpu_memory_utilization is above 0 and at most 1.", field="gpu_memory_utilization")
        if self.kv_cache_dtype not in ("auto", "fp8"):
            raise InvalidInput("kv_cache_dtype must be auto or fp8.", field="kv_cache_dtype")


@dataclass(frozen=True, kw_only=True)
class Batches:
    """How much vLLM's scheduler takes on: tokens in one step, sequences at once, steps in flight."""

    tokens: int
    sequences: int
    in_flight: int


def batches_of(
    flavor: Flavor, workload: Workload, *, tensor_parallel_size: int, pipeline_parallel_size: int
) -> Batches:
    """Defaults of vLLM's server (engine/arg_utils.py: get_batch_defaults; config/vllm.py: max_concurrent_batches)."""
    world = tensor_parallel_size * pipeline_parallel_size
    if flavor.is_cpu:
        tokens, sequences = 2048 * world, 128 * world
    elif flavor.memory_bytes >= 160 * GIB:
        tokens, sequences = 16384, 1024
    elif flavor.memory_bytes >= 70 * GIB and "a100" not in flavor.accelerator.lower():
        tokens, sequences = 8192, 1024
    else:
        tokens, sequences = 2048, 256
    sequences = workload.max_num_seqs or sequences
    tokens = workload.max_num_batched_tokens or min(tokens, sequences * workload.context_length)
    # Steps overlap with scheduling, except on a CPU.
    return Batches(tokens=tokens, sequences=sequences, in_flight=pipeline_parallel_size + (0 if flavor.is_cpu else 1))
