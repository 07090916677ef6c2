"""Weights of one layer by its parts: attention, states, dense and sparse feed-forward. Called by parameters.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from freehold.serving.sizing.configuration import ModelConfig
from freehold.serving.sizing.layers import Layers


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Of one layer; see LayerWeights."""

    divided: int
    key_value: int
    replicated: int


@dataclass(frozen=True, kw_only=True)
class FeedForward:
    """Of one layer; see LayerWeights."""

    divided: int
    replicated: int = 0
    experts: int = 0
    active_experts: int = 0


_BIASED_EVERYWHERE: Final = frozenset({"gpt2", "opt", "phi", "starcoder2", "bert", "roberta", "xlm-roberta"})
_BIASED_INPUTS: Final = frozenset({"qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl"})
_NORMED_HEADS: Final = frozenset(
    {"qwen3", "qwen3_moe", "qwen3_next", "qwen3_vl_text", "qwen3_vl_moe_text", "gemma3_text", "lfm2"}
)
_NORMED_WHOLE: Final = frozenset({"olmo2", "olmo3", "olmoe", "minimax_m2"})
_UNGATED: Final = frozenset(
    {"gpt2", "opt", "phi", "starcoder2", "falcon", "bloom", "gptj", "gpt_neox", "nemotron", "nemotron_h"}
)
_CORRECTED_ROUTERS: Final = frozenset(
    {"deepseek_v3", "deepseek_v32", "kimi_k2", "glm4_moe", "glm_moe_dsa", "minimax_m2"}
)


def attention_of(config: ModelConfig, layers: Layers, number: int) -> Attention:
    """Projections of queries, keys, values and the output of layer `number`, with their biases and norms."""
    if layers.latent:
        return _latent(config, layers, number)
    hidden, model, heads = config.count("hidden_size", "n_embd", "d_model"), config.model_type, layers.heads
    size, kv_heads = layers.head_size, layers.kv_heads
    if not size:  # an encoder keeps nothing, but attends
        size, kv_heads = config.optional("head_dim") or hidden // max(1, heads), heads
    queries, keys = heads * size, kv_heads * size
    divided, key_value, replicated = 2 * hidden * queries, 2 * hidden * keys, 0
    if model == "qwen3_next":
        divided += hidden * queries  # a gate beside each query
    every, inputs = model in _BIASED_EVERYWHERE, model in _BIASED_INPUTS or config.flag("attention_bias")
    if every or inputs:
        divided, key_value = divided + queries, key_value + 2 * keys
    if every or (inputs and model in ("llama", "gpt_oss", "granite", "seed_oss") and _output_biased(config)):
        replicated += hidden
    if model == "gpt_oss":
        divided += heads  # a sink each
    if model in _NORMED_HEADS or (model == "glm4_moe" and config.flag("use_qk_norm")):
        replicated += 2 * size
    if model in _NORMED_WHOLE:
        divided += queries + keys
    return Attention(divided=divided + key_value, key_value=key_value, replicated=replicated)


