"""What a request wants of its limits and its balance; app.py and relay.py know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freehold.gateway.auth import Caller
    from freehold.wire.records import RouteRecord


class Ask:
    """What one request wants.

    Attributes:
        caller, route, model: who asks, where it leads, the public model name.
        prompt: tokens the prompt has at most.
        outputs: prompts x n; 0 where nothing is generated (embeddings, rerank, score).
        max_tokens: asked for by the client; 0: none given.
        default_max_tokens: what the API gives where none is asked for; 0: none.
    """

    __slots__ = ("caller", "default_max_tokens", "max_tokens", "model", "outputs", "prompt", "route")

    def __init__(
        self,
        caller: Caller,
        route: RouteRecord,
        model: str,
        prompt: int,
        outputs: int,
        max_tokens: int,
        default_max_tokens: int,
    ) -> None:
        self.caller = caller
        self.route = route
        self.model = model
        self.prompt = prompt
        self.outputs = outputs
        self.max_tokens = max_tokens
        self.default_max_tokens = default_max_tokens
