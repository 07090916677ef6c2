"""What the readers found in a repo, and which of it the engine takes: repos often hold a model in several forms."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from freehold.registry.inspection.templates import Template
    from freehold.registry.inspection.weights import Tensor

CONFIG: Final = "config.json"
ADAPTER_CONFIG: Final = "adapter_config.json"
MISTRAL_CONFIG: Final = "params.json"

_MISTRAL_WEIGHTS: Final = "consolidated*.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_MISTRAL_INDEX: Final = "consolidated.safetensors.index.json"


@dataclass
class Tree:
    """What the readers found.

    Attributes:
        sizes: bytes of every file.
        documents: the parsed JSON files at the top, vocabularies excepted.
        headers: the tensors of each weight file.
        header_bytes: what their headers take, all together.
        readme: the text of README.md, or its beginning.
        licences: the texts of licence files at the top, or their beginnings.
        templates: every chat template the engine could take.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, list[Tensor]] = field(default_factory=dict)
    header_bytes: int = 0
    readme: str = ""
    licences: dict[str, str] = field(default_factory=dict)
    templates: list[Template] = field(default_factory=list)


def is_mistral(tree: Tree) -> bool:
    """Whether the engine takes Mistral's files in place of Hugging Face's.

    vLLM 0.32 does so where any folder holds such weights (is_mistral_model_repo, DefaultModelLoader._prepare_weights).
    """
    return any(fnmatchcase(path.rpartition("/")[2], _MISTRAL_WEIGHTS) for path in tree.headers)


def config_file(tree: Tree) -> str:
    """The file the engine takes the model's configuration from (vLLM 0.32, get_config)."""
    return MISTRAL_CONFIG if is_mistral(tree) and MISTRAL_CONFIG in tree.sizes else CONFIG


def served_weights(tree: Tree) -> list[str]:
    """The weight files the engine loads: those at the top, less what the index does not name.

    vLLM 0.32, DefaultModelLoader._prepare_weights and filter_duplicate_safetensors_files.
    """
    mistral = is_mistral(tree)
    pattern = _MISTRAL_WEIGHTS if mistral else "*.safetensors"
    found = sorted(path for path in tree.headers if "/" not in path and fnmatchcase(path, pattern))
    index = tree.documents.get(_MISTRAL_INDEX if mistral else _INDEX)
    named = set(weight_map(index))
    return [path for path in found if path in named] if index is not None else found


def counted_weights(tree: Tree) -> list[str]:
    """The weight files that hold the model once: those served, or whatever there is where none would be."""
    return served_weights(tree) or sorted(tree.headers)


def missing(tree: Tree) -> list[str]:
    """What the tree lacks to be deployable: names of files, or `*.safetensors` where there are no weights to load."""
    lacking = [] if served_weights(tree) else ["*.safetensors"]
    if config_file(tree) not in tree.sizes and ADAPTER_CONFIG not in tree.sizes:
        lacking.append(CONFIG)
    for path, document in tree.documents.items():
        if path.endswith(".safetensors.index.json"):
            lacking += sorted(set(weight_map(document)) - set(tree.sizes))
    return lacking


def weight_map(index: Any) -> list[str]:
    """The files an index names."""
    return [name for name in mapping(mapping(index).get("weight_map")).values() if isinstance(name, str)]


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is an object, or an empty one: untrusted documents have anything anywhere."""
    return value if isinstance(value, dict) else {}


def text_of(value: Any) -> str | None:
    """The value if it is text, shortened to what a fact holds."""
    return value[:200] if isinstance(value, str) else None


def count_of(value: Any) -> int | None:
    """The value if it is a whole number that could count something."""
    return value if type(value) is int and 0 <= value < 2**31 else None
