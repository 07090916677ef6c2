"""Sizing against the engine's own start-up log: `python -m benchmarks.sizing`.

Tiny models of every kind of attention are started with the real vLLM on the CPU, one after the other; what it logs as

KV cache size" and "Maximum concurrency" is put beside what serving/sizing computes from the same config.json. Both must
be equal.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from freehold.onebox.environment import engine_variables
from freehold.onebox.layout import ROOT
from freehold.onebox.tiny_chat import write_tiny_chat
from freehold.serving.sizing import Fit, Flavor, Model, Workload, size
from workers.manifests.vllm import offline_environment

GIB: Final = 1024**3
_SECONDS = 900
_CAPACITY = re.compile(
    r"KV cache size: ([\d,]+) tokens, Maximum concurrency for ([\d,]+) tokens per request: ([\d.,]+)x"
)
_BASE: Final[Mapping[str, Any]] = {
    "dtype": "bfloat16",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


@dataclass(frozen=True)
class Case:
    """A tiny model: its kind, config.json, and vLLM's arguments."""

    name: str
    kind: str
    config: Mapping[str, Any]
    batch: int = 1024
    context_length: int = 4096
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """What the engine logged (None where it keeps no KV cache) and what was computed."""

    case: Case
    engine_tokens: int | None
    engine_concurrency: float | None
    fit: Fit
    problem: str = ""

    @property
    def equal(self) -> bool:
        """Tokens to the last one, requests to the two digits that are logged."""
        ours = self.fit.max_concurrency
        return (
            not self.problem
            and self.fit.kv_tokens == self.engine_tokens
            and (None if ours is None else round(ours, 2)) == self.engine_concurrency
        )


def _config(architecture: str, model_type: str, **values: Any) -> dict[str, Any]:
    return {**_BASE, "architectures": [architecture], "model_type": model_type, **values}


_GEMMA = {"query_pre_attn_scalar": 32, "hidden_activation": "gelu_pytorch_tanh"}
_MAMBA_2 = {
    "mamba_n_heads": 8,
    "mamba_n_groups": 1,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 64,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
}
_DELTA = {
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_conv_kernel_dim": 4,
}

