"""What each layer keeps, by architecture."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.common.errors import Refused
from freehold.serving.sizing.configuration import ModelConfig
from freehold.serving.sizing.layers import Kind, Layers, layers_of

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}


def found(**values: Any) -> Layers:
    return layers_of(ModelConfig.of({**LLAMA, **values}))


def kinds(layers: Layers) -> str:
    """One letter a cache: F(ull) W(indow) C(hunk) L(atent) I(ndex) S(tate)."""
    letters = {
        Kind.FULL: "F", Kind.WINDOW: "W", Kind.CHUNK: "C", Kind.LATENT: "L", Kind.INDEX: "I", Kind.STATE: "S",
    }  # fmt: skip
    return "".join(letters[cache.kind] for cache in layers.caches)


def test_llama_keeps_keys_and_values_of_every_token_in_every_layer() -> None:
    layers = found()
    assert kinds(layers) == "F" * 32
    assert (layers.kv_heads, layers.head_size, layers.attention) == (8, 128, "grouped-query attention")
    assert layers.exact


def test_heads_of_keys_default_to_all_heads_and_one_is_multi_query() -> None:
    assert found(num_key_value_heads=None).attention == "multi-head attention"
    assert found(num_key_value_heads=1).attention == "multi-query attention"


def test_a_stated_head_size_wins_over_the_hidden_size() -> None:
    assert found(head_dim=64).head_size == 64


def test_falcon_has_one_kv_head_unless_its_new_decoder_says_otherwise() -> None:
    assert found(model_type="falcon", multi_query=True).kv_heads == 1
    assert found(model_type="falcon", new_decoder_architecture=True, num_kv_heads=4).kv_heads == 4


def test_mistral_with_a_window_keeps_it_in_every_layer() -> None:
    assert kinds(found(model_type="mistral", sliding_window=4096, num_hidden_layers=4)) == "WWWW"
    assert kinds(found(model_type="mistral", sliding_window=None, num_hidden_layers=4)) == "FFFF"


def test_qwen_ignores_its_window_unless_told_to_use_it() -> None:
    qwen = {"model_type": "qwen2", "sliding_window": 131072, "num_hidden_layers": 4, "max_window_layers": 2}
    assert kinds(found(**qwen)) == "FFFF"
    assert kinds(found(**qwen, use_sliding_window=False)) == "FFFF"
    assert kinds(found(**qwen, use_sliding_window=True)) == "FFWW"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"model_type": "gemma2"}, "WFWFWF"),
        ({"model_type": "gemma3_text"}, "WWWWWF"),
        ({"model_type": "gemma3_text", "sliding_window_pattern": 3}, "WWFWWF"),
        ({"model_type": "cohere2"}, "WWWFWW"),
        ({"model_type": "exaone4", "sliding_window_pattern": "LLLG"}, "WWWFWW"),
        ({"model_type": "gpt_oss", "layer_types": ["full_attention"] * 6}, "WFWFWF"),
        ({"model_type": "olmo3", "layer_types": ["sliding_attention"] * 5 + ["full_attention"]}, "WWWWWF"),
    ],
)
def test_windows_alternate_as_each_family_has_it(values: dict[str, Any], expected: str) -> None:
    assert kinds(found(sliding_window=1024, num_hidden_layers=6, **values)) == expected


def test_coheres_window_is_one_token_wider_in_vllm() -> None:
    assert found(model_type="cohere2", sliding_window=4096).caches[0].window == 4097


def test_llama_4_attends_in_chunks_where_positions_are_rotary() -> None:
    layers = found(model_type="llama4_text", attention_chunk_size=8192, num_hidden_layers=8)
    assert kinds(layers) == "CCCFCCCF"


def test_gemma_3n_layers_that_share_keys_and_values_keep_none() -> None:
    layers = found(
        model_type="gemma3n_text", num_hidden_layers=10, num_kv_shared_layers=4, sliding_window=512,
        layer_types=(["sliding_attention"] * 4 + ["full_attention"]) * 2,
    )  # fmt: skip
    assert kinds(layers) == "WWWWFW"
    assert "last 4 layers" in layers.notes[0]


def test_gemma_4_has_larger_heads_where_it_sees_everything() -> None:
    layers = found(
        model_type="gemma4_text", num_hidden_layers=6, sliding_window=512, head_dim=256, global_head_dim=512,
        num_key_value_heads=8, num_global_key_value_heads=2, attention_k_eq_v=True,
    )  # fmt: skip
    assert {(cache.kind, cache.kv_heads, cache.key_size) for cache in layers.caches} == {
        (Kind.WINDOW, 8, 256),
        (Kind.FULL, 2, 512),
    }


def test_deepseek_keeps_one_latent_vector_a_layer_and_v32_an_index_beside_it() -> None:
    latent = {"model_type": "deepseek_v3", "kv_lora_rank": 512, "qk_rope_head_dim": 64, "num_hidden_layers": 3}
    layers = found(**latent)
    assert (kinds(layers), layers.caches[0].key_size, layers.caches[0].value_size) == ("LLL", 576, 0)
    sparse = found(**{**latent, "model_type": "deepseek_v32"}, index_head_dim=128)
    assert kinds(sparse) == "LILILI"
    assert sparse.caches[1].token_bytes == 132  # 128 of FP8 and one scale


def test_an_index_that_is_reused_is_kept_once() -> None:
    layers = found(
        model_type="glm_moe_dsa", kv_lora_rank=512, qk_rope_head_dim=64, index_head_dim=128, num_hidden_layers=4,
        index_topk_pattern="FSFS",
    )  # fmt: skip
    assert kinds(layers) == "LILLIL"


def test_jamba_has_attention_in_one_layer_of_eight() -> None:
    layers = found(
        model_type="jamba", num_hidden_layers=16, attn_layer_period=8, attn_layer_offset=4, mamba_d_state=16,
        mamba_d_conv=4, mamba_expand=2,
    )  # fmt: skip
    assert kinds(layers) == "SSSSFSSS" * 2
    assert layers.hybrid


def test_falcon_h1_has_both_in_every_layer_and_nemotron_h_neither_in_some() -> None:
    mamba = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 32, "mamba_d_conv": 4}
    assert kinds(found(model_type="falcon_h1", num_hidden_layers=2, **mamba)) == "FSFS"
    nemotron = {"mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 32, "conv_kernel": 4, "n_groups": 2}
    assert (
        kinds(found(model_type="nemotron_h", num_hidden_layers=5, hybrid_override_pattern="M-*EM", **nemotron)) == "SFS"
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"model_type": "granitemoehybrid", "layer_types": ["mamba", "attention"] * 2}, "SFSF"),
        ({"model_type": "bamba", "attn_layer_indices": [1]}, "SFSS"),
        ({"model_type": "mamba2", "num_heads": 8, "head_dim": 16, "state_size": 32, "conv_kernel": 4}, "SSSS"),
    ],
)
def test_mamba_2_families_say_where_attention_is(values: dict[str, Any], expected: str) -> None:
    mamba = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 32, "mamba_d_conv": 4, "num_hidden_layers": 4}
    assert kinds(found(**{**mamba, **values})) == expected


def test_linear_attention_has_a_state_and_full_attention_every_fourth_layer() -> None:
    delta = {
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128,
        "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
    }  # fmt: skip
    layers = found(model_type="qwen3_next", num_hidden_layers=4, **delta)
    assert kinds(layers) == "SSSF"
    state = layers.caches[0].state
    assert state is not None
    conv, recurrent = 3 * 8192 * 2, 32 * 128 * 128 * 2
    assert state.page_bytes(tensor_parallel_size=1, dtype_bytes=2) == conv + recurrent
    assert state.page_bytes(tensor_parallel_size=2, dtype_bytes=2) == (conv + recurrent) // 2
    assert state.page_bytes(tensor_parallel_size=1, dtype_bytes=2, recurrent_bytes=4) == conv + 2 * recurrent


def test_lightning_attention_is_sized_but_not_called_exact() -> None:
    layers = found(model_type="minimax_text_01", num_hidden_layers=3, attn_type_list=[0, 0, 1], head_dim=128)
    assert kinds(layers) == "SSF"
    assert not layers.exact


def test_kimi_linear_has_latent_attention_beside_its_states() -> None:
    layers = found(
        model_type="kimi_linear", num_hidden_layers=4, kv_lora_rank=512, qk_rope_head_dim=64,
        linear_attn_config={"kda_layers": [1, 2, 3], "num_heads": 32, "head_dim": 128, "short_conv_kernel_size": 4},
    )  # fmt: skip
    assert kinds(layers) == "SSSL"
    assert layers.latent


def test_groups_of_mamba_2_are_repeated_until_each_rank_has_one() -> None:
    mamba = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 32, "mamba_d_conv": 4, "mamba_n_groups": 1}
    state = found(model_type="falcon_h1", mamba_d_ssm=128, **mamba).caches[1].state
    assert state is not None
    whole = state.page_bytes(tensor_parallel_size=1, dtype_bytes=2)
    split = state.page_bytes(tensor_parallel_size=4, dtype_bytes=2)
    assert whole == (3 * (128 + 2 * 32) + 8 * 16 * 32) * 2
    assert split == (3 * (128 + 2 * 32 * 4) // 4 + 8 * 16 * 32 // 4) * 2


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "bert"},
        {"model_type": "qwen2", "is_causal": False},
        {"model_type": "gemma3_text", "use_bidirectional_attention": True},
        {"architectures": ["XLMRobertaForMaskedLM"], "model_type": "other"},
    ],
)
def test_encoders_keep_nothing(values: dict[str, Any]) -> None:
    layers = found(**values)
    assert (layers.caches, layers.exact) == ((), True)


def test_an_unknown_architecture_is_an_upper_bound_that_says_so() -> None:
    layers = found(
        architectures=["NewForCausalLM"], model_type="new_kind", swa_num_key_value_heads=16, v_head_dim=256,
        sliding_window=128,
    )  # fmt: skip
    assert kinds(layers) == "F" * 32
    assert not layers.exact
    assert {(cache.kv_heads, cache.key_size) for cache in layers.caches} == {(16, 256)}
    assert "upper bound" in layers.notes[0]


def test_the_language_model_of_several_modalities_is_what_counts() -> None:
    config = {"model_type": "llava", "text_config": LLAMA, "vision_config": {"num_hidden_layers": 24}}
    assert len(layers_of(ModelConfig.of(config)).caches) == 32


@pytest.mark.parametrize("missing", ["num_hidden_layers", "hidden_size"])
def test_a_missing_count_is_refused_by_name(missing: str) -> None:
    with pytest.raises(Refused, match=missing):
        found(**{missing: None})


@pytest.mark.parametrize("value", [-1, 0, True, "32", 1.5, 2**40, [32]])
def test_a_count_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(Refused, match="num_hidden_layers"):
        found(num_hidden_layers=value)


def test_a_million_layers_and_an_empty_file_are_refused() -> None:
    with pytest.raises(Refused, match="layers"):
        found(num_hidden_layers=1_000_000)
    with pytest.raises(Refused, match=r"config\.json"):
        ModelConfig.of({})
