"""Memory of the fullest accelerator, part by part, and what is left for the KV cache. Called by plan.py.

Weights and KV cache are the engine's own arithmetic. Activations and the runtime's overhead depend on kernels and
drivers: they are rules of thumb on the safe side, marked as estimates in every step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from freehold.serving.sizing.configuration import ModelConfig
from freehold.serving.sizing.flavors import Batches, Flavor, Workload
from freehold.serving.sizing.layers import Layers
from freehold.serving.sizing.pages import ranks_kv_heads
from freehold.serving.sizing.parallel import Split
from freehold.serving.sizing.steps import GIB

_MIB: Final = 1024**2
_CUDA_CONTEXT = 600 * _MIB  # context and libraries of one process
_COLLECTIVES = 512 * _MIB  # NCCL's and the all-reduce's buffers, with more than one accelerator
_GRAPHS_PER_LAYER = 20 * _MIB  # captured CUDA graphs: 0.6 GiB at 32 layers, as vLLM's logs say
_CPU_PROCESS = 1200 * _MIB  # server and engine core in one process, before any weights
_LOGIT_BYTES = 10  # 16-bit logits, a 32-bit copy, and the sampler's


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on the fullest accelerator (or in the replica on a CPU).

    Attributes:
        limit: what the engine may use: memory × gpu_memory_utilization; 0 where a CPU flavor names none.
        kv_cache: what is left, or the fixed size of a CPU flavor; never negative.
        missing: bytes by which everything else is over the limit.
    """

    total: int
    limit: int
    weights: int
    activations: int
    overhead: int
    kv_cache: int
    missing: int = 0


def memory_of(
    config: ModelConfig,
    layers: Layers,
    *,
    flavor: Flavor,
    workload: Workload,
    split: Split,
    batches: Batches,
    weights: int,
) -> Memory:
    """The parts. `weights` are those of the fullest rank."""
    activations = activation_bytes(config, layers, batches, split.tensor_parallel_size)
    if flavor.is_cpu:
        kv_cache = max(1, math.ceil(flavor.kv_cache_bytes / GIB)) * GIB  # workers/manifests/vllm.py: whole GiB
        used = weights + activations + _CPU_PROCESS + (kv_cache if layers.caches else 0)
        return Memory(
            total=flavor.memory_bytes,
            limit=flavor.memory_bytes,
            weights=weights,
            activations=activations,
            overhead=_CPU_PROCESS,
            kv_cache=kv_cache if layers.caches else 0,
            missing=max(0, used - flavor.memory_bytes) if flavor.memory_bytes else 0,
        )
    limit = math.ceil(flavor.memory_bytes * workload.gpu_memory_utilization)
    overhead = overhead_bytes(layers, split)
    left = limit - weights - activations - overhead
    return Memory(
        total=flavor.memory_bytes,
        limit=limit,
        weights=weights,
        activations=activations,
        overhead=overhead,
        kv_cache=max(0, left),
        missing=max(0, -left),
    )


def overhead_bytes(layers: Layers, split: Split) -> int:
    """CUDA context, collectives, captured graphs: an estimate."""
    several = split.tensor_parallel_size * split.pipeline_parallel_size > 1
    stage = -(-layers.decoder_layers // split.pipeline_parallel_size)
    return _CUDA_CONTEXT + (_COLLECTIVES if several else 0) + stage * _GRAPHS_PER_LAYER


def activation_bytes(config: ModelConfig, layers: Layers, batches: Batches, ranks: int) -> int:
    """The peak of one forward pass of a full batch: the widest layer, or the logits. An estimate."""
    hidden = config.optional("hidden_size", "n_embd", "d_model") or 0
    inner = config.optional("intermediate_size", "ffn_dim", "n_inner") or 4 * hidden
    used = config.optional("num_experts_per_tok", "top_k_experts", "moe_topk") or 0
    expert = config.optional("moe_intermediate_size") or inner
    attended = (layers.heads + 2 * ranks_kv_heads(layers.kv_heads, 1)) * layers.head_size
    if layers.latent:
        attended = layers.heads * 3 * layers.head_size // 2  # keys and values of a prefill are expanded
    wide = max(3 * inner // ranks, attended // ranks, used * (3 * expert // ranks + hidden))
    forward = batches.tokens * (4 * hidden + wide) * config.dtype_bytes
    logits = min(batches.sequences, batches.tokens) * (config.optional("vocab_size") or 0) * _LOGIT_BYTES
    return max(forward, logits)
