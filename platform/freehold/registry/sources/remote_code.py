"""Takes out of a configuration what makes an engine run Python from the repo, where whoever imports a model asks to.

Many well-known models carry `auto_map` for old versions of transformers, though vLLM has long known their architecture
by itself: without it they are served with the engine's own code, and nothing else changes. Called by the import job.
"""

from __future__ import annotations

import json
from typing import Any, Final

from freehold.registry.inspection import strict_json
from freehold.registry.inspection.problems import Malformed

KEYS: Final = frozenset({"auto_map", "custom_pipelines"})


def is_code(path: str) -> bool:
    """Whether a file is Python source, which nothing would load any more."""
    return path.endswith(".py")


def is_configuration(path: str) -> bool:
    """Whether a file is one that remote code is taken out of."""
    return path.endswith("config.json")


def without_remote_code(path: str, content: bytes) -> bytes | None:
    """The configuration without KEYS at any depth, or None where there is nothing to take out (also of what is no
    configuration or no JSON: the inspection says what is wrong with that)."""
    if not is_configuration(path):
        return None
    try:
        document = strict_json.loads(content)
    except Malformed:
        return None
    cleaned = _without(document)
    return None if cleaned == document else json.dumps(cleaned, indent=2, ensure_ascii=False).encode() + b"\n"


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(item) for key, item in value.items() if key not in KEYS}
    if isinstance(value, list):
        return [_without(item) for item in value]
    return value
