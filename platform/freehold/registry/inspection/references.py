"""What in a configuration makes an engine run other code or open other folders than the one inspected. Pure.

Read in vLLM 0.32 with transformers 5.19. What people's tools leave behind and nothing opens is let through:
`_name_or_path` (replaced by the folder's own or, for a few families, good for one number of the config.json there),
`name_or_path` of a tokenizer (replaced too), `base_model_name_or_path` of an adapter (shown, never loaded).
"""

from __future__ import annotations

import re
from typing import Any, Final

from freehold.registry.inspection.problems import Malformed
from freehold.registry.inspection.tree import MISTRAL_CONFIG

MODULES: Final = "modules.json"  # sentence-transformers: vLLM reads configuration and weights below each `path`

_CODE: Final = frozenset({"auto_map", "custom_pipelines"})
_ELSEWHERE: Final = {
    "speculators_config": "it makes the engine load another model (its verifier) in place of this one",
    "configuration_files": "it makes the engine read another configuration in place of this one",
    "fast_tokenizer_files": "it makes the engine read another tokenizer in place of this one",
    # Ultravox, whose two halves may each be another model: a name or any folder of the machine.
    "text_model_id": "it makes the engine load the weights of another model",
    "audio_model_id": "it makes the engine load the weights of another model",
}
_KERNELS: Final = re.compile(r"_?(?:attn|experts)_implementation(?:_internal)?")
_PATHS: Final = re.compile(r"path|\w+_name_or_path|(?:model|tokenizer|processor|encoder|vision_tower|backbone)_path")
_VOCABULARY: Final = re.compile(r"(?!special_tokens_map_file|tokenizer_file)\w+_file")  # older transformers open these
_LEFT_BEHIND: Final = "base_model_name_or_path"


def check(name: str, document: Any) -> None:
    """Raises Malformed for the first such thing at any depth of the file called `name`."""
    if not (name.endswith("config.json") or name in {MODULES, MISTRAL_CONFIG}):
        return
    stack = [document]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            for key, value in item.items():
                _check(name, key, value)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _check(name: str, key: str, value: Any) -> None:
    if key in _CODE:
        raise Malformed(
            "remote_code",
            f"has {key!r}: it makes the engine run Python code from the repo",
            f"Use an architecture that vLLM knows by itself, and remove {key!r} from the file.",
        )
    if key in _ELSEWHERE and value is not None:
        raise Malformed("elsewhere", f"has {key!r}: {_ELSEWHERE[key]}", f"Remove {key!r} from the file.")
    if key == "init_inputs" and value:
        raise Malformed("elsewhere", "has 'init_inputs', which may name files outside of the model", "Remove it.")
    if _KERNELS.fullmatch(key) and any("/" in text for text in _texts(value)):
        raise Malformed(
            "remote_code", f"names code of another repo in {key!r}", f"Remove {key!r} from the file: vLLM chooses."
        )
    is_path = _PATHS.fullmatch(key) or (name == "tokenizer_config.json" and _VOCABULARY.fullmatch(key))
    if is_path and key != _LEFT_BEHIND and any(map(_leads_out, _texts(value))):
        raise Malformed(
            "elsewhere",
            f"names a path outside of the model in {key!r}",
            f"Remove {key!r}, or name what is in the repo.",
        )


def _texts(value: Any) -> list[str]:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]


def _leads_out(path: str) -> bool:
    return path.startswith(("/", "~")) or "\\" in path or "://" in path or ".." in path.split("/")
