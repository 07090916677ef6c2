"""Does a model fit, on which flavor, split how, and for how many requests? The door to sizing.

`size` answers for one flavor, `plan` ranks several. The REST API and the console call them with what inspection found
(Revision.inspection), or with a catalog entry's config.json before any weights are here.

    model = Model(config=config, weights=Weights(bytes_by_dtype={"BF16": 16_060_522_496}))
    fits = plan(model, Workload(context_length=32_768, concurrency=8), flavors)
    fits[0].reason, [str(step) for step in fits[0].steps]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from freehold.serving.sizing.configuration import ModelConfig
from freehold.serving.sizing.explain import cache_steps, capacity_steps, memory_steps
from freehold.serving.sizing.flavors import Batches, Flavor, Workload, batches_of
from freehold.serving.sizing.layers import Layers, layers_of
from freehold.serving.sizing.memory import Memory, memory_of
from freehold.serving.sizing.pages import Cache, Capacity, Settings, cache_of
from freehold.serving.sizing.parallel import Split, split_of
from freehold.serving.sizing.parameters import Parameters, parameters_of
from freehold.serving.sizing.steps import Step, gib, several
from freehold.serving.sizing.weights import WeightBytes, Weights, rank_bytes, weight_bytes_of

MAX_NODES: Final = 4
_WHOLE_NODE = 8  # accelerators: a smaller flavor is a part of a node, and a larger one is the better answer


class Verdict(StrEnum):
    """Whether it fits, or what is in the way first."""

    FITS = "fits"
    CONTEXT = "context"  # longer than the model reads
    WEIGHTS = "weights"  # weights, activations and the runtime leave nothing
    KV_CACHE = "kv_cache"  # not one request of this length
    CONCURRENCY = "concurrency"  # fewer requests than asked


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is known of a model.

    Attributes:
        config: its config.json, whole or pruned (Revision.inspection["config"]).
        longest_context: tokens it reads at most (Revision.inspection["context"]["longest"]); None where unknown.
    """

    config: Mapping[str, Any]
    weights: Weights = field(default_factory=Weights)
    longest_context: int | None = None


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The answer for one flavor.

    Attributes:
        reason: one sentence for a person.
        replicas: that together hold the workload's concurrency; None where not even one request fits.
        kv_token_bytes: growth a token of a long sequence, over all layers, before tensor parallelism.
        kv_state_bytes: of one sequence whatever its length, likewise.
        kv_tokens, max_concurrency: vLLM's "GPU KV cache size" and "Maximum concurrency"; None where nothing is kept.
        exact: false where the architecture is not known and the KV cache is an upper bound.
        steps: the calculation, line by line; `notes`: what to know beside it.
    """

    flavor: Flavor
    verdict: Verdict
    fits: bool
    reason: str
    nodes: int
    accelerators: int
    tensor_parallel_size: int
    pipeline_parallel_size: int
    context_length: int
    concurrency: int
    replicas: int | None
    memory: Memory
    attention: str
    kv_token_bytes: int
    kv_state_bytes: int
    kv_tokens: int | None
    max_concurrency: float | None
    exact: bool
    steps: tuple[Step, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: strings, numbers, lists and objects; each step also as a line of text."""
        found = asdict(self)
        found["verdict"] = self.verdict.value
        found["steps"] = [{**asdict(step), "text": str(step)} for step in self.steps]
        found["notes"] = list(self.notes)
        return found


def plan(model: Model, workload: Workload, flavors: Iterable[Flavor], *, max_nodes: int = MAX_NODES) -> list[Fit]:
    """Every flavor, best first: what fits, with the fewest accelerators, then the least memory.

    Raises Refused where config.json lacks a number that sizing needs.
    """
    found = [size(model, workload, flavor, max_nodes=max_nodes) for flavor in flavors]
    return sorted(found, key=_rank)


