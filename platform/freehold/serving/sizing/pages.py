"""vLLM's KV cache for a model's layers: pages, groups, and how many tokens and requests they hold. Called by memory.py.

vLLM 0.32 gives every layer pages of one size, collects layers of one kind into groups that share a block table, and
lets all groups draw blocks from one pool (v1/core/kv_cache_utils.py: get_kv_cache_groups,
get_max_concurrency_for_kv_cache_config; v1/kv_cache_interface.py: bytes and blocks of each kind;
platforms/interface.py: _align_hybrid_block_size). The same is done here, so that the numbers are those of the engine's
start-up log; `python -m benchmarks.sizing` compares them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from freehold.serving.sizing.layers import CacheLayer, Kind, Layers

_ATTENTION_WIDE: Final = (Kind.FULL, Kind.LATENT, Kind.INDEX)  # they need as many token slots as there are tokens
_LATENT_HYBRID_BLOCK = 128  # vLLM: kernels for latent attention beside states want whole multiples
_PADDING_LIMIT = 1.5  # vLLM, _get_kv_cache_groups_uniform_page_size: padding up to the largest kind below this ratio


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the engine is started, as far as its KV cache depends on it.

    Attributes:
        context_length: max_model_len, in tokens.
        block_size: tokens a page, before hybrid models enlarge it.
        kv_bytes: bytes of a number in the KV cache; `dtype_bytes`: of the model's dtype, for states.
        recurrent_bytes: bytes of a number in a recurrent state where the engine was told; None leaves it to the model.
        tokens_in_flight: scheduled and not yet settled; layers with a window hold them beside it.
        prefix_caching: on for all models that generate and have attention (vLLM's default).
    """

    context_length: int
    block_size: int
    tokens_in_flight: int
    kv_bytes: int = 2
    dtype_bytes: int = 2
    recurrent_bytes: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    prefix_caching: bool = True


