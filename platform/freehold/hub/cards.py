"""A model in the Hub's words: tags, task, library and card, told from what inspection found. Pure.

The words are those of https://huggingface.co/docs/hub/model-cards and of huggingface_hub's ModelInfo.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

Facts = Mapping[str, Any]

# Of Revision.inspection: what the functions here read, so that lists load no more.
USED: Final = (
    "adapter", "architecture", "base_model", "card_tags", "dtypes", "kind", "languages", "library_name", "licence",
    "model_type", "parameters", "pipeline_tag", "quantization",
)  # fmt: skip

_TASKS: Final = {
    "chat": "text-generation",
    "completion": "text-generation",
    "embedding": "feature-extraction",
    "reranker": "text-ranking",
    "classifier": "text-classification",
}
_AUTO_MODELS: Final = (
    (re.compile(r".*ForCausalLM|.*LMHeadModel"), "AutoModelForCausalLM"),
    (re.compile(r".*ForConditionalGeneration"), "AutoModelForImageTextToText"),
    (re.compile(r".*ForSequenceClassification"), "AutoModelForSequenceClassification"),
    (re.compile(r".*ForTokenClassification"), "AutoModelForTokenClassification"),
    (re.compile(r".*"), "AutoModel"),
)


def pipeline_tag(facts: Facts) -> str | None:
    """The task: what the card says, else what the weights are made for."""
    said = facts.get("pipeline_tag")
    if said or not facts.get("architecture"):
        return said or None
    return _TASKS.get(facts.get("kind") or "")


def library(facts: Facts) -> str | None:
    """What loads the model: what the card says, else what its files are."""
    if said := facts.get("library_name"):
        return str(said)
    if facts.get("adapter"):
        return "peft"
    return "transformers" if facts.get("model_type") else None


def tags(facts: Facts) -> list[str]:
    """Every word the model can be found by, each once."""
    words = [
        library(facts),
        "safetensors" if facts.get("dtypes") else None,
        facts.get("model_type"),
        pipeline_tag(facts),
        *(facts.get("card_tags") or []),
        "conversational" if facts.get("kind") == "chat" else None,
        *(facts.get("languages") or []),
        facts.get("quantization"),
        _prefixed("base_model", facts.get("base_model")),
        _prefixed("license", facts.get("licence")),
    ]
    return list(dict.fromkeys(str(word) for word in words if word))


def card(facts: Facts) -> dict[str, Any]:
    """The front matter of the README, as far as it is known."""
    entries = {
        "license": facts.get("licence"),
        "language": facts.get("languages"),
        "library_name": facts.get("library_name"),
        "pipeline_tag": facts.get("pipeline_tag"),
        "base_model": facts.get("base_model"),
        "tags": facts.get("card_tags"),
    }
    return {name: value for name, value in entries.items() if value}


def config(facts: Facts) -> dict[str, Any]:
    """What lists show of config.json."""
    architecture, model_type = facts.get("architecture"), facts.get("model_type")
    entries = {"architectures": [architecture] if architecture else None, "model_type": model_type}
    return {name: value for name, value in entries.items() if value}


def transformers_info(facts: Facts) -> dict[str, str] | None:
    """The class that loads the model; None where transformers does not."""
    architecture = facts.get("architecture")
    if not architecture or library(facts) not in {"transformers", "sentence-transformers"}:
        return None
    auto_model = next(name for pattern, name in _AUTO_MODELS if pattern.fullmatch(architecture))
    info = {"auto_model": auto_model, "processor": "AutoTokenizer"}
    if task := pipeline_tag(facts):
        info["pipeline_tag"] = task
    return info


def safetensors(facts: Facts) -> dict[str, Any] | None:
    """Numbers by type, and parameters; None where there are no weights."""
    dtypes = facts.get("dtypes")
    return {"parameters": dtypes, "total": facts.get("parameters") or sum(dtypes.values())} if dtypes else None


def _prefixed(prefix: str, value: object) -> str | None:
    return f"{prefix}:{value}" if value else None
