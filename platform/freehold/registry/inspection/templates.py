"""Where chat templates lie in a repo: collected in the child that reads files, and rendered in another (render.py).

Read in transformers 5.19 (PreTrainedTokenizerBase, ProcessorMixin) and vLLM 0.32 (renderers/hf.py): these files are all
that either takes a template from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from freehold.registry.inspection.problems import Malformed

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPLATE_BYTES: Final = 1024 * 1024
TEMPLATES: Final = 64
ALL_BYTES: Final = 4 * 1024 * 1024
DEFAULT: Final = "default"

_IN_JSON: Final = frozenset({"tokenizer_config.json", "processor_config.json", "chat_template.json"})
_FILE: Final = "chat_template.jinja"
_FOLDER: Final = "additional_chat_templates/"
_REMEDY: Final = "Take the file from the original model, or remove the template if the model is not for chat."


@dataclass(frozen=True)
class Template:
    """A chat template: the file it is in, its name there (`default` unless named), its text."""

    file: str
    name: str
    text: str

    def facts(self) -> dict[str, Any]:
        """What is kept of it: not the text, which is in the file."""
        content = self.text.encode()
        return {
            "file": self.file,
            "name": self.name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }


def is_template_file(path: str) -> bool:
    """Whether the engine takes the whole file as a template."""
    return path == _FILE or (path.startswith(_FOLDER) and path.count("/") == 1 and path.endswith(".jinja"))


def from_file(path: str, content: bytes) -> Template:
    """The template of a file of its own. Raises Malformed."""
    name = DEFAULT if path == _FILE else path.removeprefix(_FOLDER).removesuffix(".jinja")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("chat_template_syntax", "is a chat template that is not UTF-8 text", _REMEDY) from None
    _check(text)
    return Template(path, name, text)


def from_document(path: str, document: Any) -> Iterator[Template]:
    """The templates in a JSON file at the top of a repo. Raises Malformed."""
    if path not in _IN_JSON or not isinstance(document, dict):
        return
    found = document.get("chat_template")
    if not found:
        return
    if isinstance(found, str):
        named: list[tuple[Any, Any]] = [(DEFAULT, found)]
    elif isinstance(found, list) and all(isinstance(entry, dict) for entry in found):
        named = [(entry.get("name"), entry.get("template")) for entry in found]
    elif isinstance(found, dict):
        named = list(found.items())
    else:
        named = [(None, None)]
    for name, text in named:
        if not isinstance(name, str) or not isinstance(text, str):
            detail = "has a chat_template that is neither text nor a list of named texts"
            raise Malformed("chat_template_syntax", detail, _REMEDY)
        _check(text)
        yield Template(path, name[:100], text)


def too_many(count: int) -> Malformed:
    """Of more templates than are rendered."""
    detail = f"has or is one of {count} or more chat templates; at most {TEMPLATES} are rendered"
    return Malformed("chat_template_too_many", detail, "Remove those nobody uses.")


def too_large(most: int) -> Malformed:
    """Of templates that are too large together."""
    detail = f"brings the chat templates to more than {most} bytes"
    return Malformed("chat_template_too_large", detail, "Remove those nobody uses.")


def _check(text: str) -> None:
    if len(text) > TEMPLATE_BYTES or len(text.encode()) > TEMPLATE_BYTES:
        detail = f"has a chat template of {len(text)} characters; at most {TEMPLATE_BYTES} bytes are rendered"
        raise Malformed("chat_template_too_large", detail, _REMEDY)
