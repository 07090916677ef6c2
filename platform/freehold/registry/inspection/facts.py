"""What a model is, from its configuration, headers, card and licence: the one place that puts the facts together."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from freehold.registry.choices import Task
from freehold.registry.inspection import card as cards
from freehold.registry.inspection.configuration import (
    architecture_of,
    configuration,
    context_facts,
    pruned,
    text_part,
)
from freehold.registry.inspection.licence import licence_facts
from freehold.registry.inspection.parameters import count_parameters
from freehold.registry.inspection.parsers import reasoning_parser, tool_call_parser
from freehold.registry.inspection.quantization import quantization_of
from freehold.registry.inspection.tree import (
    ADAPTER_CONFIG,
    CONFIG,
    Tree,
    config_file,
    count_of,
    counted_weights,
    is_mistral,
    mapping,
    missing,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ADAPTER_CONFIG", "CONFIG", "Tree", "describe", "missing"]

_DIMENSIONS: Final = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
    "vocab_size", "sliding_window", "kv_lora_rank", "num_experts", "n_routed_experts", "num_experts_per_tok",
)  # fmt: skip
_GENERATES: Final = re.compile(r".*For(CausalLM|ConditionalGeneration)|.*LMHeadModel")
_CLASSIFIES: Final = re.compile(r".*For(Sequence|Token)Classification|.*RewardModel")
_MISTRAL_TOKENIZER: Final = re.compile(r"tekken\.json|tokenizer\.model\.v.*")
_MOST_TAGS: Final = 200
_MOST_LANGUAGES: Final = 200
_MOST_NAMES: Final = 50


def describe(tree: Tree) -> dict[str, Any]:
    """The facts, listed in docs/inspection.md, as JSON that every database holds. Unknown ones are null.

    `parameters` are those of the model, `dtypes` counts stored numbers: packed ones stand for several parameters each.
    """
    config = configuration(tree)
    text = text_part(config)
    card = cards.front_matter(tree.readme)
    architecture = architecture_of(config)
    quantization = quantization_of(config, text, mapping(tree.documents.get("hf_quant_config.json")))
    weights = counted_weights(tree)
    tensors = [tensor for name in weights for tensor in tree.headers[name]]
    dtypes: Counter[str] = Counter()
    for tensor in tensors:
        dtypes[tensor.dtype] += tensor.elements
    count = count_parameters(tensors, text, quantization)
    context = context_facts(tree, config)
    licences = licence_facts(card, tree.licences)
    mistral = is_mistral(tree) and any(_MISTRAL_TOKENIZER.fullmatch(path) for path in tree.sizes)
    templates = [template.text for template in tree.templates]
    model_type = text_of(config.get("model_type"))
    task = _task(tree, architecture)
    adapter = ADAPTER_CONFIG in tree.sizes and config_file(tree) not in tree.sizes
    return {
        "architecture": architecture,
        "model_type": model_type,
        "task": task.value,
        "kind": _kind(config, task, adapter=adapter, chat=bool(templates) or mistral),
        "adapter": adapter,
        "base_model": text_of(mapping(tree.documents.get(ADAPTER_CONFIG)).get("base_model_name_or_path"))
        or cards.text(card, "base_model"),
        "pipeline_tag": cards.text(card, "pipeline_tag"),
        "library_name": cards.text(card, "library_name"),
        "card_tags": cards.texts(card, "tags")[:_MOST_TAGS],
        "languages": cards.texts(card, "language")[:_MOST_LANGUAGES],
        "parameters": count.total,
        "parameters_active": count.active,
        "parameters_draft": count.draft,
        "experts": count.experts,
        "experts_per_token": count.experts_per_token,
        "tensors": len(tensors),
        "dtypes": dict(sorted(dtypes.items())),
        "quantization": quantization.method if quantization else None,
        "quantization_config": quantization.facts() if quantization else None,
        "max_model_len": context["max_model_len"],
        "context": context,
        "dimensions": {name: text[name] for name in _DIMENSIONS if count_of(text.get(name)) is not None},
        "config": pruned(config),
        "config_file": config_file(tree),
        "licence": licences["id"],
        "licences": licences,
        "has_chat_template": bool(templates),
        "chat_templates": [template.facts() for template in tree.templates],
        "tool_call_parser": tool_call_parser(model_type, templates, mistral=mistral),
        "reasoning_parser": reasoning_parser(model_type, templates, mistral=mistral),
        "total_bytes": sum(tree.sizes.values()),
        "weight_bytes": sum(tree.sizes[name] for name in weights),
        "files": len(tree.sizes),
        "python_files": [path for path in sorted(tree.sizes) if PurePosixPath(path).suffix == ".py"][:_MOST_NAMES],
    }


def _task(tree: Tree, architecture: str | None) -> Task:
    if "modules.json" in tree.sizes:  # sentence-transformers: an embedding model, whatever its architecture
        return Task.EMBED
    return Task.GENERATE if architecture is None or _GENERATES.fullmatch(architecture) else Task.EMBED


def _kind(config: Mapping[str, Any], task: Task, *, adapter: bool, chat: bool) -> str:
    """What people call the model. A reranker is a classifier with one label, as vLLM has it (`num_labels`)."""
    if adapter:
        return "adapter"
    if task is Task.GENERATE:
        return "chat" if chat else "completion"
    if _CLASSIFIES.fullmatch(architecture_of(config) or ""):
        labels = count_of(config.get("num_labels")) or len(mapping(config.get("id2label"))) or 2
        return "reranker" if labels == 1 else "classifier"
    return "embedding"
