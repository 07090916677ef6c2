"""The catalog that ships: valid, sourced, and in words that the installed engine knows."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from freehold.onebox.install import engine_python
from freehold.serving.catalog.document import SHIPPED, Entry, Kind, load, schema

ENTRIES = load(SHIPPED).entries
GIGABYTE = 1_000_000_000
MEMORY = {"H100": 80 * GIGABYTE, "H200": 141 * GIGABYTE, "L40S": 48 * GIGABYTE}  # NVIDIA's data sheets
LICENCES = {
    "Apache-2.0",
    "MIT",
    "LicenseRef-Llama-3.1",
    "LicenseRef-Llama-3.3",
    "LicenseRef-Llama-4",
    "LicenseRef-Gemma",
    "LicenseRef-Modified-MIT-Kimi-K2",
    "LicenseRef-Modified-MIT-MiniMax-M2",
    "LicenseRef-NVIDIA-Open-Model",
}
BYTES = {"bfloat16": 2, "float32": 4, "float8_e4m3fn": 1}

each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)


def test_the_schema_is_itself_valid_and_closed_everywhere() -> None:
    Draft202012Validator.check_schema(schema())
    open_objects = [
        name
        for name, part in {"catalog": schema(), **schema()["$defs"]}.items()
        if part.get("type") == "object" and part.get("additionalProperties") is not False
    ]
    assert open_objects == []


def test_every_field_of_the_schema_says_what_to_write() -> None:
    parts = [schema(), *schema()["$defs"].values()]
    silent = [
        name
        for part in parts
        for name, field in part.get("properties", {}).items()
        if not (
            field.get("description")
            or schema()["$defs"].get(field.get("$ref", "").rpartition("/")[2], {}).get("description")
        )
    ]
    assert silent == []


def test_it_offers_the_families_people_ask_for() -> None:
    assert len(ENTRIES) >= 24
    assert {kind: sum(entry.kind is kind for entry in ENTRIES) >= 3 for kind in (Kind.EMBEDDING, Kind.RERANKER)} == {
        Kind.EMBEDDING: True,
        Kind.RERANKER: True,
    }
    organizations = {entry.id.split("/")[0] for entry in ENTRIES}
    assert organizations >= {
        "deepseek-ai", "Qwen", "zai-org", "moonshotai", "MiniMaxAI", "openai", "mistralai", "meta-llama", "google",
        "allenai",
    }  # fmt: skip


def test_ids_are_there_once_and_licences_are_known() -> None:
    assert len({entry.id.lower() for entry in ENTRIES}) == len(ENTRIES)
    assert {entry.document["licence"]["id"] for entry in ENTRIES} == LICENCES


@each
def test_terms_of_the_publishers_own_are_conditional_and_explained(entry: Entry) -> None:
    licence = entry.document["licence"]
    if licence["id"].startswith("LicenseRef-"):
        assert licence["commercial_use"] == "conditional"
        assert len(licence["note"]) > 40


@each
def test_a_source_is_named_for_every_fact(entry: Entry) -> None:
    document = entry.document
    cited = {field for source in document["sources"] for field in source["for"]}
    needed = {"id", "licence", "parameters", "context_length"}
    needed |= {"released", "languages", "custom_code", "min_vllm"} & set(document)
    needed |= {"gated"} if document["gated"] else set()
    needed |= {"modalities"} if document["modalities"] != ["text"] else set()
    needed |= {"arguments"} if set(document["arguments"]) - {"runner"} else set()
    needed |= {"weights"} if document["weights"].get("basis") == "published" else set()
    flavors = document.get("recommended_flavors", [])
    needed |= {"recommended_flavors"} if any(flavor["basis"] == "published" for flavor in flavors) else set()
    assert needed <= cited


@each
def test_sizes_agree_with_parameters(entry: Entry) -> None:
    weights, total = entry.document["weights"], entry.document["parameters"]["total"]
    if "bytes" in weights and weights["dtype"] in BYTES:
        assert 0.95 < weights["bytes"] / (total * BYTES[weights["dtype"]]) < 1.05


@each
def test_every_recommended_flavor_holds_the_weights(entry: Entry) -> None:
    """Published ones must hold them; computed ones with a fifth to spare for KV cache and activations."""
    weights = entry.document["weights"].get("bytes", 0)
    for flavor in entry.document.get("recommended_flavors", []):
        if flavor["accelerator"] != "cpu":
            spare = 1.2 if flavor["basis"] == "computed" else 1.0
            assert weights * spare <= MEMORY[flavor["accelerator"]] * flavor["accelerators"], flavor


@each
def test_what_the_hub_would_refuse_is_said(entry: Entry) -> None:
    if entry.document.get("custom_code"):
        assert "auto_map" in entry.document["note"]


def _package() -> Path:
    python = engine_python()
    assert python is not None
    (package,) = Path(python).parent.parent.glob("lib/python3*/site-packages/vllm")
    return package


@cache
def _flags() -> frozenset[str]:
    """Fields of the dataclasses that vLLM makes its flags from, and the flags it adds by hand."""
    found: set[str] = set()
    for path in ("engine/arg_utils.py", "entrypoints/launchers/cli_args.py"):
        source = (_package() / path).read_text()
        found |= {flag.replace("-", "_") for flag in re.findall(r'"--([a-z0-9-]+)"', source)}
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Args"):
                found |= {
                    item.target.id
                    for item in node.body
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
                }
            if isinstance(node, ast.ClassDef) and "Frontend" in node.name:
                found |= {
                    item.target.id
                    for item in node.body
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
                }
    return frozenset(found)


@cache
def _registered(path: str, name: str) -> frozenset[str]:
    """The keys of a module's table of parsers, read without importing the engine."""
    for node in ast.parse((_package() / path).read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            (target,) = node.targets
            if isinstance(target, ast.Name) and target.id == name:
                return frozenset(str(key.value) for key in node.value.keys if isinstance(key, ast.Constant))
    raise AssertionError(f"{path} has no table {name}")


def _used(name: str) -> set[Any]:
    return {entry.document["arguments"][name] for entry in ENTRIES if name in entry.document["arguments"]}


@pytest.mark.engine
def test_every_argument_of_the_schema_is_a_flag_of_the_installed_vllm() -> None:
    arguments = set(schema()["$defs"]["arguments"]["properties"])
    assert arguments - _flags() == set()
    parallel = {name for name in schema()["$defs"]["flavor"]["properties"] if name.endswith(("_size", "_parallel"))}
    assert parallel - _flags() == set()


@pytest.mark.engine
@pytest.mark.parametrize(
    ("argument", "path", "table"),
    [
        ("tool_call_parser", "tool_parsers/__init__.py", "_TOOL_PARSERS_TO_REGISTER"),
        ("reasoning_parser", "reasoning/__init__.py", "_REASONING_PARSERS_TO_REGISTER"),
    ],
)
def test_every_parser_is_registered_in_the_installed_vllm(argument: str, path: str, table: str) -> None:
    used = _used(argument)
    assert used
    assert used <= _registered(path, table)


@pytest.mark.engine
def test_every_tokenizer_mode_is_one_of_the_installed_vllm() -> None:
    source = (_package() / "config/model.py").read_text()
    (modes,) = re.findall(r"^TokenizerMode = Literal\[(.*?)\]", source, re.DOTALL | re.MULTILINE)
    assert _used("tokenizer_mode") <= set(re.findall(r'"(\w+)"', modes))


@pytest.mark.engine
def test_no_model_needs_a_newer_vllm_than_the_installed_one() -> None:
    version = re.search(r"version = '(\d+)\.(\d+)\.(\d+)", (_package() / "_version.py").read_text())
    assert version is not None
    installed = tuple(int(part) for part in version.groups())
    for entry in ENTRIES:
        needed = entry.document.get("min_vllm", "0.0.0")
        assert tuple(int(part) for part in needed.split(".")) <= installed, entry.id