def state_weights(config: ModelConfig) -> int:
    """Weights that make and use the state of one layer."""
    hidden, model = config.count("hidden_size"), config.model_type
    if model in ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "olmo_hybrid"):
        key = config.count("linear_num_key_heads") * config.count("linear_key_head_dim")
        heads, size = config.count("linear_num_value_heads"), config.count("linear_value_head_dim")
        value = heads * size
        inputs = hidden * (2 * key + 2 * value + 2 * heads)
        return inputs + (2 * key + value) * config.count("linear_conv_kernel_dim") + 2 * heads + size + value * hidden
    if model in ("lfm2", "lfm2_moe"):
        width = config.optional("conv_dim") or hidden
        return 4 * hidden * width + width * config.count("conv_L_cache")
    if model in ("mamba", "falcon_mamba", "jamba"):
        inner = (config.optional("intermediate_size") if model != "jamba" else None) or 2 * hidden
        rank = config.optional("mamba_dt_rank", "time_step_rank") or -(-hidden // 16)
        state = config.count("mamba_d_state", "state_size")
        norms = rank + 2 * state if model == "jamba" else 0
        taps = config.count("mamba_d_conv", "conv_kernel")
        return 3 * hidden * inner + inner * (taps + 1 + 2 * rank + 3 * state + 2) - inner * rank + norms
    if model == "kimi_linear" or model in ("minimax", "minimax_text_01"):
        width = config.count("num_attention_heads") * (config.optional("head_dim") or 128)
        return 5 * hidden * width
    heads = config.count("mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "num_heads")
    size = config.count("mamba_d_head", "mamba_head_dim", "mamba_headdim", "head_dim")
    state, taps = (
        config.count("mamba_d_state", "ssm_state_size", "state_size"),
        config.count("mamba_d_conv", "conv_kernel"),
    )
    groups = config.count("mamba_n_groups", "mamba_ngroups", "n_groups", default=1)
    inner, wide = heads * size, heads * size + 2 * groups * state
    norm = inner if config.flag("mamba_rms_norm", default=True) else 0
    return hidden * (inner + wide + heads) + wide * (taps + 1) + 3 * heads + norm + inner * hidden


def expert_layers(config: ModelConfig) -> frozenset[int]:
    """Layers whose feed-forward part is routed to experts."""
    if not _experts(config):
        return frozenset()
    count, model = config.layers, config.model_type
    if model == "jamba":
        period, offset = config.optional("expert_layer_period") or 2, config.optional("expert_layer_offset") or 0
        return frozenset(layer for layer in range(count) if layer % period == offset)
    if model == "nemotron_h":
        pattern = str(config.text.get("hybrid_override_pattern") or "")
        return frozenset(layer for layer, letter in enumerate(pattern) if letter == "E")
    if model == "llama4_text":
        every = config.optional("interleave_moe_layer_step") or 1
        return frozenset(range(every - 1, count, every))
    every = config.optional("decoder_sparse_step", "moe_layer_freq") or 1
    first = config.optional("first_k_dense_replace") or 0
    dense = frozenset(config.numbers("mlp_only_layers"))
    step = 1 if first else every
    return frozenset(layer for layer in range(first, count) if (layer + 1) % step == 0 and layer not in dense)


def mlp_of(config: ModelConfig, number: int, *, sparse: bool) -> FeedForward:
    """The feed-forward part of layer `number`, dense or routed."""
    hidden, model = config.count("hidden_size", "n_embd", "d_model"), config.model_type
    if sparse:
        return _sparse(config, hidden)
    names = ("intermediate_size_mlp",) if model == "llama4_text" else ()
    if model == "granitemoehybrid":
        names = ("shared_intermediate_size",)
    inner = config.optional(*names, "intermediate_size", "ffn_dim", "n_inner") or 4 * hidden
    if model == "lfm2" and config.flag("block_auto_adjust_ff_dim", default=True):
        inner = _adjusted(config, inner)
    if model in ("bert", "roberta", "xlm-roberta"):
        return FeedForward(divided=2 * hidden * inner + inner, replicated=hidden)
    biases = inner if model in _BIASED_EVERYWHERE else 0
    matrices = 2 if model in _UNGATED else 3
    return FeedForward(divided=matrices * hidden * inner + biases, replicated=hidden if biases else 0)


def _sparse(config: ModelConfig, hidden: int) -> FeedForward:
    model, experts = config.model_type, _experts(config)
    inner = config.optional("moe_intermediate_size") or config.count("intermediate_size")
    one = (2 if model == "nemotron_h" else 3) * hidden * inner
    if model == "gpt_oss":
        one += 2 * inner + hidden
    used = config.optional("num_experts_per_tok", "top_k_experts", "moe_topk", "num_experts_per_token") or 1
    router = experts * hidden + (experts if model in (*_CORRECTED_ROUTERS, "gpt_oss", "nemotron_h") else 0)
    shared = config.optional("shared_expert_intermediate_size", "shared_intermediate_size") or 0
    gate = hidden if model in ("qwen2_moe", "qwen3_next") and shared else 0
    shared += (config.optional("n_shared_experts", "num_shared_experts") or 0) * inner
    if model == "llama4_text":
        shared = inner
    matrices = 2 if model == "nemotron_h" else 3
    return FeedForward(
        divided=matrices * hidden * shared,
        replicated=router + gate,
        experts=experts * one,
        active_experts=min(used, experts) * one,
    )


def _latent(config: ModelConfig, layers: Layers, number: int) -> Attention:
    hidden, heads = config.count("hidden_size"), layers.heads
    rope, nope, value = (config.count(name) for name in ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"))
    rank, query_rank = config.count("kv_lora_rank"), config.optional("q_lora_rank") or 0
    replicated = hidden * (rank + rope) + rank + (hidden * query_rank + query_rank)
    divided = (query_rank or hidden) * heads * (nope + rope) + rank * heads * (nope + value) + heads * value * hidden
    if number in layers.indexed:
        size, index_heads = config.count("index_head_dim"), config.count("index_n_heads")
        replicated += query_rank * index_heads * size + hidden * size + 2 * size + hidden * index_heads
    return Attention(divided=divided, key_value=0, replicated=replicated)


def _experts(config: ModelConfig) -> int:
    count = config.optional("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts") or 0
    return count if count > 1 else 0


def _output_biased(config: ModelConfig) -> bool:
    return config.flag("attention_out_bias", default=config.model_type != "seed_oss")


def _adjusted(config: ModelConfig, inner: int) -> int:
    """LFM2 (transformers, Lfm2MLP): two thirds, times a factor, up to a multiple."""
    inner = int(2 * inner / 3)
    factor, multiple = config.text.get("block_ffn_dim_multiplier"), config.optional("block_multiple_of") or 256
    if isinstance(factor, int | float) and not isinstance(factor, bool):
        inner = int(factor * inner)
    return multiple * (-(-inner // multiple))
