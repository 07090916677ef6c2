"""What each layer of a model keeps of the tokens before: its kind of cache. Called by pages.py and parameters.py.

The rules follow the model files of vLLM 0.32 (vllm/model_executor/models, vllm/models) and, where a configuration class
fills a pattern in, transformers 5. An architecture that is not known here is counted as full attention in every layer
with the largest heads that its configuration names: an upper bound, and `Layers.exact` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Final

from freehold.common.errors import Refused
from freehold.serving.sizing.configuration import ModelConfig, whole_number
from freehold.serving.sizing.states import State, state_of, stateful_layers
from freehold.serving.sizing.windows import chunks_of, windows_of


class Kind(StrEnum):
    """What a layer keeps."""

    FULL = "full"  # keys and values of every token
    WINDOW = "sliding_window"  # of the last tokens
    CHUNK = "chunked"  # of the current chunk (Llama 4)
    LATENT = "latent"  # one compressed vector a token (multi-head latent attention)
    INDEX = "index"  # what sparse attention searches (DeepSeek V3.2)
    STATE = "state"  # a state of fixed size a sequence (Mamba, linear attention, short convolution)


@dataclass(frozen=True, kw_only=True)
class CacheLayer:
    """One cache of one decoder layer; a layer may have none, one, or two.

    Attributes:
        layer: number of the decoder layer, from 0: pipeline parallelism splits by it.
        kv_heads: of the whole model, before tensor parallelism.
        key_size, value_size: numbers a head and token; a latent layer has no value.
        window: tokens of a sliding window or chunk.
        token_bytes: bytes a token that do not follow the KV cache's dtype (an indexer's own FP8 with scales).
    """

    layer: int
    kind: Kind
    kv_heads: int = 0
    key_size: int = 0
    value_size: int = 0
    window: int = 0
    token_bytes: int = 0
    state: State | None = None


@dataclass(frozen=True, kw_only=True)
class Layers:
    """All caches of a model.

    Attributes:
        attention: the kinds in words, such as "grouped-query attention".
        exact: false where the architecture is not known here and the caches are an upper bound.
    """

    caches: tuple[CacheLayer, ...]
    decoder_layers: int
    heads: int
    kv_heads: int
    head_size: int
    attention: str
    exact: bool
    notes: tuple[str, ...] = ()

    @property
    def latent(self) -> bool:
        """Multi-head latent attention: the cache is replicated over tensor-parallel ranks."""
        return any(cache.kind is Kind.LATENT for cache in self.caches)

    @cached_property
    def indexed(self) -> frozenset[int]:
        """Decoder layers with a sparse index."""
        return frozenset(cache.layer for cache in self.caches if cache.kind is Kind.INDEX)

    @property
    def hybrid(self) -> bool:
        """States beside attention: vLLM makes their pages equally large."""
        kinds = {cache.kind for cache in self.caches}
        return Kind.STATE in kinds and len(kinds) > 1


ENCODERS: Final = frozenset(
    {"bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet", "modernbert"}
    | {"nomic_bert", "new", "gte", "eurobert", "deberta", "deberta-v2", "ernie", "t5_encoder", "jina_bert"}
    | {"snowflake_gte"}
)  # fmt: skip

# vLLM 0.32, ModelArchConfigConvertorBase.is_deepseek_mla. DeepSeek-V4 and its like compress further: not modelled here.
_LATENT: Final = frozenset(
    {"deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm_moe_dsa", "glm4_moe_lite"}
    | {"longcat_flash", "pangu_ultra_moe", "axk1", "kimi_linear"}
)  # fmt: skip

_FULL: Final = frozenset(
    {"llama", "mistral", "mistral3", "mixtral", "ministral", "ministral3", "qwen2", "qwen2_moe", "qwen3"}
    | {"qwen3_moe", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text"}
    | {"qwen3_omni_moe_text", "qwen2_vl", "qwen2_5_vl", "gpt2", "gptj", "gpt_neox", "opt", "bloom"}
    | {"falcon", "phi", "phi3", "phimoe", "starcoder2", "olmo", "olmo2", "olmo3", "olmoe", "glm", "glm4"}
    | {"glm4_moe", "granite", "granitemoe", "granitemoeshared", "minimax_m2", "internlm2", "internlm3"}
    | {"stablelm", "exaone", "exaone4", "cohere", "cohere2", "gemma", "gemma2", "gemma3_text"}
    | {"gemma3n_text", "gemma4_text", "seed_oss", "ernie4_5", "ernie4_5_moe", "smollm3", "arcee"}
    | {"nemotron", "apertus", "solar", "llama4_text", "gpt_oss", "hunyuan_v1_dense", "gemma3"}
)  # fmt: skip

_HEADS: Final = ("num_attention_heads", "n_head", "num_heads")
_INDEX_SCALE_GROUP = 128  # numbers that share a 4-byte scale (vLLM, deepseek_v2.Indexer.quant_block_size)


def layers_of(config: ModelConfig) -> Layers:
    """What every layer keeps. Raises Refused naming the count that config.json lacks."""
    heads = config.optional(*_HEADS) or 0
    if _is_encoder(config):
        return Layers(
            caches=(),
            decoder_layers=config.layers,
            heads=heads,
            kv_heads=heads,
            head_size=0,
            attention="encoder: every text is read at once, nothing is kept",
            exact=True,
        )
    stateful = stateful_layers(config)
    if stateful is not None:
        return _with_states(config, heads, stateful)
    if config.model_type in _LATENT and config.optional("kv_lora_rank"):
        return _latent(config, config.count(*_HEADS))
    return _attention_only(config, config.count(*_HEADS))


def head_size_of(config: ModelConfig, heads: int) -> int:
    """Numbers a head: as stated, or hidden size / heads (vLLM, get_head_size)."""
    stated = config.optional("head_dim", "hidden_size_per_head", "attention_head_dim")
    size = stated or config.count("hidden_size", "n_embd", "d_model") // max(1, heads)
    if not size:
        raise Refused(
            f"config.json of {config.architecture} has more attention heads ({heads:,}) than numbers in a layer."
        )
    return size


def kv_heads_of(config: ModelConfig, heads: int) -> int:
    """Heads of keys and values; as many as attention heads where nothing is stated (vLLM, get_total_num_kv_heads)."""
    if config.model_type == "falcon" and not config.flag("new_decoder_architecture"):
        return 1 if config.flag("multi_query", default=True) else heads
    found = config.optional(
        "n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups"
    )
    return found or heads


def _is_encoder(config: ModelConfig) -> bool:
    return (
        config.model_type in ENCODERS
        or not config.flag("is_causal", default=True)
        or config.flag("use_bidirectional_attention")
        or config.architecture.endswith(("ForMaskedLM", "EncoderModel"))
    )


def _attention_only(config: ModelConfig, heads: int) -> Layers:
    count, known = config.layers, config.model_type in _FULL and not config.flag("is_encoder_decoder")
    notes: list[str] = []
    kv_heads, size = kv_heads_of(config, heads), head_size_of(config, heads)
    if not known:
        kv_heads, size = _largest(config, "num_key_value_heads", kv_heads), _largest(config, "head_dim", size)
        notes.append(
            f"{config.architecture} is not known here. Every layer is counted as full attention with the largest heads "
            "that config.json names, which is an upper bound: the engine may need less."
        )
        latent = config.optional("kv_lora_rank")
        if latent and not config.words("layer_types"):
            notes.append("Its attention is latent, and it may compress further: one latent vector a layer is counted.")
            return replace(_latent(config, heads), exact=False, notes=tuple(notes))
    windows = windows_of(config, count) if known else (0,) * count
    chunks = chunks_of(config, count)
    caches = []
    for layer in range(count - _shared_layers(config)):
        window = windows[layer]
        cache = CacheLayer(
            layer=layer,
            kind=Kind.CHUNK if layer in chunks else Kind.WINDOW if window else Kind.FULL,
            kv_heads=kv_heads,
            key_size=size,
            value_size=size,
            window=config.count("attention_chunk_size") if layer in chunks else window,
        )
        caches.append(_gemma4_global(config, cache) if config.model_type == "gemma4_text" and not window else cache)
    if _shared_layers(config):
        notes.append(f"The last {_shared_layers(config)} layers read the cache of earlier ones and keep none.")
    return Layers(
        caches=tuple(caches),
        decoder_layers=count,
        heads=heads,
        kv_heads=kv_heads,
        head_size=size,
        attention=_in_words(heads, kv_heads, caches),
        exact=known,
        notes=tuple(notes),
    )


def _latent(config: ModelConfig, heads: int) -> Layers:
    size = config.count("kv_lora_rank") + config.count("qk_rope_head_dim")
    sublayers = 2 if config.model_type == "longcat_flash" else 1
    index, notes = config.optional("index_head_dim"), []
    caches = []
    for layer in range(config.layers):
        caches += [CacheLayer(layer=layer, kind=Kind.LATENT, kv_heads=1, key_size=size)] * sublayers
        if index and not _skips_index(config, layer):
            scales = index // _INDEX_SCALE_GROUP * 4
            caches.append(CacheLayer(layer=layer, kind=Kind.INDEX, kv_heads=1, token_bytes=index + scales))
    if index:
        notes.append("Sparse attention keeps an FP8 key a token and layer to search in, beside the latent vector.")
    return Layers(
        caches=tuple(caches),
        decoder_layers=config.layers,
        heads=heads,
        kv_heads=1,
        head_size=size,
        attention="multi-head latent attention" + (" with a sparse index" if index else ""),
        exact=True,
        notes=tuple(notes),
    )


def _with_states(config: ModelConfig, heads: int, stateful: frozenset[int]) -> Layers:
    state, attending = state_of(config), _attending(config, stateful)
    heads = config.count(*_HEADS) if attending else heads
    latent = config.model_type == "kimi_linear"
    kv_heads, size = kv_heads_of(config, heads), head_size_of(config, heads) if heads else 0
    caches = []
    for layer in range(config.layers):
        if layer in attending and latent:
            width = config.count("kv_lora_rank") + config.count("qk_rope_head_dim")
            caches.append(CacheLayer(layer=layer, kind=Kind.LATENT, kv_heads=1, key_size=width))
        elif layer in attending:
            caches.append(CacheLayer(layer=layer, kind=Kind.FULL, kv_heads=kv_heads, key_size=size, value_size=size))
        if layer in stateful:
            caches.append(CacheLayer(layer=layer, kind=Kind.STATE, state=state))
    words = f"{state.name} in {len(stateful)} layers"
    if attending:
        words = f"{_in_words(heads, kv_heads, caches)} in {len(attending)} layers, {words}"
    return Layers(
        caches=tuple(caches),
        decoder_layers=config.layers,
        heads=heads,
        kv_heads=1 if latent else kv_heads,
        head_size=config.count("kv_lora_rank") + config.count("qk_rope_head_dim") if latent else size,
        attention=words,
        exact=state.exact,
        notes=state.notes,
    )


def _attending(config: ModelConfig, stateful: frozenset[int]) -> frozenset[int]:
    """Layers with attention beside (Falcon-H1) or instead of a state; Nemotron-H also has layers with neither."""
    if config.model_type == "falcon_h1":
        return frozenset(range(config.layers))
    if config.model_type == "nemotron_h" and (pattern := config.text.get("hybrid_override_pattern")):
        return frozenset(number for number, letter in enumerate(str(pattern)) if letter == "*")
    if config.model_type == "zamba2":
        return frozenset(
            number for number, word in enumerate(config.words("layers_block_type")) if word in ("hybrid", "attention")
        )
    return frozenset(range(config.layers)) - stateful


def _shared_layers(config: ModelConfig) -> int:
    if config.model_type not in ("gemma3n_text", "gemma4_text"):
        return 0
    return min(config.optional("num_kv_shared_layers") or 0, config.layers - 1)


def _gemma4_global(config: ModelConfig, cache: CacheLayer) -> CacheLayer:
    """Gemma 4's full layers have larger heads, and with attention_k_eq_v fewer of them for keys and values."""
    size = config.optional("global_head_dim") or cache.key_size
    fewer = config.optional("num_global_key_value_heads") if config.flag("attention_k_eq_v") else None
    return replace(cache, key_size=size, value_size=size, kv_heads=fewer or cache.kv_heads)


