"""Tiny model folders that are valid, or wrong in one named way: for uploads, inspection and fetching."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "max_position_embeddings": 512,
}
README = "---\nlicense: apache-2.0\n---\n# A tiny model\n"


def safetensors_bytes(tensors: Mapping[str, tuple[str, list[int], int]] | None = None, *, fill: int = 0) -> bytes:
    """A safetensors file: name → (dtype, shape, bytes); `fill` adds a tensor of so many random bytes."""
    entries = dict(tensors or {"weight": ("F32", [4, 4], 64)})
    if fill:
        entries["ballast"] = ("U8", [fill], fill)
    header: dict[str, Any] = {}
    position = 0
    for name, (dtype, shape, size) in entries.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    return framed(json.dumps(header).encode()) + os.urandom(position)


def framed(header: bytes) -> bytes:
    """A safetensors header with its length in front, and no tensors behind."""
    return len(header).to_bytes(8, "little") + header


def model_files(*, fill: int = 0) -> dict[str, bytes]:
    """A valid model by path; `fill` makes the weights larger."""
    return {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer_config.json": json.dumps({"chat_template": "{{ messages }}"}).encode(),
        "tokenizer.json": b'{"version": "1.0"}',
        "README.md": README.encode(),
        "model.safetensors": safetensors_bytes(fill=fill),
    }


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Writes files below `folder` and returns it."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def write_model(folder: Path, *, fill: int = 0) -> Path:
    """A valid model folder."""
    return write_folder(folder, model_files(fill=fill))
