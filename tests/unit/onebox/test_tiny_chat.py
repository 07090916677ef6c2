"""The chat model that is made on the spot."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from safetensors import deserialize
from tokenizers import Tokenizer

from freehold.onebox.tiny_chat import VOCABULARY, write_tiny_chat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_same_seed_makes_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_tiny_chat(tmp_path / "a"), write_tiny_chat(tmp_path / "b")
    for file in sorted(first.iterdir()):
        other = second / file.name
        assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest(), file.name


def test_another_seed_makes_other_weights(tmp_path: Path) -> None:
    first, second = write_tiny_chat(tmp_path / "a"), write_tiny_chat(tmp_path / "b", seed=1)
    assert (first / "model.safetensors").read_bytes() != (second / "model.safetensors").read_bytes()


def test_every_id_the_model_can_say_is_a_token(tmp_path: Path) -> None:
    folder = write_tiny_chat(tmp_path)
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size() == VOCABULARY
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == VOCABULARY


def test_safetensors_own_reader_accepts_the_weights(tmp_path: Path) -> None:
    folder = write_tiny_chat(tmp_path)
    read: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = deserialize
    tensors = dict(read((folder / "model.safetensors").read_bytes()))
    assert tensors["lm_head.weight"]["shape"] == [VOCABULARY, 64]
    assert tensors["model.layers.1.self_attn.q_norm.weight"]["dtype"] == "BF16"
