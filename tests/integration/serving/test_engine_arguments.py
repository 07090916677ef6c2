"""What customers may set is what vLLM has: its own parser reads every argument, as manifests write it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from freehold.onebox.install import engine_python
from freehold.serving.arguments import ALLOWED, validate
from tests.factories.workloads import workload
from workers.manifests import vllm

_PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
parsed = vars(make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:]))
parsed["tool parsers"] = ToolParserManager.list_registered()
parsed["reasoning parsers"] = ReasoningParserManager.list_registered()
print("\\n" + json.dumps(parsed, default=str))
"""
WANTED: dict[str, Any] = {
    "max_model_len": 2048,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 512,
    "max_logprobs": 5,
    "dtype": "bfloat16",
    "kv_cache_dtype": "fp8",
    "block_size": 64,
    "tokenizer_mode": "hf",
    "config_format": "hf",
    "load_format": "safetensors",
    "tool_call_parser": "hermes",
    "reasoning_parser": "qwen3",
    "enable_auto_tool_choice": True,
    "enable_prefix_caching": False,
    "enable_chunked_prefill": True,
    "enable_expert_parallel": False,
    "async_scheduling": False,
    "language_model_only": True,
    "seed": 7,
}


@pytest.mark.engine
def test_vllm_reads_every_argument_as_it_was_meant() -> None:
    assert set(WANTED) == set(ALLOWED)
    flags = vllm.arguments(workload(arguments=validate(WANTED)), model_path="/m", host="127.0.0.1", port=1)
    done = subprocess.run(
        [str(engine_python()), "-c", _PARSE, *flags], check=True, capture_output=True, text=True, timeout=100
    )
    parsed = json.loads(done.stdout.splitlines()[-1])
    assert {name: parsed[name] for name in WANTED} == WANTED
    for argument in ("tool_call_parser", "reasoning_parser"):
        registered = set(parsed[argument.replace("_call", "").replace("_", " ") + "s"])
        assert set(getattr(ALLOWED[argument], "values", ())) == registered - {"hf"}, argument
