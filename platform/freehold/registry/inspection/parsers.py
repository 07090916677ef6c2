"""Which of vLLM's parsers understands what the model writes: a hint for whoever deploys it, never a refusal.

Names as vLLM 0.32 registers them (vllm/tool_parsers, vllm/reasoning; a test compares). A template shows the marks that
a model was trained to write, so marks come before the model's type; the first rule that matches counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

TOOL_PARSERS: Final = frozenset({
    "apertus", "cohere_command3", "cohere_command4", "deepseek_v3", "deepseek_v31", "deepseek_v32", "deepseek_v4",
    "deepseek_v41", "dots", "ernie45", "functiongemma", "gemma4", "gigachat3", "glm45", "glm47", "granite",
    "granite-20b-fc", "granite4", "hermes", "hf", "hunyuan_a13b", "hy_v3", "hy_v4", "inkling", "internlm", "jamba",
    "k2_horizon", "kimi_k2", "kimi_k3", "lfm2", "ling3", "llama3_json", "llama4_json", "llama4_pythonic", "longcat",
    "mimo", "minicpm5", "minimax_m2", "minimax_m3", "mistral", "muse_glimmer", "olmo3", "openai", "phi4_mini_json",
    "plamo3", "poolside_v1", "pythonic", "qwen3_coder", "qwen3_json", "qwen3_xml", "seed_oss", "step3", "step3p5",
    "xlam",
})  # fmt: skip
REASONING_PARSERS: Final = frozenset({
    "cohere_command3", "cohere_command4", "deepseek_r1", "deepseek_v3", "deepseek_v4", "deepseek_v41", "ernie45",
    "gemma4", "glm45", "glm47", "granite", "granite_thinking_parser", "hf", "holo2", "hunyuan_a13b", "hy_v3",
    "hy_v4", "inkling", "k2_horizon", "kimi_k2", "kimi_k3", "ling3", "mimo", "minicpmv", "minimax_m2",
    "minimax_m2_append_think", "minimax_m3", "mistral", "muse_glimmer", "nemotron_v3", "olmo3", "openai_gptoss",
    "plamo3", "poolside_v1", "qwen3", "seed_oss", "step3", "step3p5",
})  # fmt: skip


@dataclass(frozen=True)
class _Rule:
    """Applies where the model's type matches `type` and the templates hold all of `marks` and none of `without`."""

    parser: str | None
    type: str = ""
    marks: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def applies(self, model_type: str, text: str) -> bool:
        return (
            re.fullmatch(self.type or ".*", model_type) is not None
            and all(mark in text for mark in self.marks)
            and not any(mark in text for mark in self.without)
        )


_TOOLS: Final = (
    _Rule("openai", "gpt_oss"),
    _Rule("deepseek_v41", marks=("<｜DSML｜ calls>",)),
    _Rule("deepseek_v4", "deepseek_v4.*"),
    _Rule("deepseek_v32", "deepseek_v32"),
    _Rule("deepseek_v32", marks=("<｜DSML｜function_calls>",)),
    _Rule("deepseek_v3", marks=("<｜tool▁calls▁begin｜>", "```json")),
    _Rule("deepseek_v31", marks=("<｜tool▁calls▁begin｜>",)),
    _Rule("kimi_k3", "kimi_k3.*"),
    _Rule("kimi_k2", marks=("<|tool_calls_section_begin|>",)),
    _Rule("kimi_k2", "kimi_k2.*"),
    _Rule("minimax_m3", "minimax_m3.*"),
    _Rule("minimax_m3", marks=("]<]minimax[>[",)),
    _Rule("minimax_m2", marks=("<minimax:tool_call>",)),
    _Rule("seed_oss", marks=("<seed:tool_call>",)),
    _Rule("longcat", marks=("<longcat_tool_call>",)),
    _Rule("dots", marks=("<dots_function_call>",)),
    _Rule("muse_glimmer", marks=("<atem:function_calls>",)),
    _Rule("plamo3", marks=("<|plamo:begin_tool_requests:plamo|>",)),
    _Rule("inkling", marks=("<|content_invoke_tool_json|>",)),
    _Rule("functiongemma", marks=("<start_function_call>",)),
    _Rule("gemma4", "gemma4.*", marks=("<|tool_call>",)),
    _Rule("lfm2", marks=("<|tool_call_start|>",)),
    _Rule("apertus", marks=("<|tools_prefix|>",)),
    _Rule("internlm", "internlm.*", marks=("<|plugin|>",)),
    _Rule("cohere_command3", marks=("<|START_ACTION|>",)),
    _Rule("mistral", marks=("[TOOL_CALLS]",)),
    _Rule("hy_v4", "hy_v4.*"),
    _Rule("hy_v3", "hy_v3.*"),
    _Rule("hunyuan_a13b", "hunyuan.*", marks=("<tool_calls>",)),
    _Rule("jamba", "jamba", marks=("<tool_calls>",)),
    _Rule("ling3", "bailing_(?:moe_v3|hybrid_v3).*", marks=("<arg_key>",)),
    _Rule("glm47", "glm4_moe_lite|glm_moe_dsa", marks=("<arg_key>",)),
    _Rule("poolside_v1", "poolside.*|laguna.*", marks=("<arg_key>",)),
    _Rule("glm45", marks=("<tool_call>", "<arg_key>")),
    _Rule("ernie45", "ernie4_5.*", marks=("<tool_call>",)),
    _Rule("mimo", "mimo.*", marks=("<tool_call>",)),
    _Rule("step3p5", "step3p5", marks=("<tool_call>",)),
    _Rule("step3", "step3.*", marks=("<｜tool_calls_begin｜>",)),
    _Rule("qwen3_coder", marks=("<tool_call>", "<function=", "<parameter=")),
    _Rule("granite4", "granitemoehybrid|granite4.*", marks=("<tool_call>",)),
    _Rule("granite", "granite.*", marks=("tool_call",)),
    _Rule("olmo3", "olmo3|olmo_hybrid", marks=("<function_calls>",)),
    _Rule("hermes", marks=("<tool_call>",), without=("<tool_call|>",)),
    _Rule("llama4_pythonic", "llama4.*"),
    _Rule("llama3_json", marks=("<|start_header_id|>", "parameters")),
    _Rule("llama3_json", marks=("<|python_tag|>",)),
    _Rule("phi4_mini_json", "phi.*", marks=("<|tool|>",)),
)