@dataclass(frozen=True)
class Page:
    """A page of one layer. Two layers with equal pages can share a group.

    Attributes:
        size: bytes it takes; `content`: bytes that are used.
        blocks: pages that one request of the full context length holds.
    """

    kind: Kind
    block_size: int
    content: int
    size: int
    window: int = 0
    state_blocks: int = 0

    def blocks(self, settings: Settings) -> int:
        """Pages of one request at the full context length."""
        held = settings.context_length
        if self.kind is Kind.STATE:
            return self.state_blocks
        if self.kind is Kind.WINDOW:
            held = min(self.window - 1 + settings.tokens_in_flight, held)
            return -(-held // self.block_size) + 1  # a window may begin within a block
        if self.kind is Kind.CHUNK:
            held = min(self.window + settings.tokens_in_flight, held)
        return -(-held // self.block_size)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Layers that share a block table.

    Attributes:
        layers: decoder layers, with repetitions where a layer has several caches here.
        pages: the page of each of them.
        blocks_per_request: of this group at the full context length.
    """

    kind: Kind
    layers: tuple[int, ...]
    pages: tuple[Page, ...]
    blocks_per_request: int


@dataclass(frozen=True, kw_only=True)
class Cache:
    """The KV cache of a model under given settings.

    Attributes:
        block_size: tokens a page of the layers that keep every token.
        block_bytes: bytes of one block on a rank, for each pipeline stage.
        blocks_per_request: blocks that a request of the full context length holds, all groups together.
        token_bytes: growth a token of one long request on one rank of each stage, summed over stages.
        state_bytes: of one sequence, whatever its length, on one rank of each stage, summed over stages.
    """

    context_length: int
    block_size: int
    groups: tuple[Group, ...]
    block_bytes: tuple[int, ...]
    blocks_per_request: int
    token_bytes: int
    state_bytes: int

    def capacity(self, *available: int) -> Capacity:
        """What fits into these bytes, one figure for all stages or one each; vLLM takes the smallest stage."""
        if not self.groups:
            return Capacity(blocks=0, tokens=None, concurrency=None)
        budgets = available if len(available) == len(self.block_bytes) else available[:1] * len(self.block_bytes)
        stages = zip(budgets, self.block_bytes, strict=True)
        blocks = min(max(0, budget) // size for budget, size in stages if size)
        concurrency = blocks / self.blocks_per_request
        return Capacity(blocks=blocks, tokens=int(concurrency * self.context_length), concurrency=concurrency)

    @property
    def request_bytes(self) -> int:
        """Bytes of a request of the full context on the fullest rank, with the block that vLLM holds back."""
        return max(self.block_bytes, default=0) * (self.blocks_per_request + 1) if self.groups else 0


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Blocks, tokens ("GPU KV cache size") and requests ("Maximum concurrency"); None where nothing is kept."""

    blocks: int
    tokens: int | None
    concurrency: float | None


def cache_of(layers: Layers, settings: Settings) -> Cache:
    """The cache that vLLM would make."""
    block_size, state_page = _aligned(layers, settings)
    pages = [(cache.layer, _page(cache, layers, settings, block_size, state_page)) for cache in layers.caches]
    groups = _groups(pages, settings)
    stages = _stages(layers.decoder_layers, settings.pipeline_parallel_size)
    return Cache(
        context_length=settings.context_length,
        block_size=next((page.block_size for _, page in pages if page.kind in _ATTENTION_WIDE), block_size),
        groups=groups,
        block_bytes=tuple(max((_bytes_within(group, stage) for group in groups), default=0) for stage in stages),
        blocks_per_request=sum(group.blocks_per_request for group in groups),
        token_bytes=sum(_token_bytes(cache, settings) for cache in layers.caches if cache.kind in _ATTENTION_WIDE),
        state_bytes=sum(_state_bytes(cache, settings) for cache in layers.caches if cache.kind is Kind.STATE),
    )


def layer_token_bytes(cache: CacheLayer, settings: Settings) -> int:
    """Bytes that a token takes in a layer's cache on one rank; 0 for a state."""
    return _token_bytes(cache, settings)


def ranks_kv_heads(kv_heads: int, tensor_parallel_size: int) -> int:
    """KV heads on each rank: divided, and repeated where there are more ranks than heads (vLLM, get_num_kv_heads)."""
    return max(1, kv_heads // tensor_parallel_size)


def stage_layers(count: int, stages: int) -> tuple[range, ...]:
    """Decoder layers of each pipeline stage (vLLM, distributed/utils.py: get_pp_indices)."""
    return _stages(count, stages)


def _token_bytes(cache: CacheLayer, settings: Settings) -> int:
    if cache.kind is Kind.STATE:
        return 0
    if cache.token_bytes:
        return cache.token_bytes
    if cache.kind is Kind.LATENT:
        return cache.key_size * settings.kv_bytes
    heads = ranks_kv_heads(cache.kv_heads, settings.tensor_parallel_size)
    return heads * (cache.key_size + cache.value_size) * settings.kv_bytes


def _state_bytes(cache: CacheLayer, settings: Settings) -> int:
    if cache.state is None:
        return 0
    return cache.state.page_bytes(
        tensor_parallel_size=settings.tensor_parallel_size,
        dtype_bytes=settings.dtype_bytes,
        recurrent_bytes=cache.state.recurrent_bytes or settings.recurrent_bytes,
    )


def _aligned(layers: Layers, settings: Settings) -> tuple[int, int]:
    """Block size and page of states: attention's page grows until a state fits, then the state's is padded to it."""
    states = max((_state_bytes(cache, settings) for cache in layers.caches), default=0)
    if not layers.hybrid or not states:
        return settings.block_size, states
    wide = CacheLayer(
        layer=0,
        kind=Kind.LATENT if layers.latent else Kind.FULL,
        kv_heads=layers.kv_heads,
        key_size=layers.head_size,
        value_size=layers.head_size,
    )
    token = _token_bytes(wide, settings)
    step = max(settings.block_size, _LATENT_HYBRID_BLOCK) if layers.latent else settings.block_size
    block_size = max(settings.block_size, step * -(-states // (step * token)))
    return block_size, block_size * token


def _page(cache: CacheLayer, layers: Layers, settings: Settings, block_size: int, state_page: int) -> Page:
    if cache.kind is Kind.STATE:
        content = _state_bytes(cache, settings)
        checkpoints = cache.state.checkpoints if cache.state else 0
        keeps_prefixes = settings.prefix_caching and layers.hybrid
        return Page(
            kind=Kind.STATE,
            block_size=block_size,
            content=content,
            size=max(content, state_page),
            state_blocks=2 + checkpoints if keeps_prefixes else 1,
        )
    content = _token_bytes(cache, settings) * block_size
    return Page(kind=cache.kind, block_size=block_size, content=content, size=content, window=cache.window)


def _groups(pages: list[tuple[int, Page]], settings: Settings) -> tuple[Group, ...]:
    if not pages:
        return ()
    kinds = [page for _, page in pages]
    if len(set(kinds)) == 1 or _one_type(kinds):
        return (_group(pages, settings),)
    return _equal_groups(_unified(pages), settings)


def _one_type(pages: list[Page]) -> bool:
    """Whether all layers always need the same number of slots (vLLM, UniformTypeKVCacheSpecs.is_uniform_type)."""
    first = pages[0]
    if any(page.block_size != first.block_size for page in pages):
        return False
    if first.kind in _ATTENTION_WIDE:
        return all(page.kind in _ATTENTION_WIDE for page in pages)
    return all(page.kind is first.kind and page.window == first.window for page in pages) and (
        first.kind is not Kind.STATE or all(page.size == first.size for page in pages)
    )


def _unified(pages: list[tuple[int, Page]]) -> list[tuple[int, Page]]:
    """All pages as large as the largest: more tokens a block where that divides evenly, padding where it does not."""
    largest = max(page.size for _, page in pages)
    found = []
    for layer, page in pages:
        if page.size != largest and page.kind is not Kind.STATE and largest % page.size == 0:
            page = replace(page, block_size=page.block_size * (largest // page.size), content=largest)
        found.append((layer, replace(page, size=largest)))
    return found


def _equal_groups(pages: list[tuple[int, Page]], settings: Settings) -> tuple[Group, ...]:
    """Groups of equally many layers: as many as the rarest kind has, or the commonest if that is not many more."""
    buckets: dict[Page, list[tuple[int, Page]]] = {}
    for layer, page in pages:
        buckets.setdefault(page, []).append((layer, page))
    sizes = [len(bucket) for bucket in buckets.values()]
    size = max(sizes) if max(sizes) < min(sizes) * _PADDING_LIMIT else min(sizes)
    groups = []
    for bucket in buckets.values():
        number = -(-len(bucket) // size)
        groups += [_group(bucket[start::number], settings) for start in range(number)]
    return tuple(groups)


def _group(pages: list[tuple[int, Page]], settings: Settings) -> Group:
    return Group(
        kind=pages[0][1].kind,
        layers=tuple(layer for layer, _ in pages),
        pages=tuple(page for _, page in pages),
        blocks_per_request=max(page.blocks(settings) for _, page in pages),
    )


def _bytes_within(group: Group, stage: range) -> int:
    return sum(page.size for layer, page in zip(group.layers, group.pages, strict=True) if layer in stage)


def _stages(count: int, stages: int) -> tuple[range, ...]:
    sizes = [count // stages] * stages
    for place in range(2, count % stages + 2):
        sizes[-place] += 1  # the last stage has the head, and for few left over the first has the embedding
    starts = [sum(sizes[:number]) for number in range(stages)]
    return tuple(range(start, start + size) for start, size in zip(starts, sizes, strict=True))
