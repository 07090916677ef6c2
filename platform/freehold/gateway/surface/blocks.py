"""What may stand in Anthropic's messages. Called by paths.py; see parts.py for why it is an allowlist."""

from __future__ import annotations

from typing import Any

from freehold.gateway.errors import invalid
from freehold.gateway.surface.parts import require_only, require_text, unsupported, wrong_type

_MESSAGE = frozenset({"role", "content"})
_BLOCKS = {
    "text": frozenset({"type", "text"}),
    "image": frozenset({"type", "source"}),
    "tool_use": frozenset({"type", "id", "name", "input"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
}
_ECHOED = frozenset({"cache_control", "caller", "citations", "parsed_output", "toolset_name"})  # sent back by SDKs
_SOURCE = frozenset({"type", "media_type", "data"})


def check_anthropic(messages: Any, system: Any) -> int:
    """Messages and the system prompt. Returns how many images they have. Raises ApiError 400 naming the part."""
    if not isinstance(messages, list) or not messages:
        raise wrong_type("messages", "a non-empty list")
    media = 0
    for index, message in enumerate(messages):
        param = f"messages[{index}]"
        if not isinstance(message, dict):
            raise wrong_type(param, "an object")
        require_only(message, _MESSAGE, param)
        media += _check_blocks(message.get("content"), f"{param}.content", _BLOCKS)
    if system is not None:
        media += _check_blocks(system, "system", {"text": _BLOCKS["text"]})
    return media


_RESULTS = {kind: _BLOCKS[kind] for kind in ("text", "image")}


def _check_blocks(content: Any, param: str, kinds: dict[str, frozenset[str]]) -> int:
    if isinstance(content, str):
        return 0
    if not isinstance(content, list):
        raise wrong_type(param, "a string or a list of blocks")
    media = 0
    for position, block in enumerate(content):
        where = f"{param}[{position}]"
        if not isinstance(block, dict):
            raise wrong_type(where, "an object")
        kind = block.get("type")
        names = kinds.get(kind) if isinstance(kind, str) else None
        if names is None:
            raise unsupported(where, kind, f"Blocks here are {', '.join(sorted(kinds))}.")
        require_only(block, names, where, _ECHOED)
        if kind in ("text", "thinking"):
            require_text(block, where)
        elif kind == "image":
            source = block.get("source")
            if not isinstance(source, dict) or source.get("type") != "base64":
                raise invalid(f"{where}.source: only base64 images are taken.", f"{where}.source", "invalid_image_url")
            require_only(source, _SOURCE, f"{where}.source")
            media += 1
        elif kind == "tool_result" and block.get("content") is not None:
            media += _check_blocks(block["content"], f"{where}.content", _RESULTS)
    return media


def check_anthropic_tools(tools: Any) -> int:
    """Tools that the client runs. Returns how many there are."""
    if tools is None:
        return 0
    if not isinstance(tools, list):
        raise wrong_type("tools", "a list")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type") not in (None, "custom"):
            raise unsupported(
                f"tools[{index}]", tool.get("type") if isinstance(tool, dict) else tool, "Use client tools."
            )
        tool.pop("cache_control", None)
    return len(tools)
