"""What may stand in the `input` of a response. Called by paths.py; see parts.py for why it is an allowlist."""

from __future__ import annotations

from typing import Any

from freehold.gateway.surface.parts import require_data_url, require_only, require_text, unsupported, wrong_type

_ITEMS = {
    "message": frozenset({"type", "role", "content", "id", "status", "phase"}),
    "function_call": frozenset({"type", "id", "call_id", "name", "arguments", "status"}),
    "function_call_output": frozenset({"type", "id", "call_id", "output", "status"}),
    "reasoning": frozenset({"type", "id", "summary", "content", "encrypted_content", "status"}),
}
_ECHOED = frozenset({"async", "async_", "caller", "created_by", "namespace", "parsed_arguments"})  # sent back by SDKs
_PARTS = {
    "input_text": frozenset({"type", "text"}),
    "output_text": frozenset({"type", "text", "annotations", "logprobs"}),
    "refusal": frozenset({"type", "refusal"}),
    "reasoning_text": frozenset({"type", "text"}),
    "summary_text": frozenset({"type", "text"}),
    "input_image": frozenset({"type", "image_url", "detail"}),
}


def check_items(given: Any) -> tuple[int, int]:
    """Text, or items. Returns (items, images). Raises ApiError 400 naming the part."""
    if isinstance(given, str):
        return 1, 0
    if not isinstance(given, list) or not given:
        raise wrong_type("input", "a string or a non-empty list")
    media = 0
    for index, item in enumerate(given):
        param = f"input[{index}]"
        if not isinstance(item, dict):
            raise wrong_type(param, "an object")
        kind = item.get("type", "message")
        names = _ITEMS.get(kind) if isinstance(kind, str) else None
        if names is None:
            raise unsupported(param, kind, f"Items are {', '.join(sorted(_ITEMS))}.")
        require_only(item, names, param, _ECHOED)
        for name in ("content", "output", "summary"):
            content = item.get(name)
            if isinstance(content, list):
                for position, part in enumerate(content):
                    media += _check_part(part, f"{param}.{name}[{position}]")
            elif content is not None and not isinstance(content, str):
                raise wrong_type(f"{param}.{name}", "a string or a list of parts")
    return len(given), media


def _check_part(part: Any, param: str) -> int:
    if not isinstance(part, dict):
        raise wrong_type(param, "an object")
    kind = part.get("type")
    names = _PARTS.get(kind) if isinstance(kind, str) else None
    if names is None:
        raise unsupported(param, kind, "Parts are input_text, output_text and input_image (data:).")
    if kind != "input_image":
        require_only(part, names, param, frozenset({"parsed"}))
        require_text(part, param)
        return 0
    require_data_url(part.get("image_url"), f"{param}.image_url")
    if part.get("file_id") is not None:
        raise unsupported(f"{param}.file_id", "file_id", "Send the image as a data: URL.")
    require_only(part, names, param, frozenset({"file_id"}))
    return 1
