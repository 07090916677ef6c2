"""Workload specs and vLLM's arguments."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from tests.factories.workloads import workload
from workers.manifests import vllm
from workers.manifests.spec import FlavorSpec


def test_the_template_changes_with_what_a_replica_is_and_with_nothing_else() -> None:
    base = workload()
    assert workload(replicas=5, generation=9).template_hash == base.template_hash
    assert workload(arguments={"max_model_len": 64}).template_hash != base.template_hash
    assert workload(engine_digest="sha256:other").template_hash != base.template_hash
    assert workload(served_model_name="acme/other").template_hash != base.template_hash
    renamed = replace(base.weights, repo="acme/renamed")
    assert workload(weights=renamed).template_hash == base.template_hash
    assert workload(weights=replace(base.weights, digest="0" * 64)).template_hash != base.template_hash


def test_arguments_are_vllms_flags() -> None:
    spec = workload(task="embed", arguments={"max_model_len": 128, "dtype": "float32"})
    flags = vllm.arguments(spec, model_path="/weights", host="127.0.0.1", port=8500, extra=["--enforce-eager"])
    pairs = dict(pairwise(flags))
    assert pairs["--model"] == "/weights"
    assert pairs["--served-model-name"] == "acme/chat"
    assert pairs["--runner"] == "pooling"
    assert pairs["--max-model-len"] == "128"
    assert pairs["--dtype"] == "float32"
    assert flags[-1] == "--enforce-eager"


def test_no_flag_that_opens_an_engine_is_ever_set() -> None:
    flags = vllm.arguments(workload(), model_path="/weights", host="127.0.0.1", port=8500)
    assert not {"--trust-remote-code", "--api-key", "--allowed-local-media-path"} & set(flags)


def test_the_kv_cache_of_a_cpu_engine_is_whole_gibibytes() -> None:
    half = workload(flavor=FlavorSpec(name="cpu", accelerator="cpu", accelerators=1, kv_cache_bytes=vllm.GIB // 2))
    assert vllm.cpu_environment(half)["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert vllm.offline_environment()["HF_HUB_OFFLINE"] == "1"
