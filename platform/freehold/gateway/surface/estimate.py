"""What an engine is asked when it was cut off before it said how many tokens there were: its private tokenizer counts
the prompt and the text that was relayed. Such numbers are marked as estimated: a tokenizer may cut a text otherwise
than the model made it.

relay.py asks these questions of the replica that answered; no client reaches those paths. What is asked is rebuilt
from an allowlist as well: the engine's tokenizer takes chat templates and media options like any other path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from freehold.gateway.slots import ESTIMATED, PROMPT
from freehold.gateway.surface.call import Body, Surface
from freehold.gateway.surface.paths import CHAT, COMPLETIONS, COUNT_TOKENS, EMBEDDINGS, MESSAGES, RERANK, RESPONSES

if TYPE_CHECKING:
    from freehold.gateway.meter import Bill
    from freehold.gateway.surface.sse import Stream

TOKENIZE = b"/tokenize"
_CHAT = ("messages", "tools")
_MEDIA = frozenset({"image_url", "input_audio", "image"})
_LARGEST = 1024 * 1024  # bytes of a body that is read for its prompt, and of what is asked about prompt and text each


class _Total:
    """Tokens of a prompt that is asked for in several questions: known once all are answered."""

    __slots__ = ("missing", "tokens")

    def __init__(self, missing: int = 1) -> None:
        self.missing = missing
        self.tokens = 0


@dataclass(frozen=True, slots=True)
class Question:
    """A POST to the replica.

    Attributes:
        path: at the replica.
        body: JSON.
        about_prompt: whether it is about the prompt; else about what was relayed.
        known: tokens that are to be added to the answer.
        times: how often the engine reads what is asked about; the answer is multiplied by it.
        total: shared by the questions about one prompt.
    """

    path: bytes
    body: bytes
    about_prompt: bool
    known: int = 0
    times: int = 1
    total: _Total = field(default_factory=_Total, compare=False, repr=False)


class _Answer(msgspec.Struct):
    count: int | None = None
    input_tokens: int | None = None


_answers = msgspec.json.Decoder(_Answer)


def questions(surface: Surface, body: bytes, stream: Stream | None) -> list[Question]:
    """What to ask about a request that was cut off; nothing where all is known or nobody pays, and nothing about a
    prompt or a text that is larger than a MiB: what was guessed stays. Images and sounds are not asked about.

    Args:
        body: as it was forwarded.
        stream: what was relayed, None where it was no stream or had not begun.
    """
    asked: list[Question] = []
    if surface.billed and len(body) <= _LARGEST and (stream is None or not stream.prompt_known):
        prompt = _prompt(surface, msgspec.json.decode(body))
        if sum(len(question.body) for question in prompt) <= _LARGEST:
            asked += prompt
    if stream is not None and stream.text is not None and not stream.exact and stream.text:
        text = {"model": stream.served_model_name, "prompt": str(stream.text), "add_special_tokens": False}
        encoded = msgspec.json.encode(text)
        if len(encoded) <= _LARGEST:
            asked.append(Question(TOKENIZE, encoded, about_prompt=False, known=stream.text.beyond))
    return asked


def take(question: Question, answer: bytes, bill: Bill) -> bool:
    """Writes the engine's answer (a 200's body) into the bill's slot; of a prompt with several questions at the last
    one. False: it cannot be read, or is not all of the prompt; what was guessed stays."""
    try:
        read = _answers.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    count = read.count if read.count is not None else read.input_tokens
    if count is None or count < 0:
        return False
    tokens = count * question.times + question.known
    try:
        if question.about_prompt:
            total = question.total
            total.tokens += tokens
            total.missing -= 1
            if total.missing:
                return False
            bill.slot.words[PROMPT] = total.tokens
        else:
            bill.slot.choice(0, tokens)
    except ValueError:  # more than a slot holds: no engine reads so much
        return False
    bill.slot.words[ESTIMATED] = 1
    return True


def _prompt(surface: Surface, given: Body) -> list[Question]:
    if surface is MESSAGES:
        asked = {name: value for name, value in given.items() if name in COUNT_TOKENS.allowed}
        asked["messages"] = _without_media(given["messages"])
        return [Question(COUNT_TOKENS.engine_path.encode(), msgspec.json.encode(asked), about_prompt=True)]
    if surface is CHAT:
        asked = {name: given[name] for name in _CHAT if given.get(name) is not None}
        asked["messages"] = _without_media(given["messages"])
    elif surface is RESPONSES:
        asked = _conversation(given)
    else:
        return _texts(surface, given)
    asked |= {"model": given["model"], "add_generation_prompt": True}
    return [Question(TOKENIZE, msgspec.json.encode(asked), about_prompt=True)]


def _texts(surface: Surface, given: Body) -> list[Question]:
    """Each text is asked for once, together with those that are read as often."""
    read: dict[int, list[str]] = {}  # by how often
    known = 0
    if surface in (COMPLETIONS, EMBEDDINGS):
        texts = _list(given["prompt"] if surface is COMPLETIONS else given["input"])
        if isinstance(texts[0], str):
            read[1] = texts
        else:
            read[1] = []
            known = sum(len(item) if isinstance(item, list) else 1 for item in texts)
    else:
        names = ("query", "documents") if surface.engine_path == RERANK.engine_path else _SCORED
        sides = [_list(given[name]) for name in names if given.get(name) is not None]
        longest = max(len(side) for side in sides)
        for side in sides:
            read.setdefault(longest if len(side) == 1 else 1, []).extend(side)
    total = _Total(len(read))
    return [
        Question(
            TOKENIZE,
            msgspec.json.encode({"model": given["model"], "prompt": "".join(texts)}),
            about_prompt=True,
            known=known,
            times=times,
            total=total,
        )
        for times, texts in read.items()
    ]


_SCORED = ("text_1", "text_2", "queries", "documents", "items", "data_1", "data_2")


def _list(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _without_media(given: list[Body]) -> list[Body]:
    """Messages, or the results of tools among their blocks, without images and sounds."""
    return [
        {**message, "content": _text_parts(message["content"])} if isinstance(message.get("content"), list) else message
        for message in given
    ]


def _text_parts(content: list[Body]) -> list[Body] | str:
    return _without_media([part for part in content if part["type"] not in _MEDIA]) or ""


def _conversation(given: Body) -> Body:
    """A response's input as chat messages and tools, as vLLM itself makes them: what an assistant thought, said and
    called becomes one message."""
    messages: list[Body] = []
    if given.get("instructions"):
        messages.append({"role": "system", "content": given["instructions"]})
    items = given["input"]
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
        kind = item.get("type", "message")
        if kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            if messages and messages[-1]["role"] == "assistant":
                messages[-1].setdefault("tool_calls", []).append(call)
            else:
                messages.append({"role": "assistant", "tool_calls": [call]})
        elif kind == "function_call_output":
            text = _plain(item.get("output"))
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": text})
        elif kind == "reasoning":
            _say(messages, "reasoning", _plain(item.get("content")) or _plain(item.get("summary")))
        elif item.get("role") == "assistant":
            _say(messages, "content", _plain(item.get("content")))
        else:
            messages.append({"role": item.get("role", "user"), "content": _plain(item.get("content"))})
    asked: Body = {"messages": messages}
    if given.get("tools"):
        asked["tools"] = [
            {"type": "function", "function": {name: tool[name] for name in _FUNCTION if name in tool}}
            for tool in given["tools"]
        ]
    return asked


_FUNCTION = ("name", "description", "parameters")


def _say(messages: list[Body], field: str, text: str) -> None:
    """Into the assistant's last message, where that has none of it yet."""
    if messages and messages[-1]["role"] == "assistant" and field not in messages[-1]:
        messages[-1][field] = text
    else:
        messages.append({"role": "assistant", field: text})


def _plain(content: Any) -> str:
    """The text of a content; images are not counted."""
    if isinstance(content, list):
        return "".join(part.get("text") or part.get("refusal") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