CASES: Final = (
    Case(
        "opt", "multi-head (MHA)",
        {"architectures": ["OPTForCausalLM"], "model_type": "opt", "dtype": "bfloat16", "hidden_size": 128,
        "ffn_dim": 256,
         "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 512, "max_position_embeddings": 4096,
         "word_embed_proj_dim": 128, "do_layer_norm_before": True, "activation_function": "relu", "pad_token_id": 1,
         "bos_token_id": 0, "eos_token_id": 2},
    ),
    Case("qwen3", "grouped-query (GQA)", _config("Qwen3ForCausalLM", "qwen3", num_hidden_layers=3)),
    Case(
        "qwen3-fp8", "GQA, FP8 KV cache",
        _config("Qwen3ForCausalLM", "qwen3", num_hidden_layers=3),
        context_length=2000, arguments={"kv_cache_dtype": "fp8"},
    ),
    Case(
        "llama-mqa", "multi-query (MQA)",
        _config("LlamaForCausalLM", "llama", num_key_value_heads=1, head_dim=64), context_length=3000,
    ),
    Case(
        "deepseek-v2", "latent (MLA)",
        _config(
            "DeepseekV2ForCausalLM", "deepseek_v2", num_key_value_heads=4, head_dim=None, kv_lora_rank=512,
            q_lora_rank=None, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128, n_routed_experts=4,
            num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=64, first_k_dense_replace=1,
            moe_layer_freq=1, n_group=1, topk_group=1, topk_method="greedy", scoring_func="softmax",
            routed_scaling_factor=1.0, norm_topk_prob=False,
        ),
        arguments={"attention_config": {"backend": "CPU_MLA"}},
    ),
    Case("mistral", "sliding window, all layers", _config("MistralForCausalLM", "mistral", sliding_window=512)),
    Case(
        "gemma2", "window and full 1:1",
        _config("Gemma2ForCausalLM", "gemma2", num_hidden_layers=6, sliding_window=256, **_GEMMA),
    ),
    Case(
        "gemma3", "window and full 5:1, uneven",
        _config(
            "Gemma3ForCausalLM", "gemma3_text", num_hidden_layers=13, sliding_window=256,
            layer_types=(["sliding_attention"] * 3 + ["full_attention"]) * 3 + ["sliding_attention"], **_GEMMA,
        ),
        batch=512,
    ),
    Case(
        "gpt-oss", "window and full, sinks",
        _config(
            "GptOssForCausalLM", "gpt_oss", num_hidden_layers=4, head_dim=64, sliding_window=128, num_local_experts=4,
            num_experts_per_tok=2, layer_types=["sliding_attention", "full_attention"] * 2, attention_bias=True,
            swiglu_limit=7.0,
            rope_scaling={"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
                          "original_max_position_embeddings": 4096},
        ),
    ),
    Case(
        "gemma3n", "window and full, shared KV",
        _config(
            "Gemma3nForCausalLM", "gemma3n_text", num_hidden_layers=10, sliding_window=256, num_kv_shared_layers=4,
            layer_types=(["sliding_attention"] * 4 + ["full_attention"]) * 2, laurel_rank=8, altup_num_inputs=2,
            altup_active_idx=0, altup_coef_clip=120.0, altup_correct_scale=True, hidden_size_per_layer_input=16,
            vocab_size_per_layer_input=512, activation_sparsity_pattern=[0.0] * 10, intermediate_size=[128] * 10,
            final_logit_softcapping=30.0, rope_local_base_freq=10000.0, hidden_activation="gelu_pytorch_tanh",
        ),
    ),
    Case(
        "gemma4", "window and full, larger full heads",
        _config(
            "Gemma4ForCausalLM", "gemma4_text", num_hidden_layers=6, global_head_dim=64, sliding_window=256,
            layer_types=["sliding_attention"] * 5 + ["full_attention"], num_kv_shared_layers=0,
            hidden_size_per_layer_input=0, vocab_size_per_layer_input=512, hidden_activation="gelu_pytorch_tanh",
            attention_k_eq_v=False, enable_moe_block=False, tie_word_embeddings=True,
            rope_parameters={
                "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        ),
    ),
    Case(
        "llama4", "chunked and full 3:1",
        _config(
            "Llama4ForCausalLM", "llama4_text", num_hidden_layers=4, attention_chunk_size=256, no_rope_layers=[1, 1,
            1, 0],
            intermediate_size_mlp=128, num_local_experts=2, num_experts_per_tok=1, interleave_moe_layer_step=1,
            use_qk_norm=True, attn_temperature_tuning=True, floor_scale=8192, attn_scale=0.1,
        ),
    ),
    Case(
        "jamba", "attention and Mamba 1:7",
        _config(
            "JambaForCausalLM", "jamba", hidden_size=128, num_hidden_layers=8, attn_layer_period=8, attn_layer_offset=4,
            expert_layer_period=2, expert_layer_offset=1, num_experts=2, num_experts_per_tok=1, mamba_d_state=16,
            mamba_d_conv=4, mamba_expand=2, mamba_dt_rank=8, mamba_conv_bias=True, mamba_proj_bias=False,
        ),
    ),
    Case(
        "falcon-h1", "attention and Mamba 2 in each",
        _config(
            "FalconH1ForCausalLM", "falcon_h1", num_hidden_layers=3, mamba_d_ssm=128, mamba_d_head=16, mamba_d_state=32,
            mamba_rms_norm=False, mamba_norm_before_gate=False, projectors_bias=False, mlp_bias=False,
            attention_bias=False, **_MAMBA_2,
        ),
    ),
    Case(
        "granite-4", "attention and Mamba 2, large states",
        _config(
            "GraniteMoeHybridForCausalLM", "granitemoehybrid", hidden_size=128, num_hidden_layers=6, mamba_d_head=32,
            mamba_d_state=128, layer_types=["mamba", "mamba", "attention"] * 2, num_local_experts=4,
            num_experts_per_tok=2,
            shared_intermediate_size=128, embedding_multiplier=1.0, logits_scaling=1.0, residual_multiplier=1.0,
            attention_multiplier=0.1, position_embedding_type="rope", **_MAMBA_2,
        ),
    ),
    Case(
        "qwen3-next", "attention and delta net 1:3",
        _config(
            "Qwen3NextForCausalLM", "qwen3_next", num_hidden_layers=4, num_experts=4, num_experts_per_tok=2,
            moe_intermediate_size=64, shared_expert_intermediate_size=64, decoder_sparse_step=1,
            full_attention_interval=4, norm_topk_prob=True, mlp_only_layers=[], partial_rotary_factor=0.25, **_DELTA,
        ),
    ),
    Case(
        "nemotron-h", "attention, Mamba 2 and neither",
        _config(
            "NemotronHForCausalLM", "nemotron_h", num_hidden_layers=6, hybrid_override_pattern="M-M*-M",
            mamba_num_heads=8, mamba_head_dim=16, ssm_state_size=128, n_groups=2, conv_kernel=4, expand=2,
            chunk_size=64,
            use_conv_bias=True, use_bias=False, mamba_proj_bias=False, mlp_hidden_act="relu2", layer_norm_epsilon=1e-5,
            residual_in_fp32=False, attention_bias=False, mlp_bias=False, mamba_hidden_act="silu",
        ),
    ),
    Case(
        "lfm2", "attention and short convolution",
        _config(
            "Lfm2ForCausalLM", "lfm2", hidden_size=128, num_hidden_layers=6, conv_L_cache=3, conv_bias=False,
            layer_types=["conv", "conv", "full_attention"] * 2, conv_dim=128, block_dim=128, block_ff_dim=256,
            block_multiple_of=64, block_ffn_dim_multiplier=1.0, block_auto_adjust_ff_dim=False, norm_eps=1e-5,
        ),
    ),
    Case(
        "mamba2", "Mamba 2 alone",
        _config(
            "Mamba2ForCausalLM", "mamba2", state_size=32, conv_kernel=4, expand=2, num_heads=8, head_dim=16, n_groups=1,
            use_bias=False, use_conv_bias=True, chunk_size=64, layer_norm_epsilon=1e-5,
        ),
        context_length=2048,
    ),
    Case(
        "bert", "encoder (embeddings)",
        {"architectures": ["BertModel"], "model_type": "bert", "dtype": "float32", "hidden_size": 128,
         "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 512,
         "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
         "pad_token_id": 0},
        context_length=512, arguments={"runner": "pooling"},
    ),
    Case(
        "qwen3-embedding", "embeddings from a decoder",
        _config("Qwen3ForCausalLM", "qwen3", num_hidden_layers=3), arguments={"runner": "pooling"},
    ),
)  # fmt: skip


def main(names: Sequence[str]) -> int:
    """Prints the table; the status is 1 where a row differs."""
    rows = measure([case for case in CASES if not names or case.name in names])
    titles = ("model", "kind", "vLLM tokens", "ours", "ratio", "vLLM requests", "ours")
    table = [titles, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(titles))]
    for line in table:
        cells = (
            text.ljust(width) if place < 2 else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join(cells))
    for row in rows:
        if row.problem:
            print(row.problem)
    equal = sum(row.equal for row in rows)
    print(f"{equal} of {len(rows)} equal")
    return 0 if equal == len(rows) else 1


def measure(cases: Sequence[Case]) -> list[Row]:
    """Starts a real engine for each case in one process, and computes beside it. About 10 s a case."""
    with tempfile.TemporaryDirectory() as home:
        log = _engine_log(cases, Path(home))
    parts = dict(re.findall(r"^== (\S+)\n(.*?)(?=^== |\Z)", log, re.MULTILINE | re.DOTALL))
    return [_row(case, parts.get(case.name, f"!! {case.name}: nothing was logged")) for case in cases]


def computed(case: Case) -> Fit:
    """What sizing says: a CPU with 1 GiB of KV cache."""
    flavor = Flavor(name="cpu", accelerator="cpu", kv_cache_bytes=GIB)
    workload = Workload(
        context_length=case.context_length,
        kv_cache_dtype="fp8" if case.arguments.get("kv_cache_dtype") == "fp8" else "auto",
        max_num_batched_tokens=case.batch,
        recurrent_bytes=4,
    )
    return size(Model(config=case.config), workload, flavor)


def _engine_log(cases: Sequence[Case], home: Path) -> str:
    work = []
    for case in cases:
        folder = write_tiny_chat(home / case.name)  # for its tokenizer
        (folder / "model.safetensors").unlink()
        (folder / "generation_config.json").unlink()
        (folder / "config.json").write_text(json.dumps(dict(case.config)))
        arguments = {"max_model_len": case.context_length, "max_num_batched_tokens": case.batch, **case.arguments}
        work.append((case.name, str(folder), arguments))
    variables = engine_variables()
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        **offline_environment(),
        "LD_LIBRARY_PATH": variables.get("FREEHOLD_ENGINE_LD_LIBRARY_PATH", ""),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(home),
    }
    done = subprocess.run(
        [variables["FREEHOLD_ENGINE_PYTHON"], str(ROOT / "benchmarks" / "sizing_engine.py"), json.dumps(work)],
        env=environment, cwd=home, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=_SECONDS,
    )  # fmt: skip
    return done.stdout


def _row(case: Case, log: str) -> Row:
    found = _CAPACITY.search(log)
    if f"-- {case.name} started" not in log:
        failed = re.search(r"^!! (.*)$", log, re.MULTILINE)
        return Row(
            case, None, None, computed(case), failed[1] if failed else f"{case.name} did not start: {log[-500:]}"
        )
    if not found:
        return Row(case, None, None, computed(case))
    return Row(case, int(found[1].replace(",", "")), float(found[3].replace(",", "")), computed(case))


def _cells(row: Row) -> tuple[str, ...]:
    ours, theirs = row.fit.kv_tokens, row.engine_tokens
    return (
        row.case.name,
        row.case.kind,
        "none" if theirs is None else f"{theirs:,}",
        "none" if ours is None else f"{ours:,}",
        f"{ours / theirs:.4f}" if ours and theirs else "-",
        "-" if row.engine_concurrency is None else f"{row.engine_concurrency:,.2f}",
        "-" if row.fit.max_concurrency is None else f"{row.fit.max_concurrency:,.2f}",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
