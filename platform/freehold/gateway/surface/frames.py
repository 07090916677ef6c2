"""The frames that make up most of a stream, read with hardly any decoding: one answer, not ended yet, no logprobs. Used
by sse.py.

Why looking for bytes is sound. Inside a JSON string every quote is escaped, so a quote right after a comma or a brace
never belongs to what a model or a client wrote: `,"usage":{` can only be the member itself. (The model's words can be
keys, in the top_logprobs of completions; therefore not where logprobs were asked for.) Even so nothing is guessed: a
frame is taken only if it is, byte for byte, a former frame that was decoded, but for what lies between the index of its
choice and `finish_reason`, and for its numbers of tokens:

    {… "model":"internal","choices":[{"index":0,  «delta»  ,"finish_reason":null,"token_ids":null}],"usage":{
    "prompt_tokens":18,"total_tokens":  «19»  ,"completion_tokens":  «1»  ,"completion_tokens_details":null}}

and the delta is decoded, so that there is no other choice, no other member and no nonsense in it. vLLM writes the same
members in the same order for every token of an answer (measured on 0.32).
"""

from __future__ import annotations

from typing import Final

from freehold.gateway.surface import engine

_INDEX: Final = b'{"index":0,'
_CHOICES: Final = b'"choices":[' + _INDEX
_FINISH: Final = b',"finish_reason":null'
_USAGE: Final = b',"usage":{"prompt_tokens":'
_TOTAL: Final = b',"total_tokens":'
_COMPLETION: Final = b',"completion_tokens":'
_REASONING: Final = b',"completion_tokens_details":{"reasoning_tokens":'
_NO_DETAILS: Final = b',"completion_tokens_details":null}}'
_INDEX_SIZE: Final = len(_INDEX)
_COMPLETION_SIZE: Final = len(_COMPLETION)
_REASONING_SIZE: Final = len(_REASONING)
_LESSONS: Final = 4
_MISSES: Final = 8
_decode_choice: Final = engine.decode_choice


class Shortcut:
    """What is known of a stream's frames.

    Args:
        served, public: the member `model`, as the engine writes it and as the client shall read it.

    Attributes:
        tokens, reasoning: of the answer, up to the frame that was read last.
    """

    __slots__ = (
        "_begin",
        "_begin_size",
        "_choice_end",
        "_end",
        "_end_size",
        "_lessons",
        "_misses",
        "_prompt",
        "_public",
        "_public_begin",
        "_served",
        "_tail",
        "_tail_size",
        "_usage",
        "_usage_size",
        "reasoning",
        "tokens",
    )

    def __init__(self, served: bytes, public: bytes) -> None:
        self._served = served
        self._public = public
        self._lessons = _LESSONS
        self._begin = b""
        self._begin_size = 0
        self._tail = b""
        self._tail_size = 0
        self._misses = _MISSES
        self.tokens = self.reasoning = 0

    def learn(self, event: bytes) -> None:
        """Takes a frame as the pattern for those to come: it was decoded, and has one choice that is not ended, and
        usage. A few times only: where frames differ all the time there is nothing to learn."""
        if not self._lessons:
            return
        self._lessons -= 1
        self._begin_size = self._tail_size = 0
        begin = event.find(_CHOICES) + len(_CHOICES)
        usage = event.rfind(_USAGE)
        finish = event.rfind(_FINISH, 0, usage)
        total = event.find(_TOTAL, usage)
        completion = event.find(_COMPLETION, total)
        if not len(_CHOICES) <= begin <= finish < usage < total < completion:
            return
        start = event[: begin - _INDEX_SIZE]
        end = event[completion + _COMPLETION_SIZE :].lstrip(b"0123456789")
        if end.startswith(_REASONING):
            end = _NO_DETAILS
        if self._served not in start or end not in (b"}}", _NO_DETAILS):
            return
        self._begin, self._begin_size = event[:begin], begin
        self._public_begin = start.replace(self._served, self._public, 1)
        self._usage = event[finish : total + len(_TOTAL)]
        self._usage_size = len(self._usage)
        self._choice_end = usage - finish - 1  # before the bracket that closes the choices
        self._end, self._end_size = end, len(end)

    def read(self, event: bytes) -> bytes | None:
        """The frame for the client, without usage, its blank line included; None where it is not like the pattern.
        Raises msgspec.MsgspecError where its delta is no JSON."""
        begin = self._begin_size
        if not begin or not event.startswith(self._begin):
            return None
        tail = self._tail_size
        if tail:
            # Most frames are one token more than the one before.
            finish = len(event) - tail
            if finish >= begin and event.endswith(self._tail):
                ready = self._ready(event, begin, finish)
                if ready is not None:
                    self.tokens += 1
                    self._expect()
                return ready
            self._tail_size = 0
            self._misses -= 1
        finish = event.find(self._usage, begin)
        if finish < 0:
            return None
        total = finish + self._usage_size
        completion = event.find(_COMPLETION, total)
        if completion < 0:
            return None
        if event.endswith(self._end):
            digits = event[completion + _COMPLETION_SIZE : -self._end_size]
        else:
            details = event.find(_REASONING, completion)
            reasoning = event[details + _REASONING_SIZE : -3]
            if details < 0 or not reasoning.isdigit() or not event.endswith(b"}}}"):
                return None
            digits = event[completion + _COMPLETION_SIZE : details]
            self.reasoning = int(reasoning)
        if not (digits.isdigit() and event[total:completion].isdigit()):
            return None
        ready = self._ready(event, begin, finish)
        if ready is not None:
            self.tokens = int(digits)
            if self._misses:
                self._prompt = int(event[total:completion]) - self.tokens
                self._expect()
        return ready

    def _ready(self, event: bytes, begin: int, finish: int) -> bytes | None:
        choice = event[begin - _INDEX_SIZE : finish + self._choice_end]
        read = _decode_choice(choice)
        if read.index or read.finish_reason is not None:
            return None
        return self._public_begin + choice + b"]}\n\n"

    def _expect(self) -> None:
        """How the next frame ends if it is one token more."""
        tokens = self.tokens + 1
        self._tail = b"%b%d%b%d%b" % (self._usage, self._prompt + tokens, _COMPLETION, tokens, self._end)
        self._tail_size = len(self._tail)
