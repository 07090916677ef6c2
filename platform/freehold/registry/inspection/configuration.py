"""The configuration as the engine reads it: from which file, its part for the language model, the context length."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from freehold.registry.inspection.tree import MISTRAL_CONFIG, config_file, count_of, mapping, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from freehold.registry.inspection.tree import Tree

KEPT_BYTES: Final = 32 * 1024

_TEXT_PARTS = ("text_config", "language_config", "llm_config", "language_model_config")
_NESTED = frozenset(
    {*_TEXT_PARTS, "thinker_config", "rope_scaling", "rope_parameters", "linear_attn_config", "quantization_config"}
    | {"attn_config", "ffn_config", "moe", "yarn", "compression_config"}
)  # fmt: skip
_DEPTH = 3
_LIST = 1024
_TEXT = 200

# Keys of Mistral's params.json and what Hugging Face calls them (vLLM 0.32, transformers_utils/configs/mistral.py).
_MISTRAL = {
    "dim": "hidden_size",
    "norm_eps": "rms_norm_eps",
    "n_kv_heads": "num_key_value_heads",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "tied_embeddings": "tie_word_embeddings",
}
_MISTRAL_MOE = {
    "num_experts_per_tok": "num_experts_per_tok",
    "num_experts": "n_routed_experts",
    "expert_hidden_dim": "moe_intermediate_size",
    "num_shared_experts": "n_shared_experts",
    "first_k_dense_replace": "first_k_dense_replace",
}
_MISTRAL_CONTEXT = 128_000

# vLLM 0.32, ModelArchConfigConvertorBase.derive_max_model_len_and_key: the smallest of these counts.
_CONTEXT = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length", "max_target_positions",
    "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
# vLLM 0.32, _get_and_verify_max_len: configurations with these have the scaled length already.
_SCALED = frozenset({"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling", "telechat3-yarn"})
_UNSCALED = frozenset({"default", "mrope"})
_SENTENCES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)


def configuration(tree: Tree) -> dict[str, Any]:
    """The configuration under Hugging Face's names, from whichever file the engine takes; empty where there is none."""
    document = mapping(tree.documents.get(config_file(tree)))
    return _from_mistral(tree, document) if config_file(tree) == MISTRAL_CONFIG else document


def _from_mistral(tree: Tree, params: Mapping[str, Any]) -> dict[str, Any]:
    found = {_MISTRAL.get(key, key): value for key, value in params.items()}
    moe = mapping(found.pop("moe", None))
    found |= {name: moe[key] for key, name in _MISTRAL_MOE.items() if key in moe}
    vision = mapping(found.pop("multimodal", None)).get("vision_encoder_args") or found.pop("vision_encoder", None)
    architecture = "MixtralForCausalLM" if moe else "MistralForCausalLM"
    found["model_type"] = text_of(params.get("model_type")) or "mistral"
    if moe.get("num_shared_experts"):
        architecture, found["model_type"] = "MistralLarge3ForCausalLM", "deepseek_v3"
    found["architectures"] = ["PixtralForConditionalGeneration" if vision else architecture]
    yarn = mapping(found.pop("yarn", None))
    if yarn:
        found["rope_parameters"] = {"rope_type": "yarn", **yarn}
    quantization = mapping(found.pop("quantization", None))
    if quantization:
        fp8 = quantization.get("qformat_weight") == "fp8_e4m3"
        found["quantization_config"] = {"quant_method": "fp8"} if fp8 else quantization
    if found.get("max_position_embeddings") is None:
        beside = text_part(mapping(tree.documents.get("config.json"))).get("max_position_embeddings")
        found["max_position_embeddings"] = beside or _MISTRAL_CONTEXT
    return found


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's part of a configuration for several modalities, or all of it."""
    parts = (mapping(config.get(name)) for name in _TEXT_PARTS)
    thinker = mapping(config.get("thinker_config"))
    return next((part for part in parts if part), text_part(thinker) if thinker else config)


