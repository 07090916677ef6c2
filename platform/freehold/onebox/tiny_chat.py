"""A chat model made on the spot: Qwen3's architecture, 0.3 MB, random weights. It answers, and talks nonsense.

Called by models.py (`make up`) and by tests. It needs neither torch nor transformers: a safetensors file is a header
and bytes (https://huggingface.co/docs/safetensors), bfloat16 is the upper half of a float32. One seed, the same bytes.
"""

from __future__ import annotations

import json
import math
import random
import struct
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE, VOCABULARY = 64, 2, 4, 2, 32, 128, 512
MAX_LENGTH = 2048
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SCALE = 0.05

_SENTENCES = (
    "The customer owns the place where the model lives.",
    "Nobody can change it, price it away, read it or clone it from above.",
    "A model that you hold is a house that you own: freehold.",
    "The quick brown fox jumps over the lazy dog, and the dog asks what it costs per million tokens.",
    "user assistant system hello world, this is a small model with random weights that says what comes to its mind.",
    "Operators install regions, clusters and pools; developers upload weights, deploy endpoints and read invoices.",
    "Tokens flow through the gateway while journals remember every answer, even across crashes and power failures.",
    "Copyright, licence, sovereignty: words of ownership that lawyers, engineers and ministers understand differently.",
)

# ChatML, as Qwen's own models use it.
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_chat(folder: Path, *, seed: int = 20261123) -> Path:
    """Writes the model to `folder` (made where missing): config, generation config, tokenizer, weights. Returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer().save(str(folder / "tokenizer.json"))
    _write_json(folder / "config.json", _config())
    _write_json(
        folder / "generation_config.json",
        {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0, "do_sample": True, "temperature": 1.0},
    )
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None,
            "eos_token": _SPECIAL[2],
            "pad_token": _SPECIAL[0],
            "unk_token": None,
            "model_max_length": MAX_LENGTH,
            "clean_up_tokenization_spaces": False,
            "chat_template": _TEMPLATE,
        },
    )
    (folder / "model.safetensors").write_bytes(_weights(random.Random(seed)))  # noqa: S311 - reproducible, not secret
    (folder / "README.md").write_text(
        "---\nlicense: apache-2.0\n---\n\n# tiny-chat\n\nQwen3's architecture with random weights, made on the spot by "
        "`make up`. It shows that serving works; what it says means nothing.\n"
    )
    return folder


def _config() -> dict[str, object]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": MAX_LENGTH,
        "max_window_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": VOCABULARY,
    }


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise AssertionError(
            "The sentences are too few for the vocabulary: some outputs of the model would be no tokens."
        )
    return tokenizer


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (VOCABULARY, HIDDEN),
    }
    for number in range(LAYERS):
        layer = f"model.layers.{number}."
        shapes |= {
            f"{layer}input_layernorm.weight": (HIDDEN,),
            f"{layer}post_attention_layernorm.weight": (HIDDEN,),
            f"{layer}self_attn.q_proj.weight": (HEADS * HEAD_DIM, HIDDEN),
            f"{layer}self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{layer}self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{layer}self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
            f"{layer}self_attn.q_norm.weight": (HEAD_DIM,),
            f"{layer}self_attn.k_norm.weight": (HEAD_DIM,),
            f"{layer}mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{layer}mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{layer}mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
        }
    return shapes


def _weights(source: random.Random) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, shape in _shapes().items():
        count = math.prod(shape)
        values = [1.0] * count if "norm" in name else [source.gauss(0.0, _SCALE) for _ in range(count)]
        data = _bfloat16(values)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(body)


def _bfloat16(values: list[float]) -> bytes:
    whole = struct.pack(f"<{len(values)}f", *values)
    halves = bytearray(len(values) * 2)
    halves[0::2], halves[1::2] = whole[2::4], whole[3::4]
    return bytes(halves)


def _write_json(file: Path, content: dict[str, object]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")