_REASONING: Final = (
    _Rule("openai_gptoss", "gpt_oss"),
    _Rule("deepseek_v41", marks=("<｜DSML｜ calls>",)),
    _Rule("deepseek_v4", "deepseek_v4.*"),
    _Rule("deepseek_v3", "deepseek_v32"),
    _Rule("deepseek_v3", "deepseek_v3", marks=("<think>", "thinking")),
    _Rule("deepseek_r1", marks=("<｜Assistant｜>", "</think>")),
    _Rule("kimi_k3", "kimi_k3.*"),
    _Rule("kimi_k2", "kimi_k2.*", marks=("<think>",)),
    _Rule("minimax_m3", "minimax_m3.*"),
    _Rule("minimax_m3", marks=("]<]minimax[>[",)),
    _Rule("minimax_m2", marks=("<minimax:tool_call>", "<think>")),
    _Rule("seed_oss", marks=("<seed:think>",)),
    _Rule("gemma4", "gemma4.*", marks=("<|channel>",)),
    _Rule("muse_glimmer", marks=("<atem:function_calls>",)),
    _Rule("plamo3", marks=("<|plamo:begin_tool_requests:plamo|>",)),
    _Rule("inkling", marks=("<|content_thinking|>",)),
    _Rule("cohere_command3", marks=("<|START_THINKING|>",)),
    _Rule("mistral", marks=("[THINK]",)),
    _Rule("hy_v4", "hy_v4.*"),
    _Rule("hy_v3", "hy_v3.*"),
    _Rule("hunyuan_a13b", "hunyuan.*", marks=("<think>",)),
    _Rule("ling3", "bailing_(?:moe_v3|hybrid_v3).*", marks=("<think>",)),
    _Rule("glm47", "glm4_moe_lite|glm_moe_dsa", marks=("<think>",)),
    _Rule("glm45", "glm4.*", marks=("<think>",)),
    _Rule("ernie45", "ernie4_5.*", marks=("<think>",)),
    _Rule("mimo", "mimo.*", marks=("<think>",)),
    _Rule("step3p5", "step3p5", marks=("<think>",)),
    _Rule("step3", "step3.*", marks=("<think>",)),
    _Rule("nemotron_v3", "nemotron.*", marks=("<think>",)),
    _Rule("olmo3", "olmo3|olmo_hybrid", marks=("<think>",)),
    _Rule("granite", "granite.*", marks=("thinking",)),
    _Rule("qwen3", "qwen3.*", marks=("<think>",)),
    _Rule("qwen3", marks=("<think>", "enable_thinking")),
    _Rule("deepseek_r1", marks=("<think>", "</think>")),
)


def tool_call_parser(model_type: str | None, templates: Iterable[str], *, mistral: bool) -> str | None:
    """`--tool-call-parser` for a model, or None. `mistral`: its tokenizer is Mistral's own, which has no template."""
    return "mistral" if mistral else _first(_TOOLS, model_type, templates)


def reasoning_parser(model_type: str | None, templates: Iterable[str], *, mistral: bool) -> str | None:
    """`--reasoning-parser` for a model, or None. Of Mistral's own tokenizer nothing tells whether the model reasons."""
    return None if mistral else _first(_REASONING, model_type, templates)


def _first(rules: Iterable[_Rule], model_type: str | None, templates: Iterable[str]) -> str | None:
    text = "\n".join(templates)
    return next((rule.parser for rule in rules if rule.applies(model_type or "", text)), None)
