"""What may stand inside chat messages: text, tool calls, and images as data: URLs. Called by paths.py; the parts of
responses and of Anthropic's messages are in items.py and blocks.py.

The engine would fetch any URL it is given, follow redirects and read files; the gateway lets none through. Kinds of
parts are an allowlist too, since several of the engine's own (image_embeds, audio_url, video_url, file) fetch or
unpickle. Each check returns how many images and sounds it has seen: their tokens do not follow from their bytes.
"""

from __future__ import annotations

from typing import Any

from freehold.gateway.errors import ApiError, invalid

_MESSAGE = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "reasoning", "reasoning_content"})
_ECHOED = frozenset({"refusal", "annotations", "audio", "function_call", "parsed"})  # an answer sent back by an SDK
_FORMATS = frozenset({"text", "json_object", "json_schema"})


def unsupported(param: str, what: object, instead: str) -> ApiError:
    """A 400 for a kind of content, or a field, that is not taken."""
    return invalid(f"{param}: {str(what)[:60]!r} is not supported. {instead}", param, "unsupported_content")


def wrong_type(param: str, expected: str) -> ApiError:
    """A 400 for a value of the wrong type."""
    return invalid(f"'{param}' must be {expected}.", param, "invalid_type")


def require_data_url(url: Any, param: str) -> None:
    """An image that is in the request itself."""
    if not isinstance(url, str) or url[:5].lower() != "data:":
        raise invalid(
            f"{param}: only data: URLs are taken. Send the image itself as data:image/png;base64,…",
            param,
            "invalid_image_url",
        )


def require_only(
    part: dict[str, Any], names: frozenset[str], param: str, dropped: frozenset[str] = frozenset()
) -> None:
    """No other fields than these. The engine recognizes a part by its fields as well as by its type, so others must
    not ride along. Those in `dropped` are taken out."""
    if part.keys() <= names:
        return
    for name in part.keys() - names:
        if name not in dropped:
            raise unsupported(f"{param}.{name[:60]}", name, "Leave the field out.")
        del part[name]


def require_text(part: dict[str, Any], param: str) -> None:
    """A part that is text has one, in the field that is called as its type is, or else in `text`."""
    name = part["type"] if part["type"] in ("refusal", "thinking") else "text"
    if not isinstance(part.get(name), str):
        raise wrong_type(f"{param}.{name}", "a string")


def check_messages(messages: Any) -> int:
    """Chat messages; takes out what an SDK echoes of an earlier answer. Raises ApiError 400 naming the part."""
    if not isinstance(messages, list) or not messages:
        raise wrong_type("messages", "a non-empty list")
    media = 0
    for index, message in enumerate(messages):
        param = f"messages[{index}]"
        if not isinstance(message, dict):
            raise wrong_type(param, "an object")
        if not isinstance(message.get("role"), str):
            raise invalid(f"Missing required parameter: '{param}.role'.", f"{param}.role", "missing_required_parameter")
        require_only(message, _MESSAGE, param, _ECHOED)
        content = message.get("content")
        if isinstance(content, list):
            for position, part in enumerate(content):
                media += _check_part(part, f"{param}.content[{position}]")
        elif content is not None and not isinstance(content, str):
            raise wrong_type(f"{param}.content", "a string or a list of parts")
    return media


_CACHED = frozenset({"cache_control"})
_PARTS = {
    "text": frozenset({"type", "text"}),
    "refusal": frozenset({"type", "refusal"}),
    "image_url": frozenset({"type", "image_url"}),
    "input_audio": frozenset({"type", "input_audio"}),
}


def _check_part(part: Any, param: str) -> int:
    if not isinstance(part, dict):
        raise wrong_type(param, "an object")
    kind = part.get("type")
    names = _PARTS.get(kind) if isinstance(kind, str) else None
    if names is None:
        raise unsupported(param, kind, "Parts are text, image_url (data:) and input_audio.")
    require_only(part, names, param, _CACHED)
    if kind == "image_url":
        image = part.get("image_url")
        require_data_url(image.get("url") if isinstance(image, dict) else image, f"{param}.image_url")
        if isinstance(image, dict):
            require_only(image, frozenset({"url", "detail"}), f"{param}.image_url")
        return 1
    if kind == "input_audio":
        return 1
    require_text(part, param)
    return 0


def check_response_format(value: Any, param: str, names: frozenset[str]) -> None:
    """Structured output: the kinds OpenAI has, none of the engine's own."""
    if value is None:
        return
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _FORMATS:
        raise invalid(f"'{param}.type' must be text, json_object or json_schema.", f"{param}.type", "invalid_value")
    require_only(value, names, param)


def check_function_tools(tools: Any) -> int:
    """Tools that the client runs; the engine's built-in ones would reach out of it. Returns how many there are."""
    if tools is None:
        return 0
    if not isinstance(tools, list):
        raise wrong_type("tools", "a list")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise unsupported(f"tools[{index}]", tool.get("type") if isinstance(tool, dict) else tool, "Use functions.")
    return len(tools)