def size(model: Model, workload: Workload, flavor: Flavor, *, max_nodes: int = MAX_NODES) -> Fit:
    """One flavor, over as few of its nodes as hold the workload. Raises Refused like `plan`."""
    config = ModelConfig.of(model.config)
    subject = _Subject.of(model, config)
    nodes = max(1, max_nodes) if flavor.accelerators >= _WHOLE_NODE and not flavor.is_cpu else 1
    answers = []
    for count in range(1, nodes + 1):
        split = split_of(config, subject.layers, accelerators=1 if flavor.is_cpu else flavor.accelerators, nodes=count)
        answers.append(_fit(subject, workload, flavor, split))
        if answers[-1].fits or answers[-1].verdict is Verdict.CONTEXT or not subject.layers.caches:
            break
    return answers[-1] if answers[-1].fits else answers[0]


@dataclass(frozen=True, kw_only=True)
class _Subject:
    model: Model
    config: ModelConfig
    layers: Layers
    parameters: Parameters
    weights: WeightBytes

    @classmethod
    def of(cls, model: Model, config: ModelConfig) -> _Subject:
        parameters = parameters_of(config)
        return cls(
            model=model,
            config=config,
            layers=layers_of(config),
            parameters=parameters,
            weights=weight_bytes_of(config, parameters, model.weights),
        )


def settings_of(
    config: ModelConfig, layers: Layers, flavor: Flavor, workload: Workload, split: Split, batches: Batches
) -> Settings:
    """How vLLM would be started; block sizes are those of FlashAttention and FlashMLA, and on a CPU its own."""
    if flavor.is_cpu:
        block_size = 16 if layers.latent else 128
    else:
        block_size = 64 if layers.latent else 16
    fp8 = workload.kv_cache_dtype == "fp8" or _fp8_by_checkpoint(config)
    return Settings(
        context_length=workload.context_length,
        block_size=block_size,
        tokens_in_flight=batches.tokens * batches.in_flight,
        kv_bytes=1 if fp8 else config.dtype_bytes,
        dtype_bytes=config.dtype_bytes,
        # On a CPU vLLM keeps recurrent states as float32 (platforms/cpu.py).
        recurrent_bytes=workload.recurrent_bytes or (4 if flavor.is_cpu else None),
        tensor_parallel_size=split.tensor_parallel_size,
        pipeline_parallel_size=split.pipeline_parallel_size,
    )


def _fp8_by_checkpoint(config: ModelConfig) -> bool:
    """A checkpoint may ask for an FP8 KV cache itself (vLLM, resolve_kv_cache_dtype_string)."""
    quantization = config.part("quantization_config")
    scheme, word = quantization.get("kv_cache_scheme"), str(quantization.get("kv_cache_quant_algo", "")).lower()
    return word == "fp8" or (isinstance(scheme, Mapping) and scheme.get("num_bits") == 8)


def _fit(subject: _Subject, workload: Workload, flavor: Flavor, split: Split) -> Fit:
    config, layers = subject.config, subject.layers
    parallel = {
        "tensor_parallel_size": split.tensor_parallel_size,
        "pipeline_parallel_size": split.pipeline_parallel_size,
    }
    batches = batches_of(flavor, workload, **parallel)
    stages = rank_bytes(config, subject.parameters, subject.weights, kv_heads=layers.kv_heads, **parallel)
    settings = settings_of(config, layers, flavor, workload, split, batches)
    whole = cache_of(layers, _alone(settings))
    cache = cache_of(layers, settings)
    memories = [
        memory_of(config, layers, flavor=flavor, workload=workload, split=split, batches=batches, weights=stage)
        for stage in stages
    ]
    memory = max(memories, key=lambda parts: (parts.missing, parts.weights))
    capacity = cache.capacity(*(parts.kv_cache for parts in memories))
    verdict, reason = _judge(subject, workload, memory, cache, capacity)
    per_replica = _whole_requests(cache, capacity)
    return Fit(
        flavor=flavor,
        verdict=verdict,
        fits=verdict is Verdict.FITS,
        reason=reason,
        nodes=split.nodes,
        accelerators=flavor.accelerators * split.nodes,
        **parallel,
        context_length=workload.context_length,
        concurrency=workload.concurrency,
        replicas=1 if capacity.concurrency is None else _replicas(workload, per_replica),
        memory=memory,
        attention=layers.attention,
        kv_token_bytes=whole.token_bytes,
        kv_state_bytes=whole.state_bytes,
        kv_tokens=capacity.tokens,
        max_concurrency=capacity.concurrency,
        exact=layers.exact,
        steps=(
            *cache_steps(layers, settings, whole),
            *memory_steps(subject.weights, flavor, workload, split, batches, memory),
            *capacity_steps(layers, settings, cache, capacity, memory),
        ),
        notes=_notes(subject, flavor, split, batches, capacity),
    )


