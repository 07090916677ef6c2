"""The fixed-size states of Mamba, linear attention and short convolutions. Called by layers.py and pages.py.

Shapes and dtypes follow vLLM 0.32 (model_executor/layers/mamba/mamba_utils.py and get_mamba_state_shape_from_config of
each model): a state lives in a page of the KV cache, one a sequence and layer, whatever the sequence's length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from freehold.serving.sizing.configuration import ModelConfig, whole_number


@dataclass(frozen=True, kw_only=True)
class State:
    """What one layer keeps of one sequence, before tensor parallelism.

    Attributes:
        conv_width, conv_taps: numbers of the last `conv_taps` inputs of a convolution; in the model's dtype.
        groups, group_size: Mamba 2's groups, which are repeated until tensor-parallel ranks have one each.
        recurrent: shape of the recurrent state; its first number is divided by the tensor-parallel size.
        recurrent_bytes: bytes of each number of it; 0 means the model's dtype.
        checkpoints: pages beside the two that prefix caching takes (vLLM, MambaSpec.num_prefill_checkpoint_blocks).
    """

    name: str
    conv_width: int = 0
    conv_taps: int = 0
    groups: int = 0
    group_size: int = 0
    recurrent: tuple[int, ...] = ()
    recurrent_bytes: int = 0
    checkpoints: int = 0
    exact: bool = True
    notes: tuple[str, ...] = ()

    def page_bytes(self, *, tensor_parallel_size: int, dtype_bytes: int, recurrent_bytes: int | None = None) -> int:
        """Bytes of one sequence's state in one layer on one rank. `recurrent_bytes` overrides the dtype's size."""
        extra = tensor_parallel_size - self.groups if self.groups and self.groups % tensor_parallel_size else 0
        width = self.conv_width + 2 * extra * self.group_size
        recurrent = math.prod(self.recurrent) // tensor_parallel_size if self.recurrent else 0
        size = recurrent_bytes or self.recurrent_bytes or dtype_bytes
        return width // tensor_parallel_size * self.conv_taps * dtype_bytes + recurrent * size


_MAMBA_2 = "Mamba 2"
_DELTA = "gated delta net"
_LINEAR = frozenset({"qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_5", "qwen3_5_moe", "olmo_hybrid"})
_SHORT = frozenset({"lfm2", "lfm2_moe"})
_LIGHTNING = frozenset({"minimax", "minimax_text_01"})
_FLOAT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def stateful_layers(config: ModelConfig) -> frozenset[int] | None:
    """Decoder layers that keep a state, or None where the architecture is not one with states."""
    model, count = config.model_type, config.layers
    everything = frozenset(range(count))
    if model in ("mamba", "mamba2", "falcon_mamba", "falcon_h1"):
        return everything
    if model == "jamba":
        period, offset = config.count("attn_layer_period"), config.optional("attn_layer_offset") or 0
        return frozenset(layer for layer in range(count) if layer % period != offset)
    if model in ("bamba", "granitemoehybrid"):
        kinds = config.words("layer_types") or config.words("layers_block_type")
        attended = config.numbers("attn_layer_indices") if model == "bamba" else ()
        if attended:
            return everything - frozenset(attended)
        return _named(kinds, count, "mamba") if kinds else everything
    if model == "nemotron_h":
        pattern = config.text.get("hybrid_override_pattern")
        letters = pattern if isinstance(pattern, str) else ""
        kinds = config.words("layers_block_type")
        return frozenset(n for n, letter in enumerate(letters[:count]) if letter == "M") or _named(
            kinds, count, "mamba"
        )
    if model == "zamba2":
        return everything  # its hybrid layers have both
    if model in _LINEAR:
        kinds, every = config.words("layer_types"), config.optional("full_attention_interval") or 4
        if kinds:
            return _named(kinds, count, "linear_attention")
        return frozenset(layer for layer in range(count) if (layer + 1) % every)
    if model in _SHORT:
        kinds, attending = config.words("layer_types"), frozenset(config.numbers("full_attn_idxs"))
        return _named(kinds, count, "conv", "short_conv") if kinds else everything - attending
    if model in _LIGHTNING:
        kinds, types = config.words("layer_types"), config.numbers("attn_type_list")
        if kinds:
            return _named(kinds, count, "linear_attention")
        return frozenset(number for number, word in enumerate(types[:count]) if word == 0)
    if model == "kimi_linear":
        listed = _list(config.part("linear_attn_config"), "kda_layers")
        return frozenset(number - 1 for number in listed if 1 <= number <= count)  # counted from 1
    return None


def state_of(config: ModelConfig) -> State:
    """The state of each stateful layer. Raises Refused naming the count that config.json lacks."""
    model, hidden = config.model_type, config.optional("hidden_size") or 0
    if model in ("mamba", "falcon_mamba", "jamba"):
        inner = config.optional("intermediate_size") if model != "jamba" else None
        inner = inner or (config.optional("mamba_expand", "expand") or 2) * hidden
        return State(
            name="Mamba",
            conv_width=inner,
            conv_taps=config.count("mamba_d_conv", "conv_kernel") - 1,
            recurrent=(inner, config.count("mamba_d_state", "state_size")),
        )
    if model in _LINEAR:
        key = config.count("linear_num_key_heads") * config.count("linear_key_head_dim")
        heads, size = config.count("linear_num_value_heads"), config.count("linear_value_head_dim")
        return State(
            name=_DELTA,
            conv_width=2 * key + heads * size,
            conv_taps=config.count("linear_conv_kernel_dim") - 1,
            recurrent=(heads, size, config.count("linear_key_head_dim")),
            recurrent_bytes=_FLOAT_BYTES.get(str(config.text.get("mamba_ssm_dtype")), 0),
        )
    if model in _SHORT:
        return State(
            name="a short convolution",
            conv_width=config.optional("conv_dim") or hidden,
            conv_taps=config.count("conv_L_cache") - 1,
        )
    if model in _LIGHTNING:
        heads = config.count("num_attention_heads")
        size = config.optional("head_dim") or hidden // heads
        note = "vLLM 0.32 no longer has this architecture; the state's size is that of earlier versions."
        return State(name="lightning attention", recurrent=(heads, size, size), exact=False, notes=(note,))
    if model == "kimi_linear":
        part = config.part("linear_attn_config")
        heads, size = _number(part, "num_heads"), _number(part, "head_dim")
        taps = _number(part, "short_conv_kernel_size") - 1
        return State(
            name="Kimi delta attention",
            conv_width=3 * heads * size,
            conv_taps=taps,
            recurrent=(heads, size, size),
            recurrent_bytes=4,
            checkpoints=1,
        )
    return _mamba_2(config, hidden)


def _mamba_2(config: ModelConfig, hidden: int) -> State:
    heads = config.count("mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "num_heads")
    size = config.count("mamba_d_head", "mamba_head_dim", "mamba_headdim", "head_dim")
    groups = config.count("mamba_n_groups", "mamba_ngroups", "n_groups", default=1)
    state = config.count("mamba_d_state", "ssm_state_size", "state_size")
    expanded = (config.optional("mamba_expand", "expand") or 2) * hidden
    inner = heads * size if config.model_type == "nemotron_h" else config.optional("mamba_d_ssm") or expanded
    kept = str(config.text.get("mamba_ssm_cache_dtype", "float32"))
    return State(
        name=_MAMBA_2,
        conv_width=inner + 2 * groups * state,
        conv_taps=config.count("mamba_d_conv", "conv_kernel") - 1,
        groups=groups,
        group_size=state,
        recurrent=(heads, size, state),
        # vLLM, NemotronHForCausalLMConfig: float32 unless the configuration says otherwise.
        recurrent_bytes=_FLOAT_BYTES.get(kept, 4) if config.model_type == "nemotron_h" else 0,
        checkpoints=1,  # vLLM, MambaMixer2.get_kv_cache_spec
    )


def _named(kinds: tuple[str, ...], count: int, *names: str) -> frozenset[int]:
    return frozenset(layer for layer, kind in enumerate(kinds[:count]) if kind in names)


def _number(part: Any, name: str) -> int:
    return whole_number(part.get(name)) or 1


def _list(part: Any, name: str) -> tuple[int, ...]:
    value = part.get(name)
    return tuple(item for item in value if isinstance(item, int)) if isinstance(value, list | tuple) else ()
