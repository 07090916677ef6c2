"""The calculation in words and numbers: every Fit carries these steps. Called by plan.py."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from freehold.serving.sizing.flavors import Batches, Flavor, Workload
from freehold.serving.sizing.layers import CacheLayer, Kind, Layers
from freehold.serving.sizing.memory import Memory
from freehold.serving.sizing.pages import Cache, Capacity, Group, Settings, layer_token_bytes
from freehold.serving.sizing.parallel import Split
from freehold.serving.sizing.steps import Step, number, several
from freehold.serving.sizing.weights import WeightBytes

_NAMES = {
    Kind.FULL: "every token",
    Kind.WINDOW: "sliding window",
    Kind.CHUNK: "chunk",
    Kind.LATENT: "latent vector",
    Kind.INDEX: "sparse index",
    Kind.STATE: "state",
}


def cache_steps(layers: Layers, settings: Settings, whole: Cache) -> list[Step]:
    """KV cache of the whole model: bytes a token, and a sequence."""
    steps = [_layer_step(cache, count, settings) for cache, count in _alike(layers).items()]
    growing = [cache for cache in layers.caches if cache.kind in (Kind.FULL, Kind.LATENT, Kind.INDEX)]
    parts = [step.value for step in steps if step.unit == "bytes a token" and "window" not in step.note]
    if growing and len(parts) > 1:
        formula = " + ".join(number(part) for part in parts)
        steps.append(
            Step(
                label="KV cache, growth a token",
                formula=formula,
                value=whole.token_bytes,
                unit="bytes a token",
                note="beyond windows and chunks",
            )
        )
    return steps


def memory_steps(
    weights: WeightBytes, flavor: Flavor, workload: Workload, split: Split, batches: Batches, memory: Memory
) -> list[Step]:
    """What is on the fullest accelerator before the KV cache."""
    ranks, stages = split.tensor_parallel_size, split.pipeline_parallel_size
    steps = [
        Step(label="Weights", formula=weights.formula, value=weights.total, unit="bytes", estimate=weights.estimated)
    ]
    if ranks * stages > 1:
        divided = f"{number(weights.total)} / {ranks} ranks" + (f" / {stages} stages" if stages > 1 else "")
        steps.append(
            Step(
                label="Weights on the fullest accelerator",
                formula=f"{divided} + what is repeated",
                value=memory.weights,
                unit="bytes",
                note="norms, routers, latent projections and scarce KV heads are on every rank",
                estimate=weights.estimated,
            )
        )
    if flavor.is_cpu:
        return [*steps, *_shared(batches, memory)]
    utilization = f"{number(flavor.memory_bytes)} × {workload.gpu_memory_utilization:g} (gpu_memory_utilization)"
    steps.append(Step(label="Memory the engine may use", formula=utilization, value=memory.limit, unit="bytes"))
    return [*steps, *_shared(batches, memory)]


def capacity_steps(layers: Layers, settings: Settings, cache: Cache, capacity: Capacity, memory: Memory) -> list[Step]:
    """From the bytes that are left to tokens and requests."""
    if not cache.groups:
        return []
    steps = []
    if memory.limit and not memory.missing and memory.kv_cache != memory.limit:
        parts = (memory.limit, memory.weights, memory.activations, memory.overhead)
        formula = " − ".join(number(part) for part in parts)
        steps.append(
            Step(label="Left for the KV cache", formula=formula, value=memory.kv_cache, unit="bytes", estimate=True)
        )
    widest = max(cache.groups, key=lambda group: sum(page.size for page in group.pages))
    stages = " on its fullest stage" if len(cache.block_bytes) > 1 else ""
    steps.append(
        Step(
            label="A block of the KV cache",
            formula=_block_formula(widest, settings),
            value=max(cache.block_bytes),
            unit="bytes",
            note=f"{several(cache.block_size, 'token')} a page{stages}" + _padding(cache),
        )
    )
    blocks = f"{number(memory.kv_cache)} / {number(max(cache.block_bytes))}"
    steps.append(Step(label="Blocks", formula=blocks, value=capacity.blocks, unit="blocks"))
    steps.append(
        Step(
            label=f"Blocks of a request of {settings.context_length:,} tokens",
            formula=" + ".join(_request_formula(group, count, settings) for group, count in _same(cache)),
            value=cache.blocks_per_request,
            unit="blocks",
            note="each group of layers has its own; one more is held back by the engine",
        )
    )
    if capacity.concurrency is not None and capacity.tokens is not None:
        ratio = f"{number(capacity.blocks)} / {number(cache.blocks_per_request)}"
        steps.append(
            Step(label="Maximum concurrency", formula=ratio, value=float(capacity.concurrency), unit="requests")
        )
        steps.append(
            Step(
                label="KV cache size",
                formula=f"{ratio} × {settings.context_length:,}",
                value=capacity.tokens,
                unit="tokens",
                note="at this context length, as vLLM logs it",
            )
        )
    return steps


def _alike(layers: Layers) -> Counter[CacheLayer]:
    """Layers that keep the same, whichever layer they are."""
    return Counter(_without_place(cache) for cache in layers.caches)


def _without_place(cache: CacheLayer) -> CacheLayer:
    return replace(cache, layer=0)


def _layer_step(cache: CacheLayer, count: int, settings: Settings) -> Step:
    alone = replace(settings, tensor_parallel_size=1, pipeline_parallel_size=1)
    token, layers, width = layer_token_bytes(cache, alone), several(count, "layer"), settings.kv_bytes
    bytes_each = several(width, "byte")
    if cache.state is not None:
        state = cache.state.page_bytes(
            tensor_parallel_size=1,
            dtype_bytes=settings.dtype_bytes,
            recurrent_bytes=cache.state.recurrent_bytes or settings.recurrent_bytes,
        )
        shape = " × ".join(f"{size:,}" for size in cache.state.recurrent)
        conv = f"{cache.state.conv_taps} × {cache.state.conv_width:,} of convolution" if cache.state.conv_width else ""
        parts = " and ".join(part for part in (conv, f"{shape} recurrent" if shape else "") if part)
        return Step(
            label=f"State ({cache.state.name})",
            formula=f"{layers} × {number(state)} bytes",
            value=count * state,
            unit="bytes a sequence",
            note=f"{parts} numbers a layer, whatever the length",
        )
    if cache.kind is Kind.LATENT:
        return Step(
            label="KV cache (latent vector)",
            formula=f"{layers} × {cache.key_size} numbers × {bytes_each}",
            value=count * token,
            unit="bytes a token",
            note="one compressed vector a layer, not two, not one a head; whole on every tensor-parallel rank",
        )
    if cache.kind is Kind.INDEX:
        return Step(
            label="KV cache (sparse index)",
            formula=f"{layers} × {cache.token_bytes} bytes",
            value=count * token,
            unit="bytes a token",
            note="FP8 keys with scales",
        )
    notes = {
        Kind.WINDOW: f"only of the last {cache.window:,} tokens: a sliding window",
        Kind.CHUNK: f"only of the current chunk of {cache.window:,} tokens: a window that jumps",
    }
    return Step(
        label=f"KV cache ({_NAMES[cache.kind]})",
        formula=f"2 (K and V) × {layers} × {several(cache.kv_heads, 'KV head')} × {cache.key_size} × {bytes_each}",
        value=count * token,
        unit="bytes a token",
        note=notes.get(cache.kind, ""),
    )


def _shared(batches: Batches, memory: Memory) -> list[Step]:
    return [
        Step(
            label="Activations",
            formula=f"the widest layer for {batches.tokens:,} tokens at once, or {batches.sequences:,} rows of logits",
            value=memory.activations,
            unit="bytes",
            estimate=True,
        ),
        Step(
            label="Runtime",
            formula="process, communication buffers, captured graphs",
            value=memory.overhead,
            unit="bytes",
            estimate=True,
        ),
    ]


def _block_formula(group: Group, settings: Settings) -> str:
    sizes = Counter(page.size for page in group.pages)
    parts = [f"{several(count, 'layer')} × {number(size)} bytes" for size, count in sizes.items()]
    ranks = f", on each of {settings.tensor_parallel_size} ranks" if settings.tensor_parallel_size > 1 else ""
    return " + ".join(parts) + ranks


def _padding(cache: Cache) -> str:
    pages = [page for group in cache.groups for page in group.pages]
    wasted = sum(page.size - page.content for page in pages)
    total = sum(page.size for page in pages)
    return f"; {100 * wasted / total:.0f} % of the pages is padding" if wasted * 100 > total else ""


def _same(cache: Cache) -> list[tuple[Group, int]]:
    """Groups that take the same number of blocks for the same reason, once, with how many there are."""
    found: dict[tuple[Kind, int, int], list[Group]] = {}
    for group in cache.groups:
        found.setdefault((group.kind, group.pages[0].block_size, group.blocks_per_request), []).append(group)
    return [(groups[0], len(groups)) for groups in found.values()]


def _request_formula(group: Group, count: int, settings: Settings) -> str:
    page = group.pages[0]
    times = f"{count} × " if count > 1 else ""
    if group.kind is Kind.STATE:
        return f"{times}{group.blocks_per_request} ({_NAMES[group.kind]})"
    held, extra = f"{settings.context_length:,}", ""
    if group.kind is Kind.WINDOW:
        held = f"min({page.window:,} − 1 + {settings.tokens_in_flight:,} in flight, {held})"
        extra = " + 1"
    elif group.kind is Kind.CHUNK:
        held = f"min({page.window:,} + {settings.tokens_in_flight:,} in flight, {held})"
    inside = f"⌈{held} / {page.block_size}⌉{extra}"
    return f"{times}({inside}) ({_NAMES[group.kind]})" if extra and times else f"{times}{inside} ({_NAMES[group.kind]})"