def _skips_index(config: ModelConfig, layer: int) -> bool:
    """GLM's sparse attention reuses the search of an earlier layer (vLLM, models/deepseek_v32/attention.py)."""
    pattern = config.text.get("index_topk_pattern")
    if isinstance(pattern, str):
        return layer < len(pattern) and pattern[layer] == "S"
    every, offset = config.optional("index_topk_freq") or 1, config.optional("index_skip_topk_offset") or 2
    return max(layer - offset + 1, 0) % every != 0


def _largest(config: ModelConfig, suffix: str, least: int) -> int:
    found = [whole_number(value) or 0 for key, value in config.text.items() if str(key).endswith(suffix)]
    return max([least, *found])


def _in_words(heads: int, kv_heads: int, caches: list[CacheLayer]) -> str:
    if any(cache.kind is Kind.LATENT for cache in caches):
        name = "multi-head latent attention"
    elif kv_heads == heads:
        name = "multi-head attention"
    else:
        name = "multi-query attention" if kv_heads == 1 else "grouped-query attention"
    local = sum(cache.kind is Kind.WINDOW for cache in caches)
    chunked = sum(cache.kind is Kind.CHUNK for cache in caches)
    if local:
        window = next(cache.window for cache in caches if cache.kind is Kind.WINDOW)
        return f"{name}, {local} of {len(caches)} layers within a window of {window:,} tokens"
    return f"{name}, {chunked} of {len(caches)} layers within chunks" if chunked else name
