"""A model in the Hub's words, from what inspection found."""

from __future__ import annotations

import pytest

from freehold.hub import cards

CHAT = {
    "architecture": "Qwen3ForCausalLM",
    "model_type": "qwen3",
    "kind": "chat",
    "dtypes": {"BF16": 10},
    "parameters": 10,
    "licence": "apache-2.0",
    "languages": ["en", "de"],
    "base_model": "Qwen/Qwen3-8B-Base",
    "quantization": "fp8",
    "card_tags": ["chat", "en"],
}


def test_a_model_is_found_by_every_word_once() -> None:
    assert cards.tags(CHAT) == [
        "transformers",
        "safetensors",
        "qwen3",
        "text-generation",
        "chat",
        "en",
        "conversational",
        "de",
        "fp8",
        "base_model:Qwen/Qwen3-8B-Base",
        "license:apache-2.0",
    ]


def test_nothing_is_made_up_where_nothing_is_known() -> None:
    for facts in ({}, dict.fromkeys(cards.USED)):
        assert cards.tags(facts) == []
        assert (cards.card(facts), cards.config(facts)) == ({}, {})
        assert (cards.pipeline_tag(facts), cards.library(facts)) == (None, None)
        assert (cards.safetensors(facts), cards.transformers_info(facts)) == (None, None)


@pytest.mark.parametrize(
    ("facts", "task", "library", "loader"),
    [
        (CHAT, "text-generation", "transformers", "AutoModelForCausalLM"),
        ({**CHAT, "pipeline_tag": "translation"}, "translation", "transformers", "AutoModelForCausalLM"),
        (
            {"architecture": "BertModel", "model_type": "bert", "kind": "embedding"},
            "feature-extraction",
            "transformers",
            "AutoModel",
        ),
        (
            {"architecture": "XForSequenceClassification", "model_type": "x", "kind": "reranker"},
            "text-ranking",
            "transformers",
            "AutoModelForSequenceClassification",
        ),
        ({"adapter": True, "kind": "adapter"}, None, "peft", None),
        ({**CHAT, "library_name": "diffusers"}, "text-generation", "diffusers", None),
    ],
)
def test_task_library_and_loader(
    facts: dict[str, object], task: str | None, library: str | None, loader: str | None
) -> None:
    assert (cards.pipeline_tag(facts), cards.library(facts)) == (task, library)
    info = cards.transformers_info(facts)
    assert (info and info["auto_model"]) == loader


def test_the_card_has_what_its_front_matter_said() -> None:
    assert cards.card(CHAT) == {
        "license": "apache-2.0",
        "language": ["en", "de"],
        "base_model": "Qwen/Qwen3-8B-Base",
        "tags": ["chat", "en"],
    }
