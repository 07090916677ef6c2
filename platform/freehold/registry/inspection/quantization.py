"""How the weights are quantized, and how many numbers a stored tensor stands for: packed formats store several in one.

Method names as in `quantization_config` (transformers) and vLLM; suffixes as the tools that write them have them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from freehold.registry.inspection.tree import count_of, mapping, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freehold.registry.inspection.weights import Tensor

# What is stored beside quantized weights and is none itself: scales, zero points, orders, lookup tables.
_BESIDE: Final = re.compile(
    r"(?:.*\.|^)(?:qzeros|scales|g_idx|qscales|.*_scales|.*_scale|.*_scale_inv|.*_scale_2|scale|scale_inv"
    r"|.*_zero_point|zero_point|.*_shape|.*_g_idx|.*_global_scale|absmax|quant_map|nested_absmax|nested_quant_map"
    r"|quant_state\.bitsandbytes__\w+|SCB|weight_format|workspace|meta)$"
)
_PACKED_INTEGERS: Final = re.compile(r".*(?:qweight|_packed)$")
_BLOCKS: Final = re.compile(r".*_blocks$")
_FOUR_BITS: Final = re.compile(r"nvfp4|mxfp4|fp4|nf4|int4|w4a", re.IGNORECASE)
_WORDS: Final = {"I32": 32, "U32": 32, "I64": 64, "U8": 8, "I8": 8, "I16": 16}


@dataclass(frozen=True)
class Quantization:
    """How weights are stored. `bits` are those of a weight; `group_size` weights share a scale, -1 a whole row."""

    method: str
    bits: int | None
    group_size: int | None
    format: str | None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"method": self.method, "bits": self.bits, "group_size": self.group_size, "format": self.format}


def quantization_of(
    config: Mapping[str, Any], text: Mapping[str, Any], beside: Mapping[str, Any]
) -> Quantization | None:
    """From the configuration, its language part, or ModelOpt's hf_quant_config.json `beside` it, in vLLM's order."""
    places = [
        config.get("quantization_config"),
        text.get("quantization_config"),
        config.get("compression_config"),
        mapping(beside.get("quantization")) or beside.get("quantization_config"),
    ]
    found = next((mapping(place) for place in places if mapping(place)), None)
    return None if found is None else _read(found)


def _read(found: Mapping[str, Any]) -> Quantization:
    scheme = _first_scheme(found)
    method = text_of(found.get("quant_method")) or ("modelopt" if _algorithm(found) else "unknown")
    form = text_of(found.get("format")) or text_of(scheme.get("format")) or _algorithm(found)
    if form is None and method == "bitsandbytes":
        form = text_of(found.get("bnb_4bit_quant_type")) if found.get("load_in_4bit") else "int8"
    form = form or text_of(found.get("fmt")) or text_of(found.get("checkpoint_format"))
    weights = mapping(scheme.get("weights"))
    widths = (count_of(place.get(key)) for place in (found, weights) for key in ("bits", "num_bits", "w_bit"))
    bits = next(filter(None, widths), None)
    sizes = (place.get(key) for place in (found, weights) for key in ("group_size", "q_group_size"))
    group = next((value for value in sizes if type(value) is int and -1 <= value < 2**31), None)
    return Quantization(method, bits or _bits(method, form, found), group, form)


def _first_scheme(found: Mapping[str, Any]) -> dict[str, Any]:
    """compressed-tensors and ModelOpt describe groups of layers; the first speaks for the model."""
    groups = mapping(found.get("config_groups"))
    return next((mapping(group) for group in groups.values() if mapping(group)), {})


def _algorithm(found: Mapping[str, Any]) -> str | None:
    return text_of(found.get("quant_algo"))


def _bits(method: str, form: str | None, found: Mapping[str, Any]) -> int | None:
    said = f"{method} {form or ''}"
    if method == "bitsandbytes":
        return 4 if found.get("load_in_4bit") else 8
    if _FOUR_BITS.search(said):
        return 4
    return 8 if re.search(r"fp8|int8|w8a|float-quantized|fbgemm", said, re.IGNORECASE) else None


def logical_elements(tensor: Tensor, quantization: Quantization | None) -> int:
    """How many weights a stored tensor stands for: 0 for scales and the like, several for a packed integer."""
    packed, blocks = _PACKED_INTEGERS.fullmatch(tensor.name), _BLOCKS.fullmatch(tensor.name)
    if quantization is None and not packed and not (blocks and tensor.dtype == "U8"):
        return tensor.elements if not (tensor.dtype == "U8" and _BESIDE.match(tensor.name)) else 0
    if blocks and tensor.dtype == "U8":
        return tensor.elements * 2  # MXFP4 as gpt-oss stores it: two weights a byte, scales in `*_scales`
    if _BESIDE.match(tensor.name):
        return 0
    bits = (quantization.bits if quantization else None) or 4
    width = _WORDS.get(tensor.dtype)
    if packed and width is not None:
        return tensor.elements * width // bits
    if tensor.dtype == "U8" and bits == 4:
        return tensor.elements * 2  # bitsandbytes, ModelOpt's NVFP4 and Quark's MXFP4: two weights a byte
    return tensor.elements
