"""How many parameters a model has, and how many of them take part in one token: mixtures of experts use a few of many.

Counted from the tensors' shapes, not taken from a name: every number a stored tensor stands for (quantization.py), less
scales and other tables. Active: everything outside the experts, shared experts included, plus the experts' numbers ×
experts per token / experts. Embeddings count in both, tied ones once, as they are stored. Layers that only predict
further tokens (DeepSeek's MTP) are in the total and not in the active, as are no other layers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from freehold.registry.inspection.quantization import logical_elements
from freehold.registry.inspection.tree import count_of, mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from freehold.registry.inspection.quantization import Quantization
    from freehold.registry.inspection.weights import Tensor

# Routed experts, each by itself (`…experts.7.…`) or fused (`…experts.gate_up_proj`, Granite's `input_linear`, Step's
# `moe.up_proj`). `shared_experts` and `shared_expert` do not match: every token passes through them.
_EXPERT: Final = re.compile(
    r"(?:^|\.)(?:local_)?experts\.|block_sparse_moe\.(?:input|output)_linear|\.moe\.(?:gate|up|down)_proj"
)
_LAYER: Final = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_DRAFT: Final = re.compile(r"(?:^|\.)mtp(?:_\w+)?\.")

_EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
_PER_TOKEN = (
    "num_experts_per_tok", "experts_per_token", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k",
    "moe_top_k", "num_selected_experts",
)  # fmt: skip


@dataclass(frozen=True)
class Count:
    """Parameters: all, those that take part in one token (null where that is unknown), those that only draft."""

    total: int
    active: int | None
    draft: int
    experts: int | None
    experts_per_token: int | None


def count_parameters(tensors: Iterable[Tensor], text: Mapping[str, Any], quantization: Quantization | None) -> Count:
    """Counts the tensors of a model whose language part of the configuration is `text`."""
    experts, per_token = routing(text)
    first_draft = _first_draft(text)
    total = routed = draft = 0
    for tensor in tensors:
        elements = logical_elements(tensor, quantization)
        total += elements
        if _drafts(tensor.name, first_draft):
            draft += elements
        elif _EXPERT.search(tensor.name):
            routed += elements
    active: int | None = total - draft
    if routed:
        known = experts and per_token and per_token <= experts
        active = total - draft - routed + routed * (per_token or 0) // (experts or 1) if known else None
    return Count(total, active, draft, experts if routed else None, per_token if routed else None)


def routing(text: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Experts of a layer, and how many of them a token takes."""
    ffn = mapping(text.get("ffn_config"))  # DBRX
    experts = _first(text, _EXPERTS) or _first(ffn, _EXPERTS)
    return experts, _first(text, _PER_TOKEN) or _first(ffn, _PER_TOKEN)


def _first(config: Mapping[str, Any], names: Iterable[str]) -> int | None:
    for name in names:
        value = config.get(name)
        number = count_of(value[0] if isinstance(value, list) and value else value)  # a list: one a layer, or a kind
        if number:
            return number
    return None


def _first_draft(text: Mapping[str, Any]) -> int | None:
    """Number of the first layer that only drafts; the count of real layers is known and drafting ones come after."""
    drafting = count_of(text.get("num_nextn_predict_layers")) or count_of(text.get("num_mtp_layers"))
    return count_of(text.get("num_hidden_layers")) if drafting else None


def _drafts(name: str, first: int | None) -> bool:
    if _DRAFT.search(name):
        return True
    layer = _LAYER.search(name) if first is not None else None
    return layer is not None and first is not None and int(layer[1][:9]) >= first
