"""What the inspection says a model is: context, kind, weights, parsers, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from freehold.registry.inspection import configuration, facts, parsers, tree
from freehold.registry.inspection.run import InspectedFile, Report, inspect
from freehold.registry.inspection.templates import Template
from freehold.registry.inspection.tree import Tree
from freehold.registry.inspection.weights import Tensor
from tests.factories.models_on_disk import CONFIG, model_files, safetensors_bytes, write_folder


def _t(name: str, *shape: int, dtype: str = "BF16") -> Tensor:
    return Tensor(name=name, dtype=dtype, shape=shape, begin=0, end=0)


def _context(config: dict[str, Any], **documents: Any) -> dict[str, Any]:
    found = Tree(documents={name.replace("__", "."): document for name, document in documents.items()})
    return configuration.context_facts(found, config)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # each as vLLM 0.32 derives it; compared with its own code
        ({}, None),
        ({"max_position_embeddings": 8192}, 8192),
        ({"max_position_embeddings": 8192, "seq_length": 4096}, 4096),
        ({"max_position_embeddings": 8192, "model_max_length": 131072}, 131072),
        ({"max_position_embeddings": 8192, "rope_scaling": {"type": "linear", "factor": 4.0}}, 32768),
        ({"max_position_embeddings": 8192, "rope_scaling": {"rope_type": "dynamic", "factor": 2}}, 16384),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"max_position_embeddings": 163840, "rope_scaling": {"type": "yarn", "factor": 40}}, 163840),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {"type": "longrope"},
                "original_max_position_embeddings": 4096,
            },
            4096,
        ),
        (
            {
                "model_type": "gemma3_text",
                "max_position_embeddings": 131072,
                "rope_scaling": {"type": "linear", "factor": 8},
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 8192,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 2.0},
                    "sliding_attention": {"rope_type": "default"},
                },
            },
            16384,
        ),
        ({"max_position_embeddings": 8192, "rope_scaling": {"type": "mrope", "mrope_section": [1]}}, 8192),
        ({"max_position_embeddings": 8192, "rope_scaling": {"type": "linear", "factor": None}}, 8192),
        ({"text_config": {"max_position_embeddings": 262144}}, 262144),
        ({"thinker_config": {"text_config": {"max_position_embeddings": 65536}}}, 65536),
        ({"max_position_embeddings": True, "n_positions": -1, "seq_len": "x"}, None),
    ],
)
def test_the_context_length_is_what_the_engine_derives(config: dict[str, Any], expected: int | None) -> None:
    assert _context(config)["max_model_len"] == expected


def test_the_context_says_where_it_comes_from() -> None:
    longrope = _context(
        {
            "max_position_embeddings": 131072,
            "original_max_position_embeddings": 4096,
            "rope_scaling": {"type": "longrope"},
        }
    )
    assert (longrope["key"], longrope["longest"], longrope["rope_type"]) == (
        "max_position_embeddings",
        131072,
        "longrope",
    )
    absolute = {"position_embedding_type": "absolute", "max_position_embeddings": 514}
    bert = _context(absolute, tokenizer_config__json={"model_max_length": 512})
    assert bert["max_model_len"] == 512
    huge = _context(absolute, tokenizer_config__json={"model_max_length": 10**30})
    assert huge["max_model_len"] == 514


def test_the_configuration_is_kept_as_far_as_sizing_needs_it() -> None:
    config = {
        "architectures": ["X"],
        "layer_types": ["full_attention"] * 61,
        "time_step_limit": [0.0, math.inf],
        "eps": math.nan,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
        "rope_parameters": {"full_attention": {"rope_type": "default"}},
        "text_config": {"hidden_size": 64, "linear_attn_config": {"kda_layers": [1, 2]}, "id2label": {"a": {"b": 1}}},
        "id2label": {str(number): "x" * 100 for number in range(9999)},
        "big": ["x" * 199] * 1000,
        "long": "x" * 10_000,
        "huge": 10**400,
    }
    kept = configuration.pruned(config)
    assert kept["rope_parameters"] == {"full_attention": {"rope_type": "default"}}
    assert kept["text_config"] == {"hidden_size": 64, "linear_attn_config": {"kda_layers": [1, 2]}}
    assert len(kept["layer_types"]) == 61
    assert not {"id2label", "big", "long", "huge", "eps", "time_step_limit"} & set(kept)
    assert len(json.dumps(kept, allow_nan=False)) <= configuration.KEPT_BYTES


@pytest.mark.parametrize(
    ("architecture", "extra", "kind", "task"),
    [
        ("Qwen3ForCausalLM", {}, "completion", "generate"),
        ("BertModel", {}, "embedding", "embed"),
        ("BertForSequenceClassification", {"id2label": {"0": "LABEL_0"}}, "reranker", "embed"),
        ("XLMRobertaForSequenceClassification", {"num_labels": 1}, "reranker", "embed"),
        ("BertForSequenceClassification", {}, "classifier", "embed"),
        ("BertForTokenClassification", {"id2label": {"0": "O", "1": "B"}}, "classifier", "embed"),
    ],
)
def test_the_kind_of_a_model(architecture: str, extra: dict[str, Any], kind: str, task: str) -> None:
    found = Tree(sizes={"config.json": 1}, documents={"config.json": {"architectures": [architecture], **extra}})
    described = facts.describe(found)
    assert (described["kind"], described["task"]) == (kind, task)


def test_a_model_with_a_template_is_for_chat_and_an_adapter_is_an_adapter() -> None:
    template = Template("chat_template.jinja", "default", "x")
    assert facts.describe(Tree(sizes={"config.json": 1}, templates=[template]))["kind"] == "chat"
    adapter = Tree(
        sizes={"adapter_config.json": 1}, documents={"adapter_config.json": {"base_model_name_or_path": "a/b"}}
    )
    assert (facts.describe(adapter)["kind"], facts.describe(adapter)["base_model"]) == ("adapter", "a/b")


def test_a_model_in_two_forms_is_described_as_the_engine_loads_it() -> None:
    """vLLM takes Mistral's files where they are there, whatever config.json says."""
    one, two = _t("a", 10), _t("b", 7)
    found = Tree(
        sizes={
            "config.json": 1,
            "params.json": 1,
            "model.safetensors": 20,
            "consolidated.safetensors": 14,
            "tekken.json": 1,
        },
        documents={
            "config.json": {"architectures": ["Decoy"], "max_position_embeddings": 4096},
            "params.json": {
                "dim": 64,
                "n_layers": 2,
                "n_heads": 4,
                "moe": {"num_experts": 8, "num_experts_per_tok": 2},
            },
        },
        headers={"model.safetensors": [one], "consolidated.safetensors": [two]},
    )
    described = facts.describe(found)
    assert (described["architecture"], described["config_file"]) == ("MixtralForCausalLM", "params.json")
    assert (described["parameters"], described["weight_bytes"]) == (7, 14)
    assert described["config"]["hidden_size"] == 64
    assert (described["tool_call_parser"], described["kind"]) == ("mistral", "chat")
    assert described["max_model_len"] == 4096


