"""What an engine answers, as far as the gateway looks at it. Used by answers.py, sse.py and frames.py, which are
compiled (native.py); these structs cannot be.
"""

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


class Choice(msgspec.Struct, gc=False):
    """One of the answers, or a part of it."""

    index: int = 0
    finish_reason: str | None = None


class OpenAIAnswer(msgspec.Struct):
    """Chat completions, completions, embeddings, rerank and score, in one piece."""

    usage: OpenAIUsage
    choices: list[Choice] = []


class AnthropicAnswer(msgspec.Struct):
    """A message in one piece."""

    usage: AnthropicUsage
    stop_reason: str | None = None


class ResponsesAnswer(msgspec.Struct):
    """A response in one piece."""

    usage: ResponsesUsage
    status: str


class EngineFailure(msgspec.Struct):
    """What went wrong, in the engine's words."""

    message: str = ""
    param: str | None = None


class EngineError(msgspec.Struct):
    """An answer that is not 200."""

    error: EngineFailure


class Chunk(msgspec.Struct):
    """A frame of chat completions or completions."""

    choices: list[Choice] = []
    usage: OpenAIUsage | None = None
    error: dict[str, object] | str | None = None


class AnthropicMessage(msgspec.Struct):
    """The beginning of a message."""

    usage: AnthropicUsage | None = None


class AnthropicDelta(msgspec.Struct):
    """A part of a block, or of the message's end."""

    stop_reason: str | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class AnthropicBlock(msgspec.Struct):
    """The beginning of a block; a tool's has a name."""

    name: str | None = None


class AnthropicEvent(msgspec.Struct):
    """An event of messages."""

    type: str
    message: AnthropicMessage | None = None
    delta: AnthropicDelta | None = None
    content_block: AnthropicBlock | None = None
    usage: AnthropicUsage | None = None


class Response(msgspec.Struct):
    """A response as an event has it."""

    status: str | None = None
    usage: ResponsesUsage | None = None


class Item(msgspec.Struct):
    """The beginning of an item; a tool's has a name."""

    name: str | None = None


class ResponsesEvent(msgspec.Struct):
    """An event of responses."""

    type: str
    sequence_number: int = 0
    response: Response | None = None
    delta: str = ""
    item: Item | None = None


decode_answer = msgspec.json.Decoder(OpenAIAnswer).decode
decode_message = msgspec.json.Decoder(AnthropicAnswer).decode
decode_response = msgspec.json.Decoder(ResponsesAnswer).decode
decode_error = msgspec.json.Decoder(EngineError).decode
decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_chunk = msgspec.json.Decoder(Chunk).decode
decode_choice = msgspec.json.Decoder(Choice).decode
decode_anthropic_event = msgspec.json.Decoder(AnthropicEvent).decode
decode_responses_event = msgspec.json.Decoder(ResponsesEvent).decode
