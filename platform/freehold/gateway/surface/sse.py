"""Streams of events, frame by frame: tokens counted, the model's public name put in, usage that nobody asked for taken
out, and the truth about how they ended. Used by relay.py.

vLLM says `[DONE]` after its engine crashed (an error frame comes before it) and after an abort (a finish_reason of
`abort`), and keeps HTTP 200 (measured on 0.32). So neither status nor `[DONE]` is success: a stream is `done` only
when it ended properly, and everything else becomes an error frame without any end of success.

Tokens are counted into the bill's slot before the bytes are written, so a process killed in between differs by the
frame in flight. Frames of chat and completions carry exact numbers for each choice (`continuous_usage_stats`); the
events of messages and responses carry none until the end, so until then a delta counts as one token, marked as
estimated.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from freehold.gateway.errors import Shape, frame
from freehold.gateway.slots import CACHED, ESTIMATED, FIRST_CHOICE, PROMPT, REASONING
from freehold.gateway.surface import engine
from freehold.gateway.surface.answers import rename_member
from freehold.gateway.surface.frames import Shortcut
from freehold.gateway.surface.relayed import RelayedText

if TYPE_CHECKING:
    from freehold.gateway.meter import Bill
    from freehold.gateway.surface.bodies import Call
    from freehold.gateway.surface.engine import OpenAIUsage

_LARGEST_FRAME: Final = 16 * 1024 * 1024
_DATA: Final = b"data: "
_DONE: Final = b"[DONE]"
# Inside a JSON string every quote is escaped, and where a model's words are keys (top_logprobs) the values are numbers:
# so these bytes can only be the member itself. Usage nests one level deep, and comes after the choices.
_USAGE: Final = b',"usage":{'
_WHOLE_USAGE: Final = re.compile(_USAGE + rb"[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
_decode_members: Final = engine.decode_members
_decode_chunk: Final = engine.decode_chunk
_decode_anthropic_event: Final = engine.decode_anthropic_event
_decode_responses_event: Final = engine.decode_responses_event


class Stream(ABC):
    """What comes from the engine → what goes to the client.

    Attributes:
        served_model_name: the model's name at the engine.
        done: the stream has ended properly.
        failure: why it did not; nothing may follow.
        exact: the engine itself has said how many tokens were relayed so far.
        prompt_known: it has said how long the prompt is.
        text: what was relayed, where it has to be counted afterwards (estimate.py) unless `exact`.
    """

    shape: ClassVar[Shape]

    def __init__(self, call: Call, served_model_name: str, bill: Bill) -> None:
        self._call = call
        self._slot = bill.slot
        self._words = bill.slot.words
        self.served_model_name = served_model_name
        self._served = b'"model":' + msgspec.json.encode(served_model_name)
        self._public = b'"model":' + msgspec.json.encode(call.model)
        self._rest = b""
        self._sequence = 0
        self.exact = False
        self.prompt_known = False
        self.text: RelayedText | None = None
        self.done = False
        self.failure: str | None = None

    def feed(self, data: bytes) -> bytes:
        """Takes bytes as they come; returns whole frames for the client, maybe none."""
        if self._over:
            return b""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        ready: list[bytes] = []
        try:
            end = data.find(b"\n")
            if 0 <= end == len(data) - 2 and data.endswith(b"\n"):  # one whole frame, as engines write them
                return self._frame(data[:end])
            frames = data.split(b"\n\n")
            self._rest = frames.pop()
            if len(self._rest) > _LARGEST_FRAME:
                return self.fail("The engine sent an event without end.")
            for event in frames:
                ready.append(self._frame(event))
                if self._over:
                    break
        except (msgspec.MsgspecError, RecursionError, ValueError):  # ValueError: bytes, or numbers too large for a slot
            ready.append(self.fail("The engine sent an event that cannot be read."))
        return b"".join(ready)

    def finish(self) -> bytes:
        """The engine has ended its answer: an error frame unless the stream was done."""
        if self._over:
            return b""
        return self.fail("The engine ended the answer early. What was received is incomplete; try again.")

    @property
    def _over(self) -> bool:
        return self.done or self.failure is not None

    def fail(self, message: str) -> bytes:
        """Ends the stream with an error frame."""
        self.failure = message
        return frame(self.shape, message, "engine_failed", self._sequence + 1)

    @abstractmethod
    def _frame(self, event: bytes) -> bytes:
        """One event, without its blank line."""

    def _renamed(self, event: bytes, name: str) -> bytes:
        """An event whose member of that name has a `model`. There are one or two such events in a stream."""
        if self._served == self._public:
            return event
        start = event.find(_DATA) + len(_DATA)
        members = _decode_members(event[start:])
        members[name] = msgspec.Raw(rename_member(bytes(members[name]), self._call.model))
        return event[:start] + msgspec.json.encode(members)

    def _prompt(self, tokens: int, cached: int) -> None:
        self._words[PROMPT] = tokens
        self._words[CACHED] = cached
        self.prompt_known = True

    def _total(self, completion: int, reasoning: int) -> None:
        """The engine's own final numbers: they replace what was counted, unless that comes to the same."""
        slot = self._slot
        choices = self._call.prompts * self._call.choices
        if slot.completion(choices) != completion:
            for choice in range(choices):
                slot.choice(choice, 0)
            slot.choice(0, completion)
        self._words[REASONING] = reasoning
        self._words[ESTIMATED] = 0
        self.exact = True
        self.text = None


