"""A strict reader of safetensors headers.

The format: https://huggingface.co/docs/safetensors (eight bytes of header length, a JSON header, the tensors' bytes).
Stricter than the reference implementation, which takes duplicate keys and headers of 100 MB. Whatever is taken here the
reference reads alike (a property test compares the two): an engine must not see other tensors than the inspection did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from freehold.registry.inspection import strict_json
from freehold.registry.inspection.problems import Malformed

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER_BYTES: Final = 8 * 1024 * 1024
TENSORS: Final = 100_000
NAME_CHARACTERS: Final = 1024  # those of real models have a tenth; every name is kept, and shown in lists
DIMENSIONS: Final = 64  # PyTorch has no tensors of more

BITS: Final[Mapping[str, int]] = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip

_REMEDY = "Save the model again with the safetensors library, or upload the original file again."
_KEYS = {"dtype", "shape", "data_offsets"}
_LENGTH = 8
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a header. `begin` and `end` are bytes from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        count = 1
        for dimension in self.shape:
            count *= dimension
        return count


def read_header(stream: BinaryIO, size: int) -> list[Tensor]:
    """The tensors of a safetensors file of `size` bytes, by offset. Raises Malformed with a named reason."""
    prefix = stream.read(_LENGTH)
    if len(prefix) < _LENGTH or size < _LENGTH:
        raise _malformed("too_short", f"has {size} bytes, too few for a safetensors file")
    length = int.from_bytes(prefix, "little")
    if length > HEADER_BYTES:
        raise _malformed("header_too_large", f"declares a header of {length} bytes; at most {HEADER_BYTES} are read")
    if _LENGTH + length > size:
        raise _malformed("header_past_end", f"declares a header of {length} bytes, but the file ends before")
    content = stream.read(length)
    if len(content) != length or not content.startswith(b"{"):
        raise _malformed("header_not_json", "has a safetensors header that does not begin with '{'")
    try:
        header = strict_json.loads(content, parse_int=_whole_number)
    except Malformed as error:
        raise _malformed(error.reason, f"has a malformed safetensors header: it {error.detail}") from None
    tensors = _tensors(header)
    _check_layout(tensors, size - _LENGTH - length)
    return tensors


def _malformed(reason: str, detail: str) -> Malformed:
    return Malformed(reason, detail, _REMEDY)


def _whole_number(text: str) -> int:
    """A number of the header. `-0`, whole to Python, is a fraction to the reference: it counts as negative."""
    return -1 if text.startswith("-") else int(text)


def _tensors(header: Any) -> list[Tensor]:
    if not isinstance(header, dict):
        raise _malformed("header_not_object", "has a safetensors header that is not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _malformed("metadata", "has safetensors metadata that is not text by name")
    if len(header) > TENSORS:
        raise _malformed("too_many_tensors", f"declares {len(header)} tensors; at most {TENSORS} are read")
    tensors = [_tensor(name, entry) for name, entry in header.items()]
    return sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end))


def _tensor(name: str, entry: Any) -> Tensor:
    shown = name[:80]
    if len(name) > NAME_CHARACTERS:
        raise _malformed("name", f"has a tensor whose name has {len(name)} characters; at most {NAME_CHARACTERS} do")
    if not isinstance(entry, dict) or set(entry) != _KEYS:
        raise _malformed("entry", f"declares the tensor {shown!r} with other keys than dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _malformed("dtype", f"declares the tensor {shown!r} with an unknown dtype")
    if not _whole_numbers(shape):
        raise _malformed("shape", f"declares the tensor {shown!r} with a shape that is not a list of whole numbers")
    if len(shape) > DIMENSIONS:
        raise _malformed("shape", f"declares the tensor {shown!r} with {len(shape)} dimensions, {DIMENSIONS} at most")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _malformed("offsets", f"declares the tensor {shown!r} with data_offsets that are not a range")
    begin, end = offsets
    bits = _bits(shape, BITS[dtype])
    if bits is None or bits != (end - begin) * 8:
        raise _malformed(
            "size_mismatch",
            f"declares the tensor {shown!r} as {dtype}{list(shape)[:8]}, which is not the "
            f"{end - begin} bytes its data_offsets span",
        )
    return Tensor(name=name, dtype=dtype, shape=tuple(shape), begin=begin, end=end)


def _bits(shape: list[int], width: int) -> int | None:
    """Bits of a tensor; None where a step of the product leaves 63 bits, even if a later zero would bring it back."""
    bits = width
    for dimension in shape:
        bits *= dimension
        if bits > _LARGEST:
            return None
    return bits


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= _LARGEST for item in value)


def _check_layout(tensors: list[Tensor], available: int) -> None:
    """Tensors must fill the rest of the file exactly: nothing shared, nothing hidden."""
    position = 0
    for tensor in tensors:
        shown = tensor.name[:80]
        if tensor.begin < position:
            raise _malformed("overlap", f"has the tensor {shown!r} overlap another")
        if tensor.begin > position:
            raise _malformed("hole", f"leaves {tensor.begin - position} undeclared bytes before the tensor {shown!r}")
        position = tensor.end
    if position > available:
        raise _malformed("truncated", f"declares {position} bytes of tensors but holds {available}: it is cut off")
    if position < available:
        raise _malformed("trailing_bytes", f"has {available - position} undeclared bytes after its last tensor")
