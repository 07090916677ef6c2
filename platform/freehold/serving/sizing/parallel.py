"""Over how many accelerators a model can be split, and why not otherwise. Called by plan.py.

vLLM 0.32 divides heads, feed-forward widths and tables by the tensor-parallel size and refuses what does not come out
even (config/model.py: verify_with_parallel_config; layers/linear.py; layers/vocab_parallel_embedding.py); pipeline
stages take whole layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from freehold.serving.sizing.configuration import ModelConfig, whole_number
from freehold.serving.sizing.layers import Layers

_VOCABULARY_STEP: Final = 64
_STATE_HEADS = ("mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "linear_num_key_heads", "linear_num_value_heads")


@dataclass(frozen=True, kw_only=True)
class Split:
    """A way to lay a model over the accelerators of some nodes. `idle` accelerators get nothing."""

    tensor_parallel_size: int
    pipeline_parallel_size: int
    nodes: int
    idle: int
    notes: tuple[str, ...] = ()


def split_of(config: ModelConfig, layers: Layers, *, accelerators: int, nodes: int) -> Split:
    """The widest tensor parallelism that works within a node; pipeline stages for the rest and across nodes."""
    refusals = []
    for size in range(accelerators, 0, -1):
        if accelerators % size:
            continue
        problem = uneven(config, layers, size)
        if problem:
            refusals.append(problem)
            continue
        stages = accelerators // size * nodes
        if not layers.caches and stages > 1:
            refusals.append("an encoder has no pipeline stages")
            stages = 1
        elif stages > layers.decoder_layers:
            stages = layers.decoder_layers
        return Split(
            tensor_parallel_size=size,
            pipeline_parallel_size=stages,
            nodes=nodes,
            idle=accelerators * nodes - size * stages,
            notes=tuple(refusals),
        )
    raise AssertionError("one accelerator always divides everything")


def uneven(config: ModelConfig, layers: Layers, ranks: int) -> str:
    """What does not come out even over so many tensor-parallel ranks, in words; empty where all does."""
    if ranks == 1:
        return ""
    start = f"tensor parallelism over {ranks} is impossible:"
    if layers.heads % ranks:
        return f"{start} {layers.heads} attention heads do not divide by {ranks}"
    kv_heads = layers.kv_heads
    if kv_heads and not layers.latent and kv_heads % ranks and ranks % kv_heads:
        return f"{start} {kv_heads} KV heads neither divide by {ranks} nor repeat evenly"
    for name in ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", *_STATE_HEADS):
        width = config.optional(name)
        if width and width % ranks:
            return f"{start} {name} {width} does not divide by {ranks}"
    rows = -(-config.count("vocab_size") // _VOCABULARY_STEP) * _VOCABULARY_STEP
    if rows % ranks:
        return f"{start} the vocabulary of {rows:,} rows does not divide by {ranks}"
    return _uneven_blocks(config, ranks, start)


def _uneven_blocks(config: ModelConfig, ranks: int, start: str) -> str:
    """FP8 in blocks: a rank's part of a dense layer is whole blocks (fp8_utils.py: validate_fp8_block_shape)."""
    shape = config.part("quantization_config").get("weight_block_size")
    block = whole_number(shape[0]) if isinstance(shape, list | tuple) and shape else None
    if not block:
        return ""
    shared = config.optional("shared_expert_intermediate_size")
    if config.optional("n_shared_experts"):
        shared = config.count("n_shared_experts") * (config.optional("moe_intermediate_size") or 0)
    dense_layers = not config.optional("num_experts", "n_routed_experts", "num_local_experts")
    dense = config.optional("intermediate_size") if dense_layers or config.optional("first_k_dense_replace") else None
    for width in (dense, shared):
        if width and width // ranks % block:
            return f"{start} {width} / {ranks} is not a multiple of the quantization's blocks of {block}"
    return ""
