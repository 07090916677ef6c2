"""Against what vLLM 0.32 logged at its start, recorded by `python -m benchmarks.sizing`; and how the cache is split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sizing import CASES, Case, computed
from freehold.serving.sizing.configuration import ModelConfig
from freehold.serving.sizing.layers import layers_of
from freehold.serving.sizing.pages import Cache, Settings, cache_of, stage_layers
from tests.unit.serving.test_sizing_published import config_of

RECORDED = json.loads((Path(__file__).parent / "sizing_recordings.json").read_text())
GIB = 1024**3


def cache(name: str, **settings: Any) -> Cache:
    values = {"context_length": 8192, "block_size": 16, "tokens_in_flight": 8192, **settings}
    return cache_of(layers_of(ModelConfig.of(config_of(name))), Settings(**values))


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_tokens_and_requests_equal_those_that_the_engine_logged(case: Case) -> None:
    fit, recorded = computed(case), RECORDED[case.name]
    if recorded is None:
        assert (fit.kv_tokens, fit.max_concurrency) == (None, None)
        return
    assert fit.kv_tokens == recorded["tokens"]
    assert round(fit.max_concurrency or 0, 2) == recorded["requests"]


def test_a_group_has_as_many_layers_as_the_rarest_kind() -> None:
    groups = cache("gemma-3-27b").groups
    assert sorted(len(group.layers) for group in groups) == [8, 8, 9, 9, 9, 9, 10]  # 52 with a window, 10 without
    assert cache("gpt-oss-20b").groups[0].layers == tuple(range(0, 24, 2))


def test_a_window_holds_itself_what_is_in_flight_and_one_block_more() -> None:
    windowed = next(group for group in cache("gpt-oss-20b", tokens_in_flight=2048).groups if group.pages[0].window)
    assert windowed.blocks_per_request == -(-(127 + 2048) // 16) + 1
    short = next(group for group in cache("gpt-oss-20b", context_length=1024).groups if group.pages[0].window)
    assert short.blocks_per_request == 1024 // 16 + 1


def test_tensor_parallel_ranks_divide_kv_heads_and_then_repeat_them() -> None:
    sizes = [cache("llama-3.1-8b", tensor_parallel_size=ranks).block_bytes[0] for ranks in (1, 4, 8, 16)]
    assert [sizes[0] // size for size in sizes] == [1, 4, 8, 8]


def test_a_latent_vector_is_not_divided() -> None:
    assert cache("deepseek-v3", tensor_parallel_size=8).block_bytes == cache("deepseek-v3").block_bytes


def test_a_sparse_index_shares_the_blocks_of_its_latent_vectors() -> None:
    sparse = cache("deepseek-v3.2", block_size=64)
    assert len(sparse.groups) == 1
    assert sparse.block_bytes == (61 * (1152 + 132) * 64,)
    assert sparse.blocks_per_request == 8192 // 64


def test_attention_pages_grow_until_a_state_fits() -> None:
    hybrid = cache("qwen3-next-80b-a3b")
    page = hybrid.groups[0].pages[0]
    assert (page.content, page.size) == (1_097_728, 544 * 2048)
    assert hybrid.block_size == 544
    assert {len(group.layers) for group in hybrid.groups} == {12}


def test_pipeline_stages_hold_their_own_layers_and_the_smallest_decides() -> None:
    split = cache("llama-3.1-8b", pipeline_parallel_size=3)
    assert [len(stage) for stage in stage_layers(32, 3)] == [11, 11, 10]
    assert split.block_bytes == tuple(layers * 65536 for layers in (11, 11, 10))
    assert split.capacity(GIB, GIB, GIB).blocks == GIB // (11 * 65536)
    assert split.capacity(GIB, GIB // 2, GIB).blocks == GIB // 2 // (11 * 65536)


def test_spare_layers_go_to_the_middle_stages() -> None:
    assert [len(stage) for stage in stage_layers(61, 4)] == [15, 15, 16, 15]
    assert [len(stage) for stage in stage_layers(62, 4)] == [15, 16, 16, 15]


def test_prefix_caching_takes_a_second_page_for_a_state() -> None:
    kept, dropped = cache("qwen3-next-80b-a3b"), cache("qwen3-next-80b-a3b", prefix_caching=False)
    assert kept.blocks_per_request - dropped.blocks_per_request == 3  # groups of states
    assert cache("mamba2-2.7b").blocks_per_request == 1  # without attention there is no prefix caching


@pytest.mark.parametrize(
    ("name", "split", "tokens", "requests"),
    [
        ("qwen3", {"tensor_parallel_size": 2}, 2_796_160, 682.66),
        ("llama-mqa", {"tensor_parallel_size": 2}, 2_048_000, 682.67),
        ("falcon-h1", {"tensor_parallel_size": 2}, 2_556_489, 624.14),
        ("gemma3", {"pipeline_parallel_size": 2}, 883_011, 215.58),
        ("granite-4", {"pipeline_parallel_size": 2}, 2_064_699, 504.08),
    ],
)
def test_splits_equal_what_the_engine_logged_with_two_workers(
    name: str, split: dict[str, Any], tokens: int, requests: float
) -> None:
    case = next(case for case in CASES if case.name == name)
    settings = Settings(
        context_length=case.context_length,
        block_size=128,
        tokens_in_flight=case.batch * split.get("pipeline_parallel_size", 1),
        recurrent_bytes=4,
        **split,
    )
    found = cache_of(layers_of(ModelConfig.of(case.config)), settings).capacity(GIB)
    assert (found.tokens, round(found.concurrency or 0, 2)) == (tokens, requests)
