"""Which flavor holds a model, split how, for how many requests, and how it is explained."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.common.errors import InvalidInput, Refused
from freehold.serving.sizing import Fit, Flavor, Model, Verdict, Weights, Workload, plan, size
from tests.unit.serving.test_sizing_published import config_of

GIB = 1024**3
H100_1X, H100_4X, H100_8X = (
    Flavor(name=f"h100-{count}x", accelerator="H100", accelerators=count, memory_bytes=79 * GIB) for count in (1, 4, 8)
)
H200_8X = Flavor(name="h200-8x", accelerator="H200", accelerators=8, memory_bytes=139 * GIB)
L40S_1X = Flavor(name="l40s-1x", accelerator="L40S", memory_bytes=44 * GIB)
CPU = Flavor(name="cpu", accelerator="cpu", kv_cache_bytes=GIB)
FLAVORS = (H200_8X, CPU, H100_8X, L40S_1X, H100_4X, H100_1X)

LLAMA_8B = Model(config=config_of("llama-3.1-8b"), weights=Weights(bytes_by_dtype={"BF16": 16_060_522_496}))
EXPLAINED = ("llama-3.1-70b", "gemma-3-27b", "deepseek-v3.2", "qwen3-next-80b-a3b", "mamba2-2.7b", "all-minilm-l6-v2")


def fit(name: str, flavor: Flavor, **workload: Any) -> Fit:
    return size(Model(config=config_of(name)), Workload(**{"context_length": 8192, **workload}), flavor)


def test_the_best_flavor_has_the_fewest_accelerators_and_then_the_least_memory() -> None:
    names = [found.flavor.name for found in plan(LLAMA_8B, Workload(context_length=8192), FLAVORS)]
    assert names == ["l40s-1x", "h100-1x", "h100-4x", "h100-8x", "h200-8x", "cpu"]


def test_what_does_not_fit_comes_last_and_says_why() -> None:
    found = plan(Model(config=config_of("llama-3.1-70b")), Workload(context_length=32768, concurrency=4), FLAVORS)
    assert [(one.flavor.name, one.fits) for one in found[:3]] == [
        ("h100-4x", True), ("h100-8x", True), ("h200-8x", True),
    ]  # fmt: skip
    reasons = {one.flavor.name: (one.verdict, one.reason) for one in found[3:]}
    assert reasons["l40s-1x"][0] is Verdict.WEIGHTS
    assert "missing on each accelerator: weights 131.42 GiB" in reasons["h100-1x"][1]
    assert reasons["cpu"][0] is Verdict.KV_CACHE


def test_too_few_requests_is_a_reason_with_the_replicas_that_would_do() -> None:
    found = fit("llama-3.1-8b", L40S_1X, context_length=131072, concurrency=5)
    assert (found.verdict, found.fits, found.replicas) == (Verdict.CONCURRENCY, False, 5)
    assert found.reason == "There is room for 1 request of 131,072 tokens at once, 5 are asked."


def test_a_context_longer_than_the_model_reads_is_refused_first() -> None:
    model = Model(config=config_of("qwen3-8b"), longest_context=40960)
    found = size(model, Workload(context_length=65536), H200_8X)
    assert (found.verdict, found.reason) == (
        Verdict.CONTEXT, "The model reads at most 40,960 tokens, 65,536 are asked.",
    )  # fmt: skip


def test_tensor_parallelism_takes_all_accelerators_where_heads_divide() -> None:
    found = fit("llama-3.1-70b", H100_8X)
    assert (found.tensor_parallel_size, found.pipeline_parallel_size, found.nodes) == (8, 1, 1)


def test_heads_that_do_not_divide_leave_the_rest_to_pipeline_stages() -> None:
    found = fit("qwen2.5-7b", H100_8X)
    assert (found.tensor_parallel_size, found.pipeline_parallel_size) == (4, 2)
    assert "Tensor parallelism over 8 is impossible: 28 attention heads do not divide by 8." in found.notes


def test_kv_heads_that_neither_divide_nor_repeat_evenly_stop_tensor_parallelism() -> None:
    config = {**config_of("qwen3-8b"), "num_attention_heads": 24, "num_key_value_heads": 6}
    found = size(Model(config=config), Workload(context_length=8192), H100_4X)
    assert found.tensor_parallel_size == 2
    assert any("6 KV heads" in note for note in found.notes)


def test_quantization_blocks_stop_tensor_parallelism_where_they_would_be_cut() -> None:
    config = config_of("qwen3-8b") | {
        "intermediate_size": 12288 + 256,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }  # fmt: skip
    found = size(Model(config=config), Workload(context_length=8192), H100_8X)
    assert found.tensor_parallel_size == 2
    assert any("blocks of 128" in note for note in found.notes)


def test_kv_heads_are_repeated_where_there_are_more_ranks() -> None:
    four, eight = fit("qwen3-30b-a3b", H100_4X), fit("qwen3-30b-a3b", H100_8X)
    block = {
        found.flavor.name: step.value for found in (four, eight) for step in found.steps if "A block" in step.label
    }
    assert block["h100-4x"] == block["h100-8x"]  # one KV head each, four of them twice


def test_a_latent_cache_is_whole_on_every_rank() -> None:
    found = fit("deepseek-v3", H200_8X)
    assert found.kv_token_bytes == 70272
    assert any("61 layers × 576 numbers × 2 bytes = 70,272 bytes a token" in str(step) for step in found.steps)
    block = next(step for step in found.steps if step.label.startswith("A block"))
    assert block.value == 70272 * 64


def test_a_model_larger_than_a_node_is_laid_over_several() -> None:
    found = fit("deepseek-v3", H100_8X)
    assert (found.fits, found.nodes, found.accelerators) == (True, 2, 16)
    assert (found.tensor_parallel_size, found.pipeline_parallel_size) == (8, 2)
    alone = size(Model(config=config_of("deepseek-v3")), Workload(context_length=8192), H100_8X, max_nodes=1)
    assert alone.verdict is Verdict.WEIGHTS


def test_a_part_of_a_node_is_never_laid_over_several() -> None:
    assert fit("llama-3.1-70b", H100_1X).nodes == 1


def test_an_encoder_keeps_nothing_and_fits_by_its_weights_alone() -> None:
    found = fit("all-minilm-l6-v2", L40S_1X, context_length=512, concurrency=1000)
    assert (found.fits, found.kv_tokens, found.max_concurrency, found.replicas) == (True, None, None, 1)


def test_a_cpu_flavor_has_its_fixed_cache_in_whole_gib_and_one_rank() -> None:
    half = Flavor(name="cpu", accelerator="cpu", accelerators=4, kv_cache_bytes=GIB // 2)
    found = fit("qwen3-8b", half, context_length=2048)
    assert (found.memory.kv_cache, found.tensor_parallel_size, found.fits) == (GIB, 1, True)
    assert found.kv_tokens == GIB // (147456 * 128) * 128


def test_a_cpu_flavor_with_a_limit_must_hold_the_weights_too() -> None:
    small = Flavor(name="cpu", accelerator="cpu", memory_bytes=8 * GIB, kv_cache_bytes=GIB)
    found = fit("qwen3-8b", small, context_length=2048)
    assert (found.verdict, found.memory.missing > 8 * GIB) == (Verdict.WEIGHTS, True)


def test_an_unknown_architecture_gets_an_answer_that_is_not_called_exact() -> None:
    config = {**config_of("qwen3-8b"), "model_type": "tomorrow", "architectures": ["TomorrowForCausalLM"]}
    found = size(Model(config=config), Workload(context_length=8192), H100_1X)
    assert (found.fits, found.exact) == (True, False)
    assert any("TomorrowForCausalLM is not known here" in note for note in found.notes)


def test_weights_of_files_win_over_the_estimate_and_drafting_layers_are_left_out() -> None:
    weights = Weights(bytes_by_dtype={"F8_E4M3": 680 * 10**9, "BF16": 9 * 10**9}, draft_bytes=14 * 10**9)
    found = size(Model(config=config_of("deepseek-v3"), weights=weights), Workload(context_length=8192), H200_8X)
    step = next(step for step in found.steps if step.label == "Weights")
    assert (step.value, step.estimate) == (675 * 10**9, False)
    assert "14,000,000,000 of drafting layers" in step.formula
    assert not any("estimate from config.json" in note for note in found.notes)


def test_expert_bytes_decide_how_much_a_stage_holds() -> None:
    model = config_of("gpt-oss-120b")
    light = Weights(bytes_by_dtype={"U8": 60 * GIB}, expert_bytes=40 * GIB)
    heavy = Weights(bytes_by_dtype={"U8": 60 * GIB}, expert_bytes=58 * GIB)
    sizes = [
        size(Model(config=model, weights=weights), Workload(context_length=8192), H100_4X).memory.weights
        for weights in (light, heavy)
    ]
    assert all(15 * GIB <= one < 16 * GIB for one in sizes)
    assert sizes[0] != sizes[1]


def test_an_fp8_cache_asked_for_by_the_checkpoint_is_believed() -> None:
    config = {**config_of("llama-3.1-8b"), "quantization_config": {"quant_method": "compressed-tensors"}}
    scheme = {"num_bits": 8, "type": "float"}
    plain = size(Model(config=config), Workload(context_length=8192), CPU)
    asked = size(
        Model(config={**config, "quantization_config": {**config["quantization_config"], "kv_cache_scheme": scheme}}),
        Workload(context_length=8192), CPU,
    )  # fmt: skip
    assert (plain.kv_token_bytes, asked.kv_token_bytes) == (131072, 65536)


@pytest.mark.parametrize("name", EXPLAINED)
def test_every_fit_is_explained_by_lines_that_can_be_followed(name: str) -> None:
    found = fit(name, H200_8X, context_length=2048)
    lines = [str(step) for step in found.steps]
    assert all(" = " in line and step.formula for line, step in zip(lines, found.steps, strict=True))
    if found.kv_tokens is not None:
        assert [step.label for step in found.steps][-2:] == ["Maximum concurrency", "KV cache size"]
        assert found.steps[-1].value == found.kv_tokens
        blocks, held = (
            next(s.value for s in found.steps if s.label.startswith(label)) for label in ("Blocks", "Blocks of")
        )
        assert found.max_concurrency == blocks / held


def test_the_first_line_is_the_one_that_everybody_knows() -> None:
    assert str(fit("qwen3-8b", H100_1X).steps[0]) == (
        "KV cache (every token): 2 (K and V) × 36 layers × 8 KV heads × 128 × 2 bytes = 147,456 bytes a token"
    )


@pytest.mark.parametrize("name", EXPLAINED)
def test_an_answer_is_plain_json(name: str) -> None:
    document = json.loads(json.dumps(fit(name, H200_8X, context_length=2048).to_dict()))
    assert document["verdict"] == "fits"
    assert document["flavor"]["name"] == "h200-8x"
    assert document["steps"][0]["text"]


@pytest.mark.parametrize(
    "values",
    [{"context_length": 0}, {"concurrency": 0}, {"gpu_memory_utilization": 1.5}, {"kv_cache_dtype": "int4"}],
)
def test_a_senseless_workload_is_refused_by_field(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        Workload(**{"context_length": 1024, **values})
    assert refused.value.field in values


def test_senseless_flavors_and_weights_are_refused() -> None:
    with pytest.raises(InvalidInput, match="memory"):
        Flavor(name="x", accelerator="H100")
    with pytest.raises(InvalidInput, match="at least one"):
        Flavor(name="x", accelerator="H100", accelerators=0, memory_bytes=GIB)
    with pytest.raises(InvalidInput, match="BF16"):
        Weights(bytes_by_dtype={"BF16": -1})


def test_a_configuration_without_counts_is_refused() -> None:
    with pytest.raises(Refused, match="num_hidden_layers"):
        plan(Model(config={"model_type": "llama"}), Workload(context_length=8192), FLAVORS)


NAMES = st.sampled_from(
    ["llama-3.1-8b", "qwen3-30b-a3b", "gemma-3-27b", "gpt-oss-20b", "deepseek-v3", "qwen3-next-80b-a3b", "mamba2-2.7b"]
)
GIBS = st.integers(min_value=24, max_value=300)


def capacity(name: str, context: int, memory: int, **workload: Any) -> Fit:
    """On eight accelerators, with vLLM's batch settings held fast: its defaults grow with memory."""
    flavor = Flavor(name="x", accelerator="any", accelerators=8, memory_bytes=memory * GIB)
    asked = Workload(context_length=context, max_num_batched_tokens=4096, max_num_seqs=256, **workload)
    return size(Model(config=config_of(name)), asked, flavor, max_nodes=1)


