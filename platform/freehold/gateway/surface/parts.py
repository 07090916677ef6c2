"""What may stand inside messages: text, tool calls, and images as data: URLs. Called by bodies.py.

The engine would fetch any URL it is given, follow redirects and read files; the gateway lets none through. Kinds of
parts are an allowlist too, since several of the engine's own (image_embeds, audio_url, video_url, file) fetch or
unpickle.
"""

from __future__ import annotations

from typing import Any

from freehold.gateway.errors import ApiError, invalid

_CHAT_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "reasoning", "reasoning_content"})
_CHAT_ECHOED = frozenset(
    {"refusal", "annotations", "audio", "function_call", "parsed"}
)  # an answer sent back by an SDK
_RESPONSE_TEXT = frozenset({"input_text", "output_text", "refusal", "reasoning_text", "summary_text"})
_ITEMS = frozenset({"message", "function_call", "function_call_output", "reasoning"})
_BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})


def _unsupported(param: str, what: object, instead: str) -> ApiError:
    return invalid(f"{param}: {str(what)[:60]!r} is not supported. {instead}", param, "unsupported_content")


def _wrong_type(param: str, expected: str) -> ApiError:
    return invalid(f"'{param}' must be {expected}.", param, "invalid_type")


def _require_data_url(url: Any, param: str) -> None:
    if not isinstance(url, str) or not url[:5].lower() == "data:":
        raise invalid(
            f"{param}: only data: URLs are taken. Send the image itself as data:image/png;base64,…",
            param,
            "invalid_image_url",
        )


def check_messages(messages: Any) -> None:
    """Chat messages; takes out what an SDK echoes of an earlier answer. Raises ApiError 400 naming the part."""
    if not isinstance(messages, list) or not messages:
        raise _wrong_type("messages", "a non-empty list")
    for index, message in enumerate(messages):
        param = f"messages[{index}]"
        if not isinstance(message, dict):
            raise _wrong_type(param, "an object")
        if not isinstance(message.get("role"), str):
            raise invalid(f"Missing required parameter: '{param}.role'.", f"{param}.role", "missing_required_parameter")
        if not message.keys() <= _CHAT_FIELDS:
            for name in message.keys() - _CHAT_FIELDS:
                if name not in _CHAT_ECHOED:
                    raise _unsupported(f"{param}.{name[:60]}", name, "Leave the field out.")
                del message[name]
        content = message.get("content")
        if isinstance(content, list):
            for position, part in enumerate(content):
                _check_chat_part(part, f"{param}.content[{position}]")
        elif content is not None and not isinstance(content, str):
            raise _wrong_type(f"{param}.content", "a string or a list of parts")


def _check_chat_part(part: Any, param: str) -> None:
    if not isinstance(part, dict):
        raise _wrong_type(param, "an object")
    kind = part.get("type")
    if kind == "image_url":
        image = part.get("image_url")
        _require_data_url(image.get("url") if isinstance(image, dict) else image, f"{param}.image_url")
        _require_only(part, {"type", "image_url", "cache_control"}, param)
    elif kind == "input_audio":
        _require_only(part, {"type", "input_audio"}, param)
    elif kind in ("text", "refusal"):
        _require_only(part, {"type", kind, "cache_control"}, param)
    else:
        raise _unsupported(param, kind, "Parts are text, image_url (data:) and input_audio.")
    part.pop("cache_control", None)


def _require_only(part: dict[str, Any], names: set[str], param: str) -> None:
    """The engine recognizes a part by its fields as well as by its type, so others must not ride along."""
    for name in part.keys() - names:
        raise _unsupported(f"{param}.{name[:60]}", name, "Leave the field out.")


def check_response_format(value: Any, param: str) -> None:
    """Structured output: the kinds OpenAI has, none of the engine's own."""
    if value is None:
        return
    if not isinstance(value, dict) or value.get("type") not in ("text", "json_object", "json_schema"):
        raise invalid(f"'{param}.type' must be text, json_object or json_schema.", f"{param}.type", "invalid_value")


def check_function_tools(tools: Any) -> None:
    """Tools that the client runs; the engine's built-in ones would reach out of it."""
    if tools is None:
        return
    if not isinstance(tools, list):
        raise _wrong_type("tools", "a list")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise _unsupported(
                f"tools[{index}]", tool.get("type") if isinstance(tool, dict) else tool, "Use functions."
            )


def check_items(given: Any) -> None:
    """The `input` of a response: text, or items."""
    if isinstance(given, str):
        return
    if not isinstance(given, list) or not given:
        raise _wrong_type("input", "a string or a non-empty list")
    for index, item in enumerate(given):
        param = f"input[{index}]"
        if not isinstance(item, dict):
            raise _wrong_type(param, "an object")
        kind = item.get("type", "message")
        if kind not in _ITEMS:
            raise _unsupported(param, kind, f"Items are {', '.join(sorted(_ITEMS))}.")
        for name in ("content", "output", "summary"):
            content = item.get(name)
            if isinstance(content, list):
                for position, part in enumerate(content):
                    _check_response_part(part, f"{param}.{name}[{position}]")


def _check_response_part(part: Any, param: str) -> None:
    if not isinstance(part, dict):
        raise _wrong_type(param, "an object")
    kind = part.get("type")
    if kind == "input_image":
        _require_data_url(part.get("image_url"), f"{param}.image_url")
        if part.get("file_id") is not None:
            raise _unsupported(f"{param}.file_id", "file_id", "Send the image as a data: URL.")
    elif kind not in _RESPONSE_TEXT:
        raise _unsupported(param, kind, "Parts are input_text, output_text and input_image (data:).")


def check_anthropic(messages: Any, system: Any) -> None:
    """Anthropic's messages and system prompt."""
    if not isinstance(messages, list) or not messages:
        raise _wrong_type("messages", "a non-empty list")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise _wrong_type(f"messages[{index}]", "an object")
        _check_blocks(message.get("content"), f"messages[{index}].content")
    if system is not None:
        _check_blocks(system, "system")


def _check_blocks(content: Any, param: str) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise _wrong_type(param, "a string or a list of blocks")
    for position, block in enumerate(content):
        where = f"{param}[{position}]"
        if not isinstance(block, dict):
            raise _wrong_type(where, "an object")
        kind = block.get("type")
        block.pop("cache_control", None)
        if kind == "image":
            source = block.get("source")
            if not isinstance(source, dict) or source.get("type") != "base64":
                raise invalid(f"{where}.source: only base64 images are taken.", f"{where}.source", "invalid_image_url")
            _require_only(source, {"type", "media_type", "data"}, f"{where}.source")
        elif kind == "tool_result":
            if block.get("content") is not None:
                _check_blocks(block["content"], f"{where}.content")
        elif kind not in _BLOCKS:
            raise _unsupported(where, kind, "Blocks are text, image (base64), tool_use, tool_result and thinking.")


def check_anthropic_tools(tools: Any) -> None:
    """Tools that the client runs."""
    if tools is None:
        return
    if not isinstance(tools, list):
        raise _wrong_type("tools", "a list")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type", "custom") != "custom":
            raise _unsupported(
                f"tools[{index}]", tool.get("type") if isinstance(tool, dict) else tool, "Use client tools."
            )
        tool.pop("cache_control", None)
