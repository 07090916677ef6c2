"""Which layers see a window or a chunk instead of everything. Called by layers.py."""

from __future__ import annotations

from typing import Final

from freehold.serving.sizing.configuration import ModelConfig

# These take a window only where use_sliding_window says so; it is false unless stated (transformers).
_WINDOW_ON_REQUEST: Final = frozenset(
    {"qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen2_vl", "qwen2_5_vl", "qwen2_vl_text"}
    | {"qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text", "qwen3_omni_moe_text"}
)  # fmt: skip

# Every n-th layer sees everything, the others a window, where the configuration does not list them (transformers).
_PATTERNS: Final = {
    "gemma2": 2,
    "gemma3_text": 6,
    "gemma3": 6,
    "cohere2": 4,
    "olmo3": 4,
    "gemma3n_text": 5,
    "gemma4_text": 6,
}
_LOCAL = ("sliding_attention", "local_attention", "sliding_window")


def windows_of(config: ModelConfig, count: int) -> tuple[int, ...]:
    """Tokens of each layer's window, 0 for none."""
    window, model = config.optional("sliding_window") or 0, config.model_type
    if not window or not config.flag("use_sliding_window", default=model not in _WINDOW_ON_REQUEST):
        return (0,) * count
    if model == "cohere2":
        window += 1  # vLLM, models/commandr.py: its window counts the token itself
    kinds, pattern = config.words("layer_types"), config.optional("sliding_window_pattern", "_sliding_window_pattern")
    letters = config.text.get("sliding_window_pattern")
    if model == "gpt_oss":  # vLLM, models/gpt_oss.py: the even layers, whatever layer_types says
        local = [layer % 2 == 0 for layer in range(count)]
    elif len(kinds) >= count:
        local = [kinds[layer] in _LOCAL for layer in range(count)]
    elif isinstance(letters, str) and letters:
        local = [letters[layer % len(letters)] == "L" for layer in range(count)]
    elif model in _WINDOW_ON_REQUEST:
        local = [layer >= (config.optional("max_window_layers") or 0) for layer in range(count)]
    elif pattern or model in _PATTERNS:
        every = pattern or _PATTERNS[model]
        local = [bool((layer + 1) % every) for layer in range(count)]
    else:
        local = [True] * count
    return tuple(window if here else 0 for here in local)


def chunks_of(config: ModelConfig, count: int) -> frozenset[int]:
    """Llama 4's layers with rotary positions attend within a chunk (transformers, no_rope_layers: 1 means rotary)."""
    if config.model_type != "llama4_text" or not config.optional("attention_chunk_size"):
        return frozenset()
    stated, every = config.numbers("no_rope_layers"), config.optional("no_rope_layer_interval") or 4
    rotary = stated if len(stated) >= count else tuple(int((layer + 1) % every != 0) for layer in range(count))
    return frozenset(layer for layer in range(count) if rotary[layer])
