"""Bytes of weights: in all, and on the accelerator that holds most of them. Called by memory.py.

The bytes are those of the safetensors headers where there are files; a catalog entry without files is estimated from
its config.json. How they are split follows vLLM 0.32: tables, attention and experts are divided over tensor-parallel
ranks, norms, routers and latent projections are whole on each, keys and values are repeated where there are more ranks
than KV heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from freehold.common.errors import InvalidInput
from freehold.serving.sizing.configuration import ModelConfig, whole_number
from freehold.serving.sizing.pages import stage_layers
from freehold.serving.sizing.parameters import Parameters

_BLOCK = 128 * 128  # weights that share a 4-byte scale in DeepSeek's FP8, the usual one
_VOCABULARY_STEP = 64  # vLLM pads tables to it (vocab_parallel_embedding.py)
_PACKED_BITS: Final = {"mxfp4": 4.25, "gpt_oss_mxfp4": 4.25, "nvfp4": 4.5, "modelopt_fp4": 4.5, "bitsandbytes": 4.5}
_GROUPED: Final = frozenset({"gptq", "awq", "gptq_marlin", "awq_marlin", "auto-round", "compressed-tensors", "quark"})
_NOT_CONVERTED = ("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What the safetensors headers say.

    Attributes:
        bytes_by_dtype: such as {"BF16": 16060522496}; empty where there are no files yet.
        expert_bytes: those of routed experts, where known; otherwise they are shared out by number.
        draft_bytes: those of drafting layers, which vLLM leaves out.
    """

    bytes_by_dtype: Mapping[str, int] = field(default_factory=dict)
    expert_bytes: int | None = None
    draft_bytes: int = 0

    def __post_init__(self) -> None:
        for name, size in self.bytes_by_dtype.items():
            if size < 0:
                raise InvalidInput(f"The weights of type {name} have {size} bytes; give 0 or more.", field="weights")
        if self.draft_bytes < 0 or (self.expert_bytes or 0) < 0:
            raise InvalidInput("Bytes of experts and drafting layers are 0 or more.", field="weights")

    @property
    def stored(self) -> int:
        """Bytes of all tensors that are served; 0 where there are no files."""
        return max(0, sum(self.bytes_by_dtype.values()) - self.draft_bytes)


@dataclass(frozen=True, kw_only=True)
class WeightBytes:
    """Bytes of a model's weights: routed experts, and all the rest. `estimated` where no file said so."""

    experts: int
    rest: int
    estimated: bool
    formula: str

    @property
    def total(self) -> int:
        """All of them."""
        return self.experts + self.rest


def weight_bytes_of(config: ModelConfig, parameters: Parameters, weights: Weights) -> WeightBytes:
    """From the files, or from the configuration where there are none."""
    experts, rest = _estimated(config, parameters)
    if not weights.stored:
        words = f"{parameters.total:,} weights by config.json, {_format(config)}"
        return WeightBytes(experts=experts, rest=rest, estimated=True, formula=words)
    share = weights.expert_bytes
    if share is None:
        share = round(weights.stored * (experts / (experts + rest)))
    kinds = " + ".join(f"{size:,} {name}" for name, size in sorted(weights.bytes_by_dtype.items()))
    formula = f"{kinds} bytes" + (f" − {weights.draft_bytes:,} of drafting layers" if weights.draft_bytes else "")
    share = min(share, weights.stored)
    return WeightBytes(experts=share, rest=weights.stored - share, estimated=False, formula=formula)


def rank_bytes(
    config: ModelConfig,
    parameters: Parameters,
    size: WeightBytes,
    *,
    kv_heads: int,
    tensor_parallel_size: int,
    pipeline_parallel_size: int,
) -> tuple[int, ...]:
    """Bytes on one rank of each pipeline stage."""
    ranks = tensor_parallel_size
    counted = max(1, parameters.total - parameters.experts)
    each, each_expert = size.rest / counted, size.experts / max(1, parameters.experts)
    tables = _padded(parameters.embedding, config) / ranks
    stages = []
    for number, stage in enumerate(stage_layers(len(parameters.layers), pipeline_parallel_size)):
        first, last = number == 0, number == pipeline_parallel_size - 1
        layers = [parameters.layers[layer] for layer in stage]
        keys = sum(layer.key_value for layer in layers)
        rest = (sum(layer.divided for layer in layers) - keys) / ranks + sum(layer.replicated for layer in layers)
        rest += keys / min(ranks, max(1, kv_heads))
        if first:
            rest += tables + parameters.other / ranks
        if last:
            rest += _padded(parameters.head, config) / ranks + parameters.final
            rest += 0 if parameters.head or first else tables  # one table for both ends is on both
        stages.append(round(rest * each + sum(layer.experts for layer in layers) / ranks * each_expert))
    return tuple(stages)


def _padded(table: int, config: ModelConfig) -> float:
    rows = config.count("vocab_size")
    return table * (-(-rows // _VOCABULARY_STEP) * _VOCABULARY_STEP) / rows


def _estimated(config: ModelConfig, parameters: Parameters) -> tuple[int, int]:
    """Bytes of experts and of the rest, by the quantization that config.json names."""
    plain, bits = config.dtype_bytes * 8, _bits(config)
    rest = parameters.total - parameters.experts
    tables = parameters.embedding + parameters.head + parameters.other
    linear = plain if _experts_only(config) else bits
    return round(parameters.experts * bits / 8), round((tables * plain + (rest - tables) * linear) / 8)


def _bits(config: ModelConfig) -> float:
    quantization = config.part("quantization_config")
    method = str(quantization.get("quant_method", "")).lower()
    if not method:
        return config.dtype_bytes * 8
    if method in _PACKED_BITS:
        return _PACKED_BITS[method]
    if method in _GROUPED:
        stated = _weights_of(quantization)
        bits = whole_number(stated.get("bits")) or whole_number(stated.get("num_bits")) or 4
        group = whole_number(stated.get("group_size"))
        return bits + (16 + (bits if method in ("gptq", "awq") else 0)) / group if group else bits
    return 8 + 32 / _BLOCK if method in ("fp8", "modelopt", "fbgemm_fp8", "deepseek_v4_fp8") else config.dtype_bytes * 8


def _weights_of(quantization: Mapping[str, Any]) -> Mapping[str, Any]:
    """compressed-tensors keeps what concerns weights two levels down."""
    groups = quantization.get("config_groups")
    if isinstance(groups, Mapping):
        for group in groups.values():
            found = group.get("weights") if isinstance(group, Mapping) else None
            if isinstance(found, Mapping):
                return found
    return quantization


def _experts_only(config: ModelConfig) -> bool:
    """Whether attention is left as it was: then so is nearly all that is not an expert."""
    quantization = config.part("quantization_config")
    listed = [item for name in _NOT_CONVERTED for item in (quantization.get(name) or ()) if isinstance(item, str)]
    return any("self_attn" in item or "attention" in item for item in listed)


def _format(config: ModelConfig) -> str:
    method = config.part("quantization_config").get("quant_method")
    name = f"{method}, " if isinstance(method, str) else ""
    return f"{name}{_bits(config):g} bits each where quantized" if name else f"{config.dtype_bytes} bytes each"
