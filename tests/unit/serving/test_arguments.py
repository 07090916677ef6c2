"""Which vLLM arguments a customer may set."""

from __future__ import annotations

import pytest

from freehold.common.errors import Refused
from freehold.serving.arguments import ALLOWED, validate
from freehold.serving.catalog.document import SHIPPED, load
from freehold.serving.forbidden_arguments import reason_of

# What the operator sets up, or the platform itself: not for a customer of a catalog model to repeat.
BY_THE_PLATFORM = {"runner", "hf_overrides"}


def test_allowed_arguments_pass() -> None:
    wanted = {
        "max_model_len": 2048,
        "dtype": "bfloat16",
        "enable_prefix_caching": False,
        "enable_auto_tool_choice": True,
        "tool_call_parser": "hermes",
        "reasoning_parser": "qwen3",
        "block_size": 256,
    }
    assert validate(wanted) == wanted


@pytest.mark.parametrize("name", ["download_dir", "plugins", "frobnicate", "max_model_len "])
def test_anything_else_is_refused_by_name(name: str) -> None:
    with pytest.raises(Refused, match=name) as caught:
        validate({name: "x"})
    assert caught.value.field == f"arguments.{name}"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("trust_remote_code", "run code"),
        ("--trust-remote-code", "run code"),
        ("no_trust_remote_code", "run code"),
        ("--No-Trust-Remote-Code", "run code"),
        ("tool_parser_plugin", "run code"),
        ("--reasoning-parser-plugin", "run code"),
        ("io_processor_plugin", "run code"),
        ("logits_processors", "run code"),
        ("middleware", "run code"),
        ("worker_cls", "run code"),
        ("hf_overrides", "run code"),
        ("host", "how the engine is reached"),
        ("--port", "how the engine is reached"),
        ("uds", "how the engine is reached"),
        ("api_key", "how the engine is reached"),
        ("--api-key", "how the engine is reached"),
        ("ssl_keyfile", "how the engine is reached"),
        ("kv_transfer_config", "how the engine is reached"),
        ("chat_template", "names a file"),
        ("allowed_local_media_path", "names a file"),
        ("lora_modules", "names a file"),
        ("download_dir", "names a file"),
        ("log_config_file", "names a file"),
        ("hf_config_path", "names a file"),
        ("model", "pins"),
        ("served_model_name", "pins"),
        ("tokenizer", "pins"),
        ("revision", "pins"),
        ("quantization", "pins"),
        ("tensor_parallel_size", "flavor"),
        ("--pipeline-parallel-size", "flavor"),
        ("data_parallel_size", "flavor"),
        ("gpu_memory_utilization", "flavor"),
        ("enable_log_requests", "never logged"),
    ],
)
def test_what_is_dangerous_is_refused_by_name_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        validate({name: True})
    assert repr(name) in caught.value.message
    assert reason in caught.value.message
    assert caught.value.field == f"arguments.{name}"


def test_nothing_that_is_allowed_is_also_forbidden() -> None:
    assert [name for name in ALLOWED if reason_of(name)] == []


def test_a_flag_as_it_is_typed_is_told_its_name() -> None:
    with pytest.raises(Refused, match="Write 'max_model_len' instead"):
        validate({"--max-model-len": 2048})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_model_len", 1),
        ("max_model_len", "2048"),
        ("max_num_seqs", True),
        ("max_logprobs", -1),
        ("dtype", "int3"),
        ("dtype", ["auto"]),
        ("block_size", 17),
        ("block_size", True),
        ("kv_cache_dtype", "nvfp4"),
        ("tool_call_parser", "/tmp/parser.py"),
        ("reasoning_parser", "hf"),
        ("enable_prefix_caching", "true"),
        ("enable_prefix_caching", 1),
    ],
)
def test_values_out_of_range_are_refused_with_what_is_allowed(name: str, value: object) -> None:
    with pytest.raises(Refused, match=name):
        validate({name: value})


def test_tool_choice_without_a_parser_is_refused() -> None:
    with pytest.raises(Refused, match="tool_call_parser"):
        validate({"enable_auto_tool_choice": True})


def test_what_the_shipped_catalog_recommends_can_be_set() -> None:
    for entry in load(SHIPPED).entries:
        recommended = entry.document["arguments"]
        validate({name: value for name, value in recommended.items() if name not in BY_THE_PLATFORM})
