"""Against published figures: parameters, bytes of weights, bytes of KV cache a token. docs/sizing.md has the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from freehold.serving.sizing import Flavor, Model, Weights, Workload, size
from freehold.serving.sizing.configuration import ModelConfig
from freehold.serving.sizing.parameters import parameters_of
from freehold.serving.sizing.weights import weight_bytes_of

FOLDER = Path(__file__).parent / "configs"
NAMES = sorted(file.stem for file in FOLDER.glob("*.json"))
CPU = Flavor(name="cpu", accelerator="cpu", kv_cache_bytes=2**40)


def config_of(name: str) -> dict[str, Any]:
    """A config.json with what sizing needs, from public sources (`_source`), and published figures (`_published`)."""
    return dict(json.loads((FOLDER / f"{name}.json").read_text()))


def published(name: str) -> dict[str, Any]:
    return dict(config_of(name)["_published"])


def parameters(name: str) -> int:
    """Counted as the publisher counts: with drafting layers and FP8 scales where its figure has them."""
    config, includes = ModelConfig.of(config_of(name)), published(name).get("includes", ())
    found = parameters_of(config)
    count = found.total + (found.draft if "draft" in includes else 0)
    return count + (count // (128 * 128) if "scales" in includes else 0)


def rounded(figure: int) -> float:
    """How far a figure may be off for being rounded: 24B stands for 23.5 to 24.5."""
    digits = len(str(figure).rstrip("0"))
    return 10 ** (1 - max(digits, 2)) if digits < 6 else 0.0


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_published(name: str) -> None:
    figure = published(name)["parameters"]
    assert parameters(name) == pytest.approx(figure, rel=max(rounded(figure), 1e-4))


def test_most_models_are_counted_to_the_last_weight() -> None:
    exact = [name for name in NAMES if parameters(name) == published(name)["parameters"]]
    assert len(exact) >= 16
    assert len(NAMES) >= 20


@pytest.mark.parametrize("name", [name for name in NAMES if "active" in published(name)])
def test_active_parameters_are_near_those_published(name: str) -> None:
    # Publishers differ in whether they count the tables of the vocabulary.
    config = ModelConfig.of(config_of(name))
    found = parameters_of(config)
    tables = found.embedding + found.head
    figure = published(name)["active"]
    assert (found.active - tables) * 0.9 <= figure <= found.active * 1.05


@pytest.mark.parametrize("name", [name for name in NAMES if "weight_bytes" in published(name)])
def test_bytes_estimated_without_files_are_near_those_of_the_files(name: str) -> None:
    config = ModelConfig.of(config_of(name))
    found = weight_bytes_of(config, parameters_of(config), Weights())
    assert found.total == pytest.approx(published(name)["weight_bytes"], rel=0.025)


@pytest.mark.parametrize("name", [name for name in NAMES if "kv_token_bytes" in published(name)])
def test_bytes_of_a_token_are_those_published(name: str) -> None:
    found = size(Model(config=config_of(name)), Workload(context_length=1024), CPU)
    assert found.kv_token_bytes == published(name)["kv_token_bytes"]