@given(name=NAMES, memory=GIBS, contexts=st.lists(st.integers(16, 200_000), min_size=2, max_size=4))
def test_a_longer_context_never_holds_more_requests(name: str, memory: int, contexts: list[int]) -> None:
    found = [capacity(name, context, memory).max_concurrency or 0 for context in sorted(contexts)]
    assert all(first >= second for first, second in pairwise(found))


@given(name=NAMES, context=st.integers(16, 200_000), memories=st.lists(GIBS, min_size=2, max_size=4))
def test_more_memory_never_holds_less(name: str, context: int, memories: list[int]) -> None:
    found = [capacity(name, context, memory) for memory in sorted(memories)]
    assert all((first.kv_tokens or 0) <= (second.kv_tokens or 0) for first, second in pairwise(found))
    assert all(first.fits <= second.fits for first, second in pairwise(found))


@given(
    name=st.sampled_from(["llama-3.1-8b", "gemma-3-27b", "gpt-oss-20b", "deepseek-v3"]),
    context=st.integers(16, 200_000),
)
def test_an_fp8_cache_holds_twice_as_much(name: str, context: int) -> None:
    plain, fp8 = (capacity(name, context, 140, kv_cache_dtype=dtype) for dtype in ("auto", "fp8"))
    assert fp8.kv_token_bytes * 2 == plain.kv_token_bytes
    assert (fp8.kv_tokens or 0) == pytest.approx(2 * (plain.kv_tokens or 0), rel=1e-3)


@given(name=NAMES, context=st.integers(16, 200_000), memory=GIBS, concurrency=st.integers(1, 500))
def test_the_verdict_agrees_with_the_figures(name: str, context: int, memory: int, concurrency: int) -> None:
    found = capacity(name, context, memory, concurrency=concurrency)
    parts = found.memory
    assert parts.kv_cache == 0 or parts.weights + parts.activations + parts.overhead + parts.kv_cache == parts.limit
    assert found.fits == (found.verdict is Verdict.FITS)
    if found.fits:
        assert found.replicas == 1
        assert (found.max_concurrency or 0) >= concurrency
    elif found.replicas is not None:
        assert found.replicas * (found.max_concurrency or 0) >= concurrency
