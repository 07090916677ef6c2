"""The conversations a chat template is tried with. Pure data; read by render.py inside its limited child."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Final

Message = dict[str, Any]

QUESTION: Final = "What is the capital of Estonia?"
SYSTEM: Final = "You are terse and never guess."
ANSWER: Final = "Tallinn, since the year 1219."
REASONING: Final = "The person asks for a capital; I know it."
TOOL: Final = "get_current_weather"
RESULT: Final = '{"celsius": 7}'

_USER: Final[Message] = {"role": "user", "content": QUESTION}
_TOOLS: Final[list[dict[str, Any]]] = [
    {
        "type": "function",
        "function": {
            "name": TOOL,
            "description": "The weather at a place.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "Its name."}},
                "required": ["city"],
            },
        },
    }
]
_CALL: Final[Message] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "call00001", "type": "function", "function": {"name": TOOL, "arguments": {"city": "Tallinn"}}}
    ],
}
_TURNS: Final[list[Message]] = [
    _USER,
    {"role": "assistant", "content": ANSWER, "reasoning_content": REASONING, "reasoning": REASONING},
    {"role": "user", "content": "And its weather?"},
]


@dataclass(frozen=True)
class Conversation:
    """Messages, tools and switches as the engine hands them to a template. `shows` must be in what it renders."""

    name: str
    messages: list[Message]
    shows: str
    tools: list[dict[str, Any]] | None = None
    prompt: bool = True
    switches: dict[str, Any] = field(default_factory=dict)

    def in_parts(self) -> Conversation:
        """The same with each content as a list of parts, which the templates of multimodal models expect."""
        messages = copy.deepcopy(self.messages)
        for message in messages:
            if isinstance(message["content"], str):
                message["content"] = [{"type": "text", "text": message["content"]}]
        return Conversation(self.name, messages, self.shows, self.tools, self.prompt, self.switches)


CONVERSATIONS: Final = (
    Conversation("user", [_USER], QUESTION),
    Conversation("no_prompt", [_USER], QUESTION, prompt=False),
    Conversation("system", [{"role": "system", "content": SYSTEM}, _USER], SYSTEM),
    Conversation("turns", _TURNS, ANSWER),
    Conversation("tools", [_USER], TOOL, tools=_TOOLS),
    Conversation("tool_calls", [_USER, _CALL], TOOL, tools=_TOOLS, prompt=False),
    Conversation(
        "tool_results",
        [_USER, _CALL, {"role": "tool", "name": TOOL, "tool_call_id": "call00001", "content": RESULT}],
        "celsius",
        tools=_TOOLS,
    ),
    Conversation("thinking", [_USER], QUESTION, switches={"enable_thinking": True, "thinking": True}),
    Conversation("not_thinking", [_USER], QUESTION, switches={"enable_thinking": False, "thinking": False}),
)
