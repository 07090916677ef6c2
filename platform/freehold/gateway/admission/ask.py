"""What a request wants of its limits and its balance; app.py and relay.py know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freehold.gateway.auth import Caller
    from freehold.wire.records import RouteRecord


@dataclass(slots=True)
class Ask:
    """What one request wants.

    Attributes:
        caller, route, model: who asks, where it leads, the public model name.
        prompt: tokens the prompt has at most.
        outputs: prompts x n; 0 where nothing is generated (embeddings, rerank, score).
        max_tokens: asked for by the client; 0: none given.
        default_max_tokens: what the API gives where none is asked for; 0: none.
    """

    caller: Caller
    route: RouteRecord
    model: str
    prompt: int
    outputs: int
    max_tokens: int
    default_max_tokens: int