def _judge(
    subject: _Subject, workload: Workload, memory: Memory, cache: Cache, capacity: Capacity
) -> tuple[Verdict, str]:
    longest = subject.model.longest_context
    if longest is not None and workload.context_length > longest:
        return Verdict.CONTEXT, f"The model reads at most {longest:,} tokens, {workload.context_length:,} are asked."
    if memory.missing:
        words = f"weights {gib(memory.weights)}, activations {gib(memory.activations)}, runtime {gib(memory.overhead)}"
        return Verdict.WEIGHTS, f"{gib(memory.missing)} are missing on each accelerator: {words}."
    if capacity.concurrency is None:
        return (
            Verdict.FITS,
            "Fits. The model keeps nothing between requests, so memory does not limit how many there are.",
        )
    length = f"{workload.context_length:,} tokens"
    if capacity.blocks < cache.blocks_per_request + 1:  # vLLM holds one block back
        need = cache.request_bytes
        return (
            Verdict.KV_CACHE,
            f"One request of {length} needs {gib(need)} of KV cache an accelerator, {gib(memory.kv_cache)} are left.",
        )
    if capacity.concurrency < workload.concurrency:
        room = several(math.floor(capacity.concurrency), "request")
        return Verdict.CONCURRENCY, f"There is room for {room} of {length} at once, {workload.concurrency:,} are asked."
    return Verdict.FITS, f"Fits: up to {capacity.concurrency:,.2f} requests of {length} at once."


def _whole_requests(cache: Cache, capacity: Capacity) -> int:
    fits_one = capacity.blocks >= cache.blocks_per_request + 1
    return math.floor(capacity.concurrency) if capacity.concurrency and fits_one else 0


def _replicas(workload: Workload, each: int) -> int | None:
    return -(-workload.concurrency // each) if each else None


def _notes(subject: _Subject, flavor: Flavor, split: Split, batches: Batches, capacity: Capacity) -> tuple[str, ...]:
    notes = list(subject.layers.notes)
    notes += [f"{note[0].upper()}{note[1:]}." for note in split.notes]
    if split.idle:
        notes.append(f"{several(split.idle, 'accelerator')} of the flavor would do nothing.")
    if split.nodes > 1:
        notes.append(
            f"One replica spans {split.nodes} nodes of {flavor.accelerators} accelerators, with stages on each."
        )
    if subject.weights.estimated:
        notes.append("The weights' size is an estimate from config.json; the files will say it exactly.")
    if capacity.concurrency is not None and capacity.concurrency > batches.sequences:
        notes.append(f"vLLM schedules at most {batches.sequences:,} sequences at once (max_num_seqs).")
    return tuple(notes)


def _alone(settings: Settings) -> Settings:
    """The same engine on one accelerator: for figures of the whole model."""
    return replace(settings, tensor_parallel_size=1, pipeline_parallel_size=1)


def _rank(fit: Fit) -> tuple[bool, int, int, int, str]:
    cpu_last = 1 if fit.flavor.is_cpu else 0
    return (not fit.fits, cpu_last, fit.accelerators, fit.memory.total * fit.accelerators, fit.flavor.name)
