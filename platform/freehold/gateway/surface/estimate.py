"""What an engine is asked when it was cut off before it said how many tokens there were: its private tokenizer counts
the prompt and the text that was relayed. Such numbers are marked as estimated: a tokenizer may cut a text otherwise
than the model made it.

relay.py asks these questions of the replica that answered; no client reaches those paths. What is asked is rebuilt
from an allowlist as well: the engine's tokenizer takes chat templates and media options like any other path.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Question:
    """A POST to the replica.

    Attributes:
        path: at the replica.
        body: JSON.
        about_prompt: whether it is about the prompt; else about what was relayed.
        known: tokens that are to be added to the answer.
    """

    path: bytes
    body: bytes
    about_prompt: bool
    known: int = 0


class _Answer(msgspec.Struct):
    count: int | None = None
    input_tokens: int | None = None


_answers = msgspec.json.Decoder(_Answer)


def questions(surface: Surface, body: bytes, stream: Stream | None) -> list[Question]:
    """What to ask about a request that was cut off; nothing where all is known.

    Args:
        body: as it was forwarded.
        stream: what was relayed, None where it was no stream or had not begun.
    """
    asked = []
    given: Body = msgspec.json.decode(body)
    if stream is None or not stream.prompt_known:
        asked += _prompt(surface, given)
    if stream is not None and stream.text is not None and not stream.exact and stream.text:
        text = {"model": given["model"], "prompt": str(stream.text), "add_special_tokens": False}
        asked.append(Question(TOKENIZE, msgspec.json.encode(text), about_prompt=False, known=stream.text.beyond))
    return asked


def take(question: Question, answer: bytes, bill: Bill) -> bool:
    """Writes the engine's answer (a 200's body) into the bill's slot. False: it cannot be read, and what was guessed
    stays."""
    try:
        read = _answers.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    count = read.count if read.count is not None else read.input_tokens
    if count is None or count < 0:
        return False
    if question.about_prompt:
        bill.slot.words[PROMPT] = count + question.known
    else:
        bill.slot.choice(0, count + question.known)
    bill.slot.words[ESTIMATED] = 1
    return True


def _prompt(surface: Surface, given: Body) -> list[Question]:
    if surface is MESSAGES:
        asked = {name: value for name, value in given.items() if name in COUNT_TOKENS.allowed}
        return [Question(COUNT_TOKENS.raw_path, msgspec.json.encode(asked), about_prompt=True)]
    asked = {"model": given["model"]}
    known = 0
    if surface is CHAT:
        asked |= {name: given[name] for name in _CHAT if given.get(name) is not None}
    elif surface is RESPONSES:
        asked |= _conversation(given)
    else:
        asked["prompt"], known = _texts(surface, given)
    if "messages" in asked:
        asked["add_generation_prompt"] = True
    return [Question(TOKENIZE, msgspec.json.encode(asked), about_prompt=True, known=known)]


def _texts(surface: Surface, given: Body) -> tuple[str, int]:
    """(all text in one, tokens that came as such)."""
    if surface in (COMPLETIONS, EMBEDDINGS):
        texts = given["prompt"] if surface is COMPLETIONS else given["input"]
        texts = texts if isinstance(texts, list) else [texts]
        if isinstance(texts[0], str):
            return "".join(texts), 0
        return "", sum(len(item) if isinstance(item, list) else 1 for item in texts)
    if surface.raw_path == RERANK.raw_path:
        return "".join(given["query"] + document for document in given["documents"]), 0
    scored = [value if isinstance(value, list) else [value] for name, value in given.items() if name in _SCORED]
    longest = max(len(texts) for texts in scored)
    return "".join("".join(texts) * (longest if len(texts) == 1 else 1) for texts in scored), 0


_SCORED = frozenset({"text_1", "text_2", "queries", "documents", "items", "data_1", "data_2"})


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
