"""Safetensors files that are wrong in one named way, with random parameters: every one must be refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

WIDTHS = {"F32": 4, "BF16": 2, "I64": 8, "U8": 1, "F64": 8, "F16": 2, "I32": 4, "F8_E4M3": 1, "BOOL": 1}

Header = dict[str, Any]
Malformation = Callable[[random.Random, Header, int], bytes]

KINDS: dict[str, Malformation] = {}


def valid(chance: random.Random, *, least: int = 2) -> tuple[Header, int]:
    """A valid header of a few random tensors, and the bytes its tensors take."""
    header: Header = {}
    position = 0
    for number in range(chance.randint(least, 6)):
        dtype = chance.choice(sorted(WIDTHS))
        shape = [chance.randint(1, 6) for _ in range(chance.randint(0, 3))]
        size = WIDTHS[dtype]
        for dimension in shape:
            size *= dimension
        name = f"model.layers.{number}.{chance.choice(('q_proj', 'k_proj', 'mlp', 'norm'))}.weight"
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    if chance.random() < 0.5:
        header["__metadata__"] = {"format": "pt"}
    return header, position


def framed(header: Header | str | bytes, size: int) -> bytes:
    """A file of a header and so many bytes of tensors."""
    text = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


def malformed(chance: random.Random, kind: str) -> bytes:
    """A file that is wrong in the way `kind` names."""
    header, size = valid(chance)
    return KINDS[kind](chance, header, size)


def _kind(malformation: Malformation) -> Malformation:
    KINDS[malformation.__name__] = malformation
    return malformation


def _name(chance: random.Random, header: Header) -> str:
    return chance.choice([name for name in header if name != "__metadata__"])


def _raw(header: Header, name: str, key: str, written: str) -> str:
    """The header as text, with one value written as given."""
    changed = {**header, name: {**header[name], key: "@@"}}
    return json.dumps(changed).replace('"@@"', written)


@_kind
def duplicate_tensor(chance: random.Random, header: Header, size: int) -> bytes:
    name = _name(chance, header)
    other = json.dumps({name: header[chance.choice([name, _name(chance, header)])]})
    return framed(json.dumps(header)[:-1] + ", " + other[1:], size)


@_kind
def duplicate_tensor_escaped(chance: random.Random, header: Header, size: int) -> bytes:
    name = _name(chance, header)
    spot = chance.randrange(len(name))
    spelled = f"{name[:spot]}\\u{ord(name[spot]):04x}{name[spot + 1 :]}"
    return framed(f'{json.dumps(header)[:-1]}, "{spelled}": {json.dumps(header[name])}}}', size)


@_kind
def duplicate_key_of_entry(chance: random.Random, header: Header, size: int) -> bytes:
    name = _name(chance, header)
    key = chance.choice(["dtype", "shape", "data_offsets"])
    value = json.dumps(header[name][key])
    return framed(_raw(header, name, key, f'{value}, "{key}": {value}'), size)


@_kind
def duplicate_metadata(chance: random.Random, header: Header, size: int) -> bytes:
    header.pop("__metadata__", None)
    twice = '"__metadata__": {"a": "1"}, "__metadata__": {"a": "2"}'
    inside = f'"__metadata__": {{"a": "1", "b": "{chance.random()}", "a": "2"}}'
    return framed("{" + chance.choice([twice, inside]) + ", " + json.dumps(header)[1:], size)


@_kind
def overlap(chance: random.Random, header: Header, size: int) -> bytes:
    name = list(header)[1]
    by = chance.randint(1, max(1, header[next(iter(header))]["data_offsets"][1]))
    begin, end = header[name]["data_offsets"]
    header[name]["data_offsets"] = [begin - by, end - by]
    return framed(header, size)


@_kind
def hole(chance: random.Random, header: Header, size: int) -> bytes:
    by, after = chance.randint(1, 64), chance.randrange(len([name for name in header if name != "__metadata__"]))
    for name in [name for name in header if name != "__metadata__"][after:]:
        header[name]["data_offsets"] = [offset + by for offset in header[name]["data_offsets"]]
    return framed(header, size + by)


@_kind
def trailing_bytes(chance: random.Random, header: Header, size: int) -> bytes:
    return framed(header, size + chance.randint(1, 4096))


@_kind
def truncated(chance: random.Random, header: Header, size: int) -> bytes:
    content = framed(header, size)
    return content[: -chance.randint(1, size)]


@_kind
def truncated_header(chance: random.Random, header: Header, size: int) -> bytes:
    content = framed(header, 0)
    return content[: chance.randrange(len(content) - 2)]


@_kind
def other_dtype(chance: random.Random, header: Header, size: int) -> bytes:
    name = _name(chance, header)
    width = WIDTHS[header[name]["dtype"]]
    header[name]["dtype"] = chance.choice([dtype for dtype in sorted(WIDTHS) if WIDTHS[dtype] != width])
    return framed(header, size)


@_kind
def unknown_dtype(chance: random.Random, header: Header, size: int) -> bytes:
    name = _name(chance, header)
    header[name]["dtype"] = chance.choice(["f32", "F128", "Q4_K", "", "F32 ", "OBJECT", 7, None, ["F32"]])
    return framed(header, size)


@_kind
def other_shape(chance: random.Random, header: Header, size: int) -> bytes:
    name = _name(chance, header)
    header[name]["shape"] = [*header[name]["shape"], chance.choice([0, 2, 3, 2**20])]
    return framed(header, size)


@_kind
def negative_shape(chance: random.Random, header: Header, size: int) -> bytes:
    name = _name(chance, header)
    header[name]["shape"] = [-value for value in header[name]["shape"]] or [-1]
    return framed(header, size)


@_kind
def negative_zero(chance: random.Random, header: Header, size: int) -> bytes:
    name = next(iter(header))
    end = header[name]["data_offsets"][1]
    return framed(_raw(header, name, "data_offsets", f"[-0, {end}]"), size)


@_kind
def fraction(chance: random.Random, header: Header, size: int) -> bytes:
    name, key = _name(chance, header), chance.choice(["shape", "data_offsets"])
    values = [float(value) for value in header[name][key]] or [1.0]
    written = json.dumps(values) if chance.random() < 0.5 else str([f"{int(value)}e0" for value in values])
    return framed(_raw(header, name, key, written.replace("'", "")), size)


@_kind
def huge_number(chance: random.Random, header: Header, size: int) -> bytes:
    name, key = _name(chance, header), chance.choice(["shape", "data_offsets"])
    digits = chance.choice([19, 20, 21, 40, 400, 5000])
    header_text = _raw(header, name, key, f"[{'9' * digits}, {'9' * digits}]")
    return framed(header_text, size)


@_kind
def overflowing_shape(chance: random.Random, header: Header, size: int) -> bytes:
    name = _name(chance, header)
    header[name]["shape"] = chance.choice([[2**62, 2**62], [2**32, 2**32], [2**63, 2], [2**62, 2**62, 0], [2**61, 8]])
    if 0 in header[name]["shape"]:
        header = {"a": {"dtype": "F32", "shape": [2**62, 2**62, 0], "data_offsets": [0, 0]}}
        size = 0
    return framed(header, size)


@_kind
def truth_for_number(chance: random.Random, header: Header, size: int) -> bytes:
    name, key = _name(chance, header), chance.choice(["shape", "data_offsets"])
    header[name][key] = chance.choice([[True], [True, False], [False, True, 1]])
    return framed(header, size)


@_kind
def other_type(chance: random.Random, header: Header, size: int) -> bytes:
    name, key = _name(chance, header), chance.choice(["shape", "data_offsets"])
    header[name][key] = chance.choice([None, "0,8", {"0": 8}, 8, ["0", "8"], [[0, 8]], [None, None]])
    return framed(header, size)


@_kind
def offsets_not_a_pair(chance: random.Random, header: Header, size: int) -> bytes:
    name = _name(chance, header)
    begin, end = header[name]["data_offsets"]
    header[name]["data_offsets"] = chance.choice([[], [begin], [begin, end, end], [end + 1, begin]])
    return framed(header, size)


@_kind
def header_length_lies(chance: random.Random, header: Header, size: int) -> bytes:
    content = framed(header, size)
    length = int.from_bytes(content[:8], "little")
    lie = chance.choice(
        [0, 1, length - 1, length + 1 + size, 8 * 2**20 + 1, 2**32, 2**63, 2**64 - 1, chance.randrange(length)]
    )
    return lie.to_bytes(8, "little") + content[8:]


@_kind
def too_short(chance: random.Random, header: Header, size: int) -> bytes:
    return chance.randbytes(chance.randrange(8))


@_kind
def not_an_object(chance: random.Random, header: Header, size: int) -> bytes:
    return framed(chance.choice(["[]", "null", "1", '"a"', "[{}]", "", " {}", "\ufeff{}"]), 0)


@_kind
def entry_not_an_object(chance: random.Random, header: Header, size: int) -> bytes:
    name = _name(chance, header)
    entry = header[name]
    header[name] = chance.choice([None, 1, "x", [], list(entry.values()), [entry], {}])
    return framed(header, size)


@_kind
def lacking_key(chance: random.Random, header: Header, size: int) -> bytes:
    del header[_name(chance, header)][chance.choice(["dtype", "shape", "data_offsets"])]
    return framed(header, size)


@_kind
def unknown_key(chance: random.Random, header: Header, size: int) -> bytes:
    header[_name(chance, header)][chance.choice(["strides", "Dtype", "offset", "", "__metadata__"])] = "x"
    return framed(header, size)


@_kind
def not_a_number(chance: random.Random, header: Header, size: int) -> bytes:
    name, key = _name(chance, header), chance.choice(["shape", "data_offsets", "dtype"])
    return framed(_raw(header, name, key, chance.choice(["NaN", "[NaN]", "Infinity", "[0, -Infinity]"])), size)


@_kind
def deep_nesting(chance: random.Random, header: Header, size: int) -> bytes:
    depth = chance.choice([130, 1_000, 5_000, 100_000])
    name, key = _name(chance, header), chance.choice(["shape", "data_offsets"])
    opening, closing = chance.choice([("[", "]"), ('{"a":', "}")])
    return framed(_raw(header, name, key, opening * depth + "1" + closing * depth), size)


@_kind
def nul_in_text(chance: random.Random, header: Header, size: int) -> bytes:
    name = _name(chance, header)
    return framed(json.dumps(header).replace(name, name + chance.choice(["\\u0000", "\0"]), 1), size)


@_kind
def invalid_utf8(chance: random.Random, header: Header, size: int) -> bytes:
    bad = chance.choice([b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\x80", b"\xc3"])
    return framed(json.dumps(header).encode().replace(b"model", b"mo" + bad + b"del", 1), size)


@_kind
def half_a_surrogate(chance: random.Random, header: Header, size: int) -> bytes:
    half = chance.choice(["\\ud800", "\\udfff", "\\uDBFF", "\\udc00\\ud800"])
    return framed(json.dumps(header).replace("model", "mo" + half, 1), size)


@_kind
def metadata_not_text(chance: random.Random, header: Header, size: int) -> bytes:
    header["__metadata__"] = chance.choice([1, None, [], "pt", {"a": 1}, {"a": None}, {"a": ["b"]}, {"a": {"b": "c"}}])
    return framed(header, size)


@_kind
def broken_json(chance: random.Random, header: Header, size: int) -> bytes:
    text = json.dumps(header)
    broken = [text[:-1] + ",}", text + "x", text[:-1], text + "{}", text.replace(":", "=", 1), text.replace('"', "'"),
              text + "\0", text[:-1] + "/* */}", "{" + text]  # fmt: skip
    return framed(chance.choice(broken), size)


@_kind
def random_header(chance: random.Random, header: Header, size: int) -> bytes:
    return framed(b"{" + chance.randbytes(chance.randint(1, 200)), size)