def architecture_of(config: Mapping[str, Any]) -> str | None:
    """The first of `architectures`."""
    names = config.get("architectures")
    return text_of(names[0]) if isinstance(names, list) and names else None


def context_facts(tree: Tree, config: Mapping[str, Any]) -> dict[str, Any]:
    """How many tokens prompt and answer may have together, as vLLM 0.32 derives it (_get_and_verify_max_len).

    `max_model_len` is what the engine takes when nobody says otherwise, `longest` what it takes at most (longer with
    longrope), both null where the configuration does not say; `key` is where it comes from.
    """
    text = text_part(config)
    found = {key: _length(text.get(key)) for key in _CONTEXT}
    lengths = {key: value for key, value in found.items() if value}
    key = "model_max_length" if "model_max_length" in lengths else min(lengths, key=lambda k: lengths[k], default=None)
    length = lengths[key] if key else None
    ropes = list(_ropes(text))
    kinds = [_kind(rope) for rope in ropes]
    factor = 1.0
    if "gemma3" not in str(text.get("model_type")):
        for rope, kind in zip(ropes, kinds, strict=True):
            if kind not in _SCALED | _UNSCALED:
                factor = _factor(rope.get("factor")) or factor
    tokenizer = _length(mapping(tree.documents.get("tokenizer_config.json")).get("model_max_length"))
    if length and tokenizer and config.get("position_embedding_type") == "absolute" and tokenizer < length:
        key, length = "tokenizer_config.json: model_max_length", tokenizer
    if length:
        length = int(length * factor)
    for name in _SENTENCES:
        sentences = _length(mapping(tree.documents.get(name)).get("max_seq_length"))
        if sentences:
            key, length = f"{name}: max_seq_length", sentences
            break
    original = _original(text, ropes)
    default = original if "longrope" in kinds and original else length
    return {
        "max_model_len": default,
        "longest": length,
        "key": key,
        "rope_type": next((kind for kind in kinds if kind not in _UNSCALED), None),
        "rope_factor": next((value for rope in ropes if (value := _factor(rope.get("factor")))), None),
        "original_max_position_embeddings": original,
        "sliding_window": count_of(text.get("sliding_window")),
    }


def _ropes(text: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rope parameters, one for each kind of layer where they differ; by their old name or their new."""
    for name in ("rope_parameters", "rope_scaling"):
        parameters = mapping(text.get(name))
        if parameters:
            nested = [value for value in parameters.values() if isinstance(value, dict)]
            yield from nested if nested and len(nested) == len(parameters) else [parameters]
            return


def _kind(rope: Mapping[str, Any]) -> str:
    return text_of(rope.get("rope_type")) or text_of(rope.get("type")) or "default"


def _original(text: Mapping[str, Any], ropes: list[dict[str, Any]]) -> int | None:
    places = [text, *ropes]
    return next((value for place in places if (value := _length(place.get("original_max_position_embeddings")))), None)


def _length(value: Any) -> int | None:
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return count_of(whole) or None


def _factor(value: Any) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**31
    return float(value) if usable else None


def pruned(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration less what nobody sizes a model by: at most 32 KiB of JSON that every database holds.

    Shaped as it was: scalars, short texts and lists of them, and the few objects in which families keep dimensions.
    """
    kept = _pruned(config, 0)
    while len(json.dumps(kept)) > KEPT_BYTES:
        largest = max(kept, key=lambda name: len(json.dumps(kept[name])))
        del kept[largest]
    return kept


def _pruned(config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            ropes = depth > 0 and all(_is_scalar(inner) for inner in value.values())
            if depth < _DEPTH and (name in _NESTED or ropes):
                kept[name[:_TEXT]] = _pruned(value, depth + 1)
        elif _is_scalar(value) or (isinstance(value, list) and len(value) <= _LIST and all(map(_is_scalar, value))):
            kept[name[:_TEXT]] = value
    return kept


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _TEXT
    if isinstance(value, float):
        return math.isfinite(value)  # JSON of PostgreSQL has no Infinity
    return value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63)
