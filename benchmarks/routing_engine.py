"""A model of an engine's prefix cache and of the time it needs: what benchmarks/routing.py has eight of.

As vLLM's: the cache holds blocks of 16 tokens, each named by its own tokens and all before them and by the tenant's
salt; the block used longest ago goes first; a prompt needs to be computed from the first block on that is not there.
One prompt is computed at a time; so many sequences are generated at once; what was generated is in the cache too. A
token is four bytes of text. The engine knows no clock: it is told how to be called back, so that the same code runs in
simulated and in real time.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN_BYTES = 4
BLOCK_TOKENS = 16
_BLOCK_BYTES = TOKEN_BYTES * BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Speed:
    """What an engine can do. The default is a model of 8 billion parameters on a GPU of the middle class.

    Attributes:
        blocks: capacity of the cache.
        sequences: generated at once (vLLM's max_num_seqs).
        prefill_seconds: for a token of the prompt that is not in the cache.
        prefill_fixed_seconds: for every prompt.
        decode_seconds: for a token of the answer.
    """

    blocks: int = 6_000
    sequences: int = 48
    prefill_seconds: float = 0.00015
    prefill_fixed_seconds: float = 0.01
    decode_seconds: float = 0.02


class Cache:
    """Blocks, the one used longest ago first. Counts tokens as `vllm:prefix_cache_queries_total` and `_hits_total`."""

    def __init__(self, blocks: int) -> None:
        self._room = blocks
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self.queries = 0
        self.hits = 0

    def find(self, salt: str, text: bytes) -> int:
        """Tokens at the beginning of the text that are there. All of a prompt never counts: its last token is
        computed."""
        names = _names(salt, text[: max(len(text) - 1, 0)])
        count = 0
        for name in names:
            if name not in self._blocks:
                break
            self._blocks.move_to_end(name)
            count += 1
        self.queries += len(text) // TOKEN_BYTES
        self.hits += count * BLOCK_TOKENS
        return count * BLOCK_TOKENS

    def keep(self, salt: str, text: bytes) -> None:
        """The text's full blocks are there now."""
        # The last blocks of a sequence are the first to go, as in vLLM: others may share what is before them.
        for name in reversed(_names(salt, text)):
            self._blocks[name] = None
            self._blocks.move_to_end(name)
        while len(self._blocks) > self._room:
            self._blocks.popitem(last=False)


def _names(salt: str, text: bytes) -> list[int]:
    found, name = [], hash(salt)
    for start in range(0, len(text) - _BLOCK_BYTES + 1, _BLOCK_BYTES):
        name = hash((name, text[start : start + _BLOCK_BYTES]))
        found.append(name)
    return found


@dataclass(slots=True)
class Work:
    """A request at an engine.

    Attributes:
        salt: of the tenant.
        prompt: text.
        answer: text that the engine will generate.
        first: called when the first token is there.
        done: called when the last one is.
    """

    salt: str
    prompt: bytes
    answer: bytes
    first: Callable[[], None]
    done: Callable[[], None]
    cancelled: bool = False


@dataclass(slots=True)
class Engine:
    """One replica.

    Args:
        later: calls back after so many seconds.
    """

    speed: Speed
    later: Callable[[float, Callable[[], None]], object]
    cache: Cache = field(init=False)
    running: int = field(init=False, default=0)
    served: int = field(init=False, default=0)
    _waiting: deque[Work] = field(init=False, default_factory=deque)
    _computing: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.cache = Cache(self.speed.blocks)

    @property
    def waiting(self) -> int:
        """Requests whose prompt has not been computed."""
        return len(self._waiting)

    def submit(self, work: Work) -> None:
        """Takes a request."""
        self._waiting.append(work)
        self._next()

    def _next(self) -> None:
        if self._computing or not self._waiting or self.running >= self.speed.sequences:
            return
        work = self._waiting.popleft()
        self.running += 1
        self._computing = True
        missing = len(work.prompt) // TOKEN_BYTES - self.cache.find(work.salt, work.prompt)
        seconds = self.speed.prefill_fixed_seconds + missing * self.speed.prefill_seconds
        self.later(seconds, lambda: self._first(work))

    def _first(self, work: Work) -> None:
        self.cache.keep(work.salt, work.prompt)
        self._computing = False
        work.first()
        seconds = len(work.answer) // TOKEN_BYTES * self.speed.decode_seconds
        self.later(seconds, lambda: self._done(work))
        self._next()

    def _done(self, work: Work) -> None:
        self.running -= 1
        self.served += 1
        self.cache.keep(work.salt, work.prompt + work.answer)
        work.done()
        self._next()
