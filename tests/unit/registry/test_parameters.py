"""How many parameters a model has: as published, by the shapes of its tensors, packed or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from freehold.registry.inspection.parameters import count_parameters
from freehold.registry.inspection.quantization import quantization_of
from freehold.registry.inspection.weights import Tensor


def _t(name: str, *shape: int, dtype: str = "BF16") -> Tensor:
    return Tensor(name=name, dtype=dtype, shape=shape, begin=0, end=0)


def _attention(prefix: str, hidden: int, heads: int, kv: int, head: int) -> Iterator[Tensor]:
    yield _t(f"{prefix}.self_attn.q_proj.weight", heads * head, hidden)
    yield _t(f"{prefix}.self_attn.k_proj.weight", kv * head, hidden)
    yield _t(f"{prefix}.self_attn.v_proj.weight", kv * head, hidden)
    yield _t(f"{prefix}.self_attn.o_proj.weight", hidden, heads * head)


def _mlp(prefix: str, hidden: int, inner: int, names: str = "gate_proj up_proj down_proj") -> Iterator[Tensor]:
    for name in names.split():
        yield _t(f"{prefix}.{name}.weight", inner, hidden)


QWEN3_30B = {"num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48}


def _qwen3_30b() -> Iterator[Tensor]:
    """Qwen3-30B-A3B, from its config.json."""
    yield _t("model.embed_tokens.weight", 151_936, 2048)
    yield _t("lm_head.weight", 151_936, 2048)
    for layer in range(48):
        prefix = f"model.layers.{layer}"
        yield from _attention(prefix, 2048, 32, 4, 128)
        yield _t(f"{prefix}.mlp.gate.weight", 128, 2048)
        for expert in range(128):
            yield from _mlp(f"{prefix}.mlp.experts.{expert}", 2048, 768)


MIXTRAL = {"num_local_experts": 8, "num_experts_per_tok": 2, "num_hidden_layers": 32}


def _mixtral() -> Iterator[Tensor]:
    """Mixtral-8x7B, from its config.json."""
    yield _t("model.embed_tokens.weight", 32_000, 4096)
    yield _t("lm_head.weight", 32_000, 4096)
    for layer in range(32):
        prefix = f"model.layers.{layer}"
        yield from _attention(prefix, 4096, 32, 8, 128)
        yield _t(f"{prefix}.block_sparse_moe.gate.weight", 8, 4096)
        for expert in range(8):
            yield from _mlp(f"{prefix}.block_sparse_moe.experts.{expert}", 4096, 14_336, "w1 w2 w3")


DEEPSEEK = {
    "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "num_hidden_layers": 61,
    "num_nextn_predict_layers": 1,
}  # fmt: skip


def _deepseek_v3() -> Iterator[Tensor]:
    """DeepSeek-V3, from its config.json: MLA, three dense layers, one layer (61) that only drafts."""
    yield _t("model.embed_tokens.weight", 129_280, 7168)
    yield _t("lm_head.weight", 129_280, 7168)
    for layer in range(62):
        prefix = f"model.layers.{layer}"
        yield _t(f"{prefix}.self_attn.q_a_proj.weight", 1536, 7168, dtype="F8_E4M3")
        yield _t(f"{prefix}.self_attn.q_a_proj.weight_scale_inv", 12, 56, dtype="F32")
        yield _t(f"{prefix}.self_attn.q_b_proj.weight", 128 * 192, 1536)
        yield _t(f"{prefix}.self_attn.kv_a_proj_with_mqa.weight", 576, 7168)
        yield _t(f"{prefix}.self_attn.kv_b_proj.weight", 128 * 256, 512)
        yield _t(f"{prefix}.self_attn.o_proj.weight", 7168, 128 * 128)
        if layer < 3:
            yield from _mlp(f"{prefix}.mlp", 7168, 18_432)
            continue
        yield _t(f"{prefix}.mlp.gate.weight", 256, 7168)
        yield from _mlp(f"{prefix}.mlp.shared_experts", 7168, 2048)
        for expert in range(256):
            yield from _mlp(f"{prefix}.mlp.experts.{expert}", 7168, 2048)


GPT_OSS = {"num_local_experts": 32, "experts_per_token": 4, "num_hidden_layers": 24}


def _gpt_oss_20b() -> Iterator[Tensor]:
    """gpt-oss-20b as published: fused experts in MXFP4, two weights a byte, 32 weights a scale."""
    yield _t("model.embed_tokens.weight", 201_088, 2880)
    yield _t("lm_head.weight", 201_088, 2880)
    for layer in range(24):
        prefix = f"model.layers.{layer}"
        yield from _attention(prefix, 2880, 64, 8, 64)
        yield _t(f"{prefix}.mlp.router.weight", 32, 2880)
        for name, rows in (("gate_up_proj", 5760), ("down_proj", 2880)):
            yield _t(f"{prefix}.mlp.experts.{name}_blocks", 32, rows, 90, 16, dtype="U8")
            yield _t(f"{prefix}.mlp.experts.{name}_scales", 32, rows, 90, dtype="U8")
            yield _t(f"{prefix}.mlp.experts.{name}_bias", 32, rows)


@pytest.mark.parametrize(
    ("tensors", "config", "quantization", "total", "active"),
    [
        # in billions, as the publishers state them in their model cards
        pytest.param(_qwen3_30b, QWEN3_30B, None, 30.5, 3.3, id="Qwen3-30B-A3B"),
        pytest.param(_mixtral, MIXTRAL, None, 46.7, 12.9, id="Mixtral-8x7B"),
        pytest.param(_deepseek_v3, DEEPSEEK, {"quant_method": "fp8"}, 671 + 11.6, 37, id="DeepSeek-V3 and its MTP"),
        pytest.param(_gpt_oss_20b, GPT_OSS, {"quant_method": "mxfp4"}, 20.9, 3.6 + 0.58, id="gpt-oss-20b"),
    ],
)
def test_parameters_are_as_published(
    tensors: Any, config: dict[str, Any], quantization: dict[str, Any] | None, total: float, active: float
) -> None:
    found = quantization_of({"quantization_config": quantization}, {}, {})
    count = count_parameters(tensors(), config, found)
    assert count.active is not None
    assert count.total / 1e9 == pytest.approx(total, rel=0.005)
    assert count.active / 1e9 == pytest.approx(active, rel=0.02)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("model.language_model.layers.0.feed_forward.experts.gate_up_proj", {"num_local_experts": 16}),
        ("model.layers.3.mlp.experts.7.up_proj.weight", {"n_routed_experts": 16}),
        ("model.layers.3.block_sparse_moe.experts.7.w1.weight", {"num_local_experts": 16}),
        ("model.layers.3.block_sparse_moe.input_linear.weight", {"num_local_experts": 16}),
        ("model.layers.3.moe.gate_proj.weight", {"moe_num_experts": [16, 16]}),
        ("layers.3.experts.7.w1.weight", {"n_routed_experts": 16}),
        ("transformer.blocks.0.ffn.experts.mlp.w1", {"ffn_config": {"moe_num_experts": 16, "moe_top_k": 4}}),
    ],
)
def test_experts_are_known_by_the_names_of_every_family(name: str, config: dict[str, Any]) -> None:
    count = count_parameters([_t(name, 1600), _t("lm_head.weight", 10)], {"num_experts_per_tok": 4, **config}, None)
    assert (count.total, count.active, count.experts, count.experts_per_token) == (1610, 410, 16, 4)


def test_of_experts_without_a_count_the_active_part_is_unknown() -> None:
    count = count_parameters([_t("model.layers.0.mlp.experts.0.up_proj.weight", 8)], {}, None)
    assert (count.total, count.active) == (8, None)


def test_shared_experts_take_part_in_every_token() -> None:
    names = ("mlp.shared_experts.up_proj", "mlp.shared_expert.up_proj", "feed_forward.shared_expert.up_proj")
    tensors = [_t(f"model.layers.0.{name}.weight", 10) for name in names]
    assert count_parameters(tensors, QWEN3_30B, None).active == 30


_GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "checkpoint_format": "gptq_v2"}
_AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}
_PACKED = {
    "quant_method": "compressed-tensors", "format": "pack-quantized",
    "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32}}},
}  # fmt: skip
_NVFP4 = {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}
_BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


@pytest.mark.parametrize(
    ("config", "tensors", "expected"),
    [
        (
            _GPTQ,
            [
                ("qweight", "I32", 512, 4096),
                ("qzeros", "I32", 32, 512),
                ("scales", "F16", 32, 4096),
                ("g_idx", "I32", 4096),
            ],
            ("gptq", 4, 128, "gptq_v2"),
        ),
        (
            {**_GPTQ, "bits": 8},
            [("qweight", "I32", 1024, 4096), ("scales", "F16", 32, 4096)],
            ("gptq", 8, 128, "gptq_v2"),
        ),
        ({**_GPTQ, "bits": 3}, [("qweight", "I32", 384, 4096)], ("gptq", 3, 128, "gptq_v2")),
        (
            _AWQ,
            [("qweight", "I32", 4096, 512), ("qzeros", "I32", 32, 512), ("scales", "F16", 32, 4096)],
            ("awq", 4, 128, None),
        ),
        (
            _PACKED,
            [("weight_packed", "I32", 4096, 512), ("weight_scale", "BF16", 4096, 128), ("weight_shape", "I64", 2)],
            ("compressed-tensors", 4, 32, "pack-quantized"),
        ),
        (
            {**_PACKED, "format": "nvfp4-pack-quantized"},
            [
                ("weight_packed", "U8", 4096, 2048),
                ("weight_scale", "F8_E4M3", 4096, 256),
                ("weight_global_scale", "F32", 1),
            ],
            ("compressed-tensors", 4, 32, "nvfp4-pack-quantized"),
        ),
        (
            _NVFP4,
            [
                ("weight", "U8", 4096, 2048),
                ("weight_scale", "F8_E4M3", 4096, 256),
                ("weight_scale_2", "F32"),
                ("input_scale", "F32"),
            ],
            ("modelopt", 4, 16, "NVFP4"),
        ),
        (
            _BNB,
            [
                ("weight", "U8", 8_388_608, 1),
                ("weight.absmax", "U8", 262_144),
                ("weight.quant_map", "F32", 16),
                ("weight.nested_absmax", "F32", 1024),
                ("weight.nested_quant_map", "F32", 256),
                ("weight.quant_state.bitsandbytes__nf4", "U8", 160),
            ],
            ("bitsandbytes", 4, None, "nf4"),
        ),
        (
            {"quant_method": "bitsandbytes", "load_in_8bit": True},
            [("weight", "I8", 4096, 4096), ("SCB", "F32", 4096), ("weight_format", "U8")],
            ("bitsandbytes", 8, None, "int8"),
        ),
        (
            {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
            [("weight", "F8_E4M3", 4096, 4096), ("weight_scale_inv", "F32", 32, 32)],
            ("fp8", 8, None, "e4m3"),
        ),
    ],
)
def test_packed_weights_are_counted_one_by_one(
    config: dict[str, Any], tensors: list[tuple[Any, ...]], expected: tuple[Any, ...]
) -> None:
    found = quantization_of({"quantization_config": config}, {}, {})
    assert found is not None
    assert (found.method, found.bits, found.group_size, found.format) == expected
    named = [_t(f"model.layers.0.self_attn.q_proj.{name}", *shape, dtype=dtype) for name, dtype, *shape in tensors]
    assert count_parameters(named, {}, found).total == 4096 * 4096


def test_quantization_is_found_where_the_engine_finds_it() -> None:
    beside = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": None}}
    found = quantization_of({}, {}, beside)
    assert found is not None
    assert found.facts() == {"method": "modelopt", "bits": 8, "group_size": None, "format": "FP8"}
    within = quantization_of({}, {"quantization_config": _AWQ}, beside)
    older = quantization_of({"compression_config": _PACKED}, {}, {})
    assert (within and within.method, older and older.method) == ("awq", "compressed-tensors")
    assert quantization_of({"quantization_config": None}, {}, {}) is None
