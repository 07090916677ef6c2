"""The three shapes in which an engine reports tokens. Used by sse.py and answers.py."""

from __future__ import annotations

import msgspec


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class OpenAIUsage(msgspec.Struct):
    """Chat completions, completions, embeddings. `cached` is a part of the prompt, `reasoning` of the completion."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None

    @property
    def cached(self) -> int:
        """Prompt tokens that came from the prefix cache."""
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0

    @property
    def reasoning(self) -> int:
        """Completion tokens that were spent on reasoning."""
        return (self.completion_tokens_details and self.completion_tokens_details.reasoning_tokens) or 0


class AnthropicUsage(msgspec.Struct):
    """Messages. Anthropic's input_tokens are without those read from or written to the cache."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None

    @property
    def cached(self) -> int:
        """Prompt tokens that came from the prefix cache."""
        return self.cache_read_input_tokens or 0

    @property
    def prompt(self) -> int:
        """All prompt tokens."""
        return self.input_tokens + self.cached + (self.cache_creation_input_tokens or 0)


class ResponsesUsage(msgspec.Struct):
    """Responses."""

    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _PromptDetails | None = None
    output_tokens_details: _CompletionDetails | None = None

    @property
    def cached(self) -> int:
        """Prompt tokens that came from the prefix cache."""
        return (self.input_tokens_details and self.input_tokens_details.cached_tokens) or 0

    @property
    def reasoning(self) -> int:
        """Output tokens that were spent on reasoning."""
        return (self.output_tokens_details and self.output_tokens_details.reasoning_tokens) or 0
