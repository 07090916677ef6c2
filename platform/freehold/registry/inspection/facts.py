"""What a model is, read from its configuration and headers: architecture, task, size, context length, licence."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from freehold.registry.choices import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freehold.registry.inspection.weights import Tensor

CONFIG: Final = "config.json"
ADAPTER_CONFIG: Final = "adapter_config.json"

_CONTEXT = ("max_position_embeddings", "max_sequence_length", "n_positions", "seq_length", "n_ctx")
_DIMENSIONS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
    "vocab_size", "sliding_window", "kv_lora_rank", "num_experts", "n_routed_experts", "num_experts_per_tok",
)  # fmt: skip
_GENERATES = re.compile(r".*For(CausalLM|ConditionalGeneration)|.*LMHeadModel")
_LICENCE = re.compile(r"^license:[ \t]*['\"]?([\w.+-]+)", re.MULTILINE)


@dataclass
class Tree:
    """What the readers found: `documents` are the parsed JSON files, `headers` the tensors of each weight file."""

    sizes: dict[str, int] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, list[Tensor]] = field(default_factory=dict)
    readme: str = ""


def describe(tree: Tree) -> dict[str, Any]:
    """The facts, as JSON. Unknown facts are null; sizes are bytes, `parameters` counts stored numbers."""
    config = _object(tree.documents.get(CONFIG))
    text = _object(config.get("text_config")) or config
    architectures = config.get("architectures")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else None
    dtypes: Counter[str] = Counter()
    tensors = 0
    for name in _weight_files(tree):
        for tensor in tree.headers[name]:
            dtypes[tensor.dtype] += tensor.elements
            tensors += 1
    return {
        "architecture": architecture if isinstance(architecture, str) else None,
        "model_type": _text(config.get("model_type")),
        "task": _task(tree, architecture),
        "adapter": ADAPTER_CONFIG in tree.sizes and CONFIG not in tree.sizes,
        "base_model": _text(_object(tree.documents.get(ADAPTER_CONFIG)).get("base_model_name_or_path")),
        "parameters": sum(dtypes.values()),
        "tensors": tensors,
        "dtypes": dict(sorted(dtypes.items())),
        "quantization": _text(_object(config.get("quantization_config")).get("quant_method")),
        "max_model_len": _context(tree, text),
        "dimensions": {name: text[name] for name in _DIMENSIONS if type(text.get(name)) is int},
        "licence": _licence(tree.readme),
        "has_chat_template": _has_chat_template(tree),
        "total_bytes": sum(tree.sizes.values()),
        "weight_bytes": sum(tree.sizes[name] for name in _weight_files(tree)),
        "files": len(tree.sizes),
    }


def missing(tree: Tree) -> list[str]:
    """What the tree lacks to be deployable: names of files, or `*.safetensors` where there are no weights at all."""
    lacking = [] if tree.headers else ["*.safetensors"]
    if CONFIG not in tree.sizes and ADAPTER_CONFIG not in tree.sizes:
        lacking.append(CONFIG)
    for path, document in tree.documents.items():
        if path.endswith(".safetensors.index.json"):
            folder = path.rpartition("/")[0]
            shards = {f"{folder}/{name}".lstrip("/") for name in _weight_map(document)}
            lacking += sorted(shards - set(tree.sizes))
    return lacking


def _weight_files(tree: Tree) -> list[str]:
    """The files that hold the model once: repos often carry a second copy (`consolidated`, sub-folders)."""
    index = tree.documents.get("model.safetensors.index.json")
    shards = sorted({name for name in _weight_map(index) if name in tree.headers})
    if shards:
        return shards
    if "model.safetensors" in tree.headers:
        return ["model.safetensors"]
    return sorted(name for name in tree.headers if "/" not in name) or sorted(tree.headers)


def _weight_map(document: Any) -> list[str]:
    return [name for name in _object(_object(document).get("weight_map")).values() if isinstance(name, str)]


def _task(tree: Tree, architecture: Any) -> str:
    if "modules.json" in tree.sizes:  # sentence-transformers: an embedding model, whatever its architecture
        return Task.EMBED.value
    generates = not isinstance(architecture, str) or _GENERATES.fullmatch(architecture)
    return (Task.GENERATE if generates else Task.EMBED).value


def _context(tree: Tree, text: Mapping[str, Any]) -> int | None:
    sentences = _object(tree.documents.get("sentence_bert_config.json")).get("max_seq_length")
    candidates = [sentences, *(text.get(name) for name in _CONTEXT)]
    return next((value for value in candidates if type(value) is int and 0 < value < 2**31), None)


def _has_chat_template(tree: Tree) -> bool:
    tokenizer = _object(tree.documents.get("tokenizer_config.json"))
    return bool(tokenizer.get("chat_template")) or bool({"chat_template.jinja", "chat_template.json"} & set(tree.sizes))


def _licence(readme: str) -> str | None:
    """`license:` of the model card's front matter (https://huggingface.co/docs/hub/model-cards)."""
    parts = readme.split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    found = _LICENCE.search(parts[1])
    return found.group(1).lower() if found else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) else None
