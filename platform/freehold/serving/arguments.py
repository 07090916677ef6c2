"""Which vLLM arguments a customer may set, and what each may be. Everything else is refused by name.

The names are vLLM's flags (0.32) with underscores; whoever writes `--max-model-len` is told its name here. Pure: no
Django.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from freehold.common.errors import Refused
from freehold.serving.forbidden_arguments import reason_of

Arguments = dict[str, str | int]  # a bool is an int: it becomes `--flag` or `--no-flag`


@dataclass(frozen=True)
class _Integer:
    least: int
    most: int

    def check(self, name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise Refused(f"{name} must be a whole number from {self.least} to {self.most}.", field=f"arguments.{name}")
        return value


@dataclass(frozen=True)
class _Choice:
    values: tuple[str | int, ...]

    def check(self, name: str, value: Any) -> str | int:
        if isinstance(value, bool) or not isinstance(value, str | int) or value not in self.values:
            allowed = ", ".join(str(each) for each in self.values)
            raise Refused(f"{name} must be one of {allowed}.", field=f"arguments.{name}")
        return value


@dataclass(frozen=True)
class _Switch:
    def check(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise Refused(f"{name} must be true or false.", field=f"arguments.{name}")
        return value


# vLLM's registered parsers without `hf`, which takes what to do from files of the model.
_TOOL_PARSERS: Final = (
    "apertus", "cohere_command3", "cohere_command4", "deepseek_v3", "deepseek_v31", "deepseek_v32", "deepseek_v4",
    "deepseek_v41", "dots", "ernie45", "functiongemma", "gemma4", "gigachat3", "glm45", "glm47", "granite",
    "granite-20b-fc", "granite4", "hermes", "hunyuan_a13b", "hy_v3", "hy_v4", "inkling", "internlm", "jamba",
    "k2_horizon", "kimi_k2", "kimi_k3", "lfm2", "ling3", "llama3_json", "llama4_json", "llama4_pythonic", "longcat",
    "mimo", "minicpm5", "minimax_m2", "minimax_m3", "mistral", "muse_glimmer", "olmo3", "openai", "phi4_mini_json",
    "plamo3", "poolside_v1", "pythonic", "qwen3_coder", "qwen3_json", "qwen3_xml", "seed_oss", "step3", "step3p5",
    "xlam",
)  # fmt: skip
_REASONING_PARSERS: Final = (
    "cohere_command3", "cohere_command4", "deepseek_r1", "deepseek_v3", "deepseek_v4", "deepseek_v41", "ernie45",
    "gemma4", "glm45", "glm47", "granite", "granite_thinking_parser", "holo2", "hunyuan_a13b", "hy_v3", "hy_v4",
    "inkling", "k2_horizon", "kimi_k2", "kimi_k3", "ling3", "mimo", "minicpmv", "minimax_m2",
    "minimax_m2_append_think", "minimax_m3", "mistral", "muse_glimmer", "nemotron_v3", "olmo3", "openai_gptoss",
    "plamo3", "poolside_v1", "qwen3", "seed_oss", "step3", "step3p5",
)  # fmt: skip

ALLOWED: Final[Mapping[str, _Integer | _Choice | _Switch]] = {
    "max_model_len": _Integer(16, 16 * 1024 * 1024),
    "max_num_seqs": _Integer(1, 4096),
    "max_num_batched_tokens": _Integer(16, 1024 * 1024),
    "max_logprobs": _Integer(0, 100),
    "dtype": _Choice(("auto", "bfloat16", "float16", "float32")),
    "kv_cache_dtype": _Choice(("auto", "bfloat16", "fp8", "fp8_e4m3")),
    "block_size": _Choice((16, 32, 64, 128, 256)),
    "tokenizer_mode": _Choice(("auto", "hf", "mistral", "deepseek_v32", "deepseek_v4")),
    "config_format": _Choice(("auto", "hf", "mistral")),
    "load_format": _Choice(("auto", "safetensors", "mistral")),
    "tool_call_parser": _Choice(_TOOL_PARSERS),
    "reasoning_parser": _Choice(_REASONING_PARSERS),
    "enable_auto_tool_choice": _Switch(),
    "enable_prefix_caching": _Switch(),
    "enable_chunked_prefill": _Switch(),
    "enable_expert_parallel": _Switch(),
    "async_scheduling": _Switch(),
    "language_model_only": _Switch(),
    "seed": _Integer(0, 2**31 - 1),
}


def validate(arguments: Mapping[str, Any]) -> Arguments:
    """The arguments as they will be pinned. Raises Refused naming the argument and what is allowed."""
    checked: Arguments = {}
    for name, value in sorted(arguments.items()):
        rule = ALLOWED.get(name)
        if rule is None:
            raise _refused(name)
        checked[name] = rule.check(name, value)
    if checked.get("enable_auto_tool_choice") and "tool_call_parser" not in checked:
        raise Refused(
            "enable_auto_tool_choice needs a tool_call_parser: the one that the model was trained for.",
            field="arguments.tool_call_parser",
        )
    return checked


def _refused(name: str) -> Refused:
    plain = name.lower().lstrip("-").replace("-", "_")
    field = f"arguments.{name}"
    if plain in ALLOWED:
        return Refused(f"Write {plain!r} instead of {name!r}.", field=field)
    if reason := reason_of(plain):
        return Refused(f"The argument {name!r} cannot be set: {reason}.", field=field)
    return Refused(f"The argument {name!r} cannot be set here. These can: {', '.join(sorted(ALLOWED))}.", field=field)