@pytest.mark.parametrize(
    ("headers", "index", "served", "lacking"),
    [
        (["model.safetensors", "extra.safetensors"], None, ["extra.safetensors", "model.safetensors"], []),
        (["model.safetensors", "extra.safetensors"], ["model.safetensors"], ["model.safetensors"], []),
        (["sub/model.safetensors"], None, [], ["*.safetensors"]),
        (["model.safetensors", "sub/consolidated.safetensors"], None, [], ["*.safetensors"]),
        (
            ["model-1.safetensors"],
            ["model-1.safetensors", "model-2.safetensors"],
            ["model-1.safetensors"],
            ["model-2.safetensors"],
        ),
    ],
)
def test_the_weights_that_count_are_those_the_engine_loads(
    headers: list[str], index: list[str] | None, served: list[str], lacking: list[str]
) -> None:
    documents = {} if index is None else {"model.safetensors.index.json": {"weight_map": dict(enumerate(index))}}
    found = Tree(
        sizes={"config.json": 1, **dict.fromkeys(headers, 1)},
        documents=documents,
        headers={name: [] for name in headers},
    )
    assert tree.served_weights(found) == served
    assert tree.missing(found) == lacking


@pytest.mark.parametrize(
    ("model_type", "template", "tools", "reasoning"),
    [
        ("gpt_oss", "<|channel|>analysis", "openai", "openai_gptoss"),
        ("qwen3", "<tool_call>\n{\"name\": <think> enable_thinking", "hermes", "qwen3"),
        ("qwen2", "<tool_call>\n{\"name\": ", "hermes", None),
        ("qwen3_moe", "<tool_call>\n<function=example>\n<parameter=x>", "qwen3_coder", None),
        ("nemotron_h", "<tool_call>\n<function=x>\n<parameter=y> <think>", "qwen3_coder", "nemotron_v3"),
        ("deepseek_v3", "<｜tool▁calls▁begin｜> ```json </think> <｜Assistant｜>", "deepseek_v3", "deepseek_r1"),
        ("deepseek_v3", "<｜tool▁calls▁begin｜> <think> thinking", "deepseek_v31", "deepseek_v3"),
        ("deepseek_v32", "", "deepseek_v32", "deepseek_v3"),
        ("kimi_k2", "<|tool_calls_section_begin|>", "kimi_k2", None),
        ("kimi_k2", "<|tool_calls_section_begin|> <think>", "kimi_k2", "kimi_k2"),
        ("glm4_moe", "<tool_call> <arg_key> <think>", "glm45", "glm45"),
        ("minimax_m2", "<minimax:tool_call> <think>", "minimax_m2", "minimax_m2"),
        ("llama", "<|start_header_id|> <|python_tag|> parameters", "llama3_json", None),
        ("llama4", "<|header_start|>", "llama4_pythonic", None),
        ("mistral", "[TOOL_CALLS] [THINK]", "mistral", "mistral"),
        ("gemma4", "<|tool_call>call: <|channel>", "gemma4", "gemma4"),
        ("seed_oss", "<seed:tool_call> <seed:think>", "seed_oss", "seed_oss"),
        ("granite", "<|tool_call|>", "granite", None),
        ("bert", "", None, None),
    ],
)  # fmt: skip
def test_parsers_are_told_by_type_and_template(
    model_type: str, template: str, tools: str | None, reasoning: str | None
) -> None:
    assert parsers.tool_call_parser(model_type, [template], mistral=False) == tools
    assert parsers.reasoning_parser(model_type, [template], mistral=False) == reasoning