class OpenAIStream(Stream):
    """Chat completions and completions: every frame says how many tokens its choice has so far."""

    shape = Shape.OPENAI

    def __init__(self, call: Call, served_model_name: str, bill: Bill) -> None:
        super().__init__(call, served_model_name, bill)
        self._prompts: dict[int, int] = {}
        self._reasoning: dict[int, int] = {}
        self._choices = call.prompts * call.choices
        single = self._choices == 1 and not call.logprobs and not call.show_every_usage
        self._shortcut = Shortcut(self._served, self._public) if single else None
        if call.prompts > 1:
            self._words[ESTIMATED] = 1  # until each prompt's length was seen

    def _frame(self, event: bytes) -> bytes:
        shortcut = self._shortcut
        if shortcut is not None:
            ready = shortcut.read(event)
            if ready is not None:
                self._words[FIRST_CHOICE] = shortcut.tokens
                if shortcut.reasoning:
                    self._words[REASONING] = shortcut.reasoning
                return ready
        if not event.startswith(_DATA):
            return b""  # comments and blank lines
        if event[6:] == _DONE:
            self.done = True
            return event + b"\n\n"
        chunk = _decode_chunk(event[6:])
        if chunk.error is not None:
            return self.fail("The engine failed while it was answering. What was received is incomplete; try again.")
        for choice in chunk.choices:
            if choice.finish_reason in ("abort", "error"):
                return self.fail("The engine aborted the answer. What was received is incomplete; try again.")
        show = self._call.show_every_usage
        if chunk.usage is not None:
            if chunk.choices:
                self._count(chunk.usage, chunk.choices[0].index)
                if shortcut is not None and len(chunk.choices) == 1 and chunk.choices[0].finish_reason is None:
                    shortcut.learn(event)
            else:
                self._prompt(chunk.usage.prompt_tokens, chunk.usage.cached)
                self._total(chunk.usage.completion_tokens or 0, chunk.usage.reasoning)
                show = self._call.show_usage
                if not show:
                    return b""
        event = event.replace(self._served, self._public, 1)
        return (event if show else _without_usage(event)) + b"\n\n"

    def _count(self, usage: OpenAIUsage, index: int) -> None:
        if not 0 <= index < self._choices:
            return
        words = self._words
        words[FIRST_CHOICE + index] = usage.completion_tokens or 0
        if usage.reasoning:
            self._reasoning[index] = usage.reasoning
            words[REASONING] = sum(self._reasoning.values())
        prompts = self._call.prompts
        if prompts == 1:
            words[PROMPT] = usage.prompt_tokens
            self.exact = self.prompt_known = True
            return
        # Each frame has its own prompt's length; only the last one sums (vLLM: index = prompt × n + choice).
        self._prompts[index // self._call.choices] = usage.prompt_tokens
        words[PROMPT] = sum(self._prompts.values())
        self.exact = self.prompt_known = len(self._prompts) == prompts
        words[ESTIMATED] = not self.exact


def _without_usage(event: bytes) -> bytes:
    start = event.rfind(_USAGE)
    found = _WHOLE_USAGE.match(event, start) if start > 0 else None
    return event[: found.start()] + event[found.end() :] if found else event


def _data(event: bytes) -> bytes:
    """The data line of an event that may have an `event:` line before it."""
    start = event.find(_DATA)
    return event[start + len(_DATA) :] if start >= 0 else b""


class AnthropicStream(Stream):
    """Messages."""

    shape = Shape.ANTHROPIC

    def __init__(self, call: Call, served_model_name: str, bill: Bill) -> None:
        super().__init__(call, served_model_name, bill)
        self.text = RelayedText()

    def _frame(self, event: bytes) -> bytes:
        data = _data(event)
        if not data:
            return b""
        parsed = _decode_anthropic_event(data)
        match parsed.type:
            case "content_block_delta":
                self._slot.add(1)
                self._words[ESTIMATED] = 1
                delta = parsed.delta
                if delta is not None and self.text is not None:
                    self.text.add(delta.text or delta.thinking or delta.partial_json or "")
            case "content_block_start":
                if parsed.content_block is not None and parsed.content_block.name and self.text is not None:
                    self.text.add(parsed.content_block.name)  # of a tool: the model has written it too
            case "message_start":
                if parsed.message is not None and parsed.message.usage is not None:
                    usage = parsed.message.usage
                    self._prompt(usage.prompt, usage.cached)
                event = self._renamed(event, "message")
            case "message_delta":
                if parsed.usage is not None:
                    self._prompt(parsed.usage.prompt, parsed.usage.cached)
                    self._total(parsed.usage.output_tokens, 0)
                if parsed.delta is None or parsed.delta.stop_reason is None:
                    # vLLM maps `abort`, and nothing else that ends a message, to no reason at all.
                    return self.fail("The engine aborted the answer. What was received is incomplete; try again.")
            case "message_stop":
                self.done = True
            case "error":
                return self.fail(
                    "The engine failed while it was answering. What was received is incomplete; try again."
                )
            case _:
                pass
        return event + b"\n\n"


class ResponsesStream(Stream):
    """Responses. The prompt's length comes only at the end; until then it is guessed from the request's size."""

    shape = Shape.RESPONSES

    def __init__(self, call: Call, served_model_name: str, bill: Bill) -> None:
        super().__init__(call, served_model_name, bill)
        self._words[PROMPT] = call.prompt_guess
        self._words[ESTIMATED] = 1
        self.text = RelayedText()

    def _frame(self, event: bytes) -> bytes:
        data = _data(event)
        if not data:
            return b""
        if data == _DONE:
            return b""
        parsed = _decode_responses_event(data)
        self._sequence = parsed.sequence_number
        kind = parsed.type
        if kind.endswith(".delta"):
            self._slot.add(1)
            self._words[ESTIMATED] = 1
            if self.text is not None:
                self.text.add(parsed.delta)
            return event + b"\n\n"
        if kind == "response.output_item.added" and parsed.item and parsed.item.name and self.text is not None:
            self.text.add(parsed.item.name)  # of a tool: the model has written it too
        if parsed.response is not None:
            usage = parsed.response.usage
            if usage is not None:
                self._prompt(usage.input_tokens, usage.cached)
                self._total(usage.output_tokens, usage.reasoning)
            if parsed.response.status in ("failed", "cancelled"):
                return self.fail(
                    "The engine failed while it was answering. What was received is incomplete; try again."
                )
            event = self._renamed(event, "response")
            self.done = kind in ("response.completed", "response.incomplete")
        elif kind == "error":
            return self.fail("The engine failed while it was answering. What was received is incomplete; try again.")
        return event + b"\n\n"


STREAMS: dict[Shape, type[Stream]] = {
    Shape.OPENAI: OpenAIStream,
    Shape.ANTHROPIC: AnthropicStream,
    Shape.RESPONSES: ResponsesStream,
}