def test_every_hint_is_a_parser_of_the_engine() -> None:
    assert {rule.parser for rule in parsers._TOOLS} <= parsers.TOOL_PARSERS
    assert {rule.parser for rule in parsers._REASONING} <= parsers.REASONING_PARSERS


@pytest.mark.engine
def test_the_engine_has_the_parsers_we_name() -> None:
    packages = next((Path(__file__).parents[3] / ".venv-engine/lib").glob("python*/site-packages/vllm"), None)
    if packages is None:
        pytest.skip("vLLM is not installed")
    tools, reasoning = ((packages / f"{name}/__init__.py").read_text() for name in ("tool_parsers", "reasoning"))
    assert {name for name in parsers.TOOL_PARSERS if f'"{name}": (' not in tools} == set()
    assert {name for name in parsers.REASONING_PARSERS if f'"{name}": (' not in reasoning} == set()


def _inspect(folder: Path, files: dict[str, bytes]) -> Report:
    write_folder(folder, files)
    return inspect([InspectedFile(path=path, location=folder / path, size=len(files[path])) for path in files])


def test_a_whole_model_is_described(tmp_path: Path) -> None:
    files = {
        **model_files(),
        "config.json": json.dumps({**CONFIG, "quantization_config": {"quant_method": "awq", "bits": 4}}).encode(),
        "LICENSE": b"Apache License\nVersion 2.0, January 2004",
        "README.md": b"---\nlicense: apache-2.0\nlanguage: [en, et]\npipeline_tag: text-generation\n---\n",
        "chat_template.jinja": b"{% for m in messages %}{{ m.content }}{% endfor %}<think>{{ enable_thinking }}",
        "modeling_x.py": b"raise SystemExit",
        "model.safetensors": safetensors_bytes({"b": ("BF16", [3], 6), "a": ("F32", [2, 2], 16)}),
    }
    report = _inspect(tmp_path, files)
    assert report.problems == ()
    assert report.tensors == {"model.safetensors": [["b", "BF16", [3], 0, 6], ["a", "F32", [2, 2], 6, 22]]}
    found = report.facts
    assert (found["kind"], found["languages"], found["python_files"]) == ("chat", ["en", "et"], ["modeling_x.py"])
    assert (found["quantization"], found["quantization_config"]["bits"]) == ("awq", 4)
    assert (found["licence"], found["licences"]["agrees"]) == ("apache-2.0", True)
    assert [template["file"] for template in found["chat_templates"]] == [
        "chat_template.jinja",
        "tokenizer_config.json",
    ]
    assert found["chat_templates"][0]["renders"]
    assert found["reasoning_parser"] == "qwen3"
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("tokenizer.json", b'{"model": {"vocab": {"a": 1, "a": 2}}}', "json_duplicate_key"),
        ("vocab.json", b'{"a": NaN}', "json_nan"),
        ("sub/folder/settings.json", b'{"a": 1, "a": 2}', "json_duplicate_key"),
        ("generation_config.json", b'{"temperature": NaN}', "json_nan"),
        ("params.json", b'{"auto_map": {"AutoModel": "x.Y"}}', "remote_code"),
        ("chat_template.jinja", b"{% include 'x' %}", "chat_template_include"),
        ("tokenizer_config.json", b'{"chat_template": "{{ \'\'.__class__ }}"}', "chat_template_sandbox"),
        ("additional_chat_templates/rag.jinja", b"{% if %}", "chat_template_syntax"),
        ("notes.json", b"[" + b" " * (16 * 1024 * 1024) + b"]", "json_too_large"),
    ],
)
def test_a_file_is_refused_for_its_reason(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    report = _inspect(tmp_path, {**model_files(), name: content})
    assert [(problem.file, problem.reason) for problem in report.problems] == [(name, reason)]
    assert report.tensors == {}


def test_all_files_together_hold_a_bounded_number_of_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from freehold.registry.inspection import files as reading

    monkeypatch.setattr(reading, "TENSORS", 3)
    two = safetensors_bytes({"a": ("F32", [1], 4), "b": ("F32", [1], 4)})
    write_folder(tmp_path, {"1.safetensors": two, "2.safetensors": two})
    _, problems = reading.read_tree(
        [(f"{i}.safetensors", str(tmp_path / f"{i}.safetensors"), len(two)) for i in (1, 2)]
    )
    assert [(problem.file, problem.reason) for problem in problems] == [("2.safetensors", "too_many_tensors")]
