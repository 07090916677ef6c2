"""Under which licence a model comes: what its card declares, what its licence file says, whether the two agree.

Recognition is by phrases of the texts themselves. It informs people; it is no legal advice and refuses nothing.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from freehold.registry.inspection import card as cards

if TYPE_CHECKING:
    from collections.abc import Mapping

READ_BYTES: Final = 64 * 1024

_FILE: Final = re.compile(r"(?:(?:un)?licen[cs]e|copying|legal|terms[-_ ]of[-_ ]use)", re.IGNORECASE)
_SUFFIXES: Final = frozenset({"", ".txt", ".md", ".rst"})
_NOT_WORDS: Final = re.compile(r"[^a-z0-9.]+")

# Identifiers as the Hub's cards have them (https://huggingface.co/docs/hub/repositories-licenses), each with phrases
# that all occur in its text, in lower case, runs of other characters than letters, digits and dots as one space.
# The first match counts: narrower licences come before those whose words they borrow.
_PHRASES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("llama4", ("llama 4 community license agreement",)),
    ("llama3.3", ("llama 3.3 community license agreement",)),
    ("llama3.2", ("llama 3.2 community license agreement",)),
    ("llama3.1", ("llama 3.1 community license agreement",)),
    ("llama3", ("llama 3 community license agreement",)),
    ("llama2", ("llama 2 community license agreement",)),
    ("gemma", ("gemma terms of use",)),
    ("qwen-research", ("qwen research license agreement",)),
    ("qwen", ("qwen license agreement",)),
    ("tongyi-qianwen", ("tongyi qianwen license agreement",)),
    ("deepseek", ("deepseek license agreement",)),
    ("mnpl", ("mistral ai non production license",)),
    ("mrl", ("mistral ai research license",)),
    ("nvidia-open-model-license", ("nvidia open model license",)),
    ("tencent-hunyuan-community", ("tencent hunyuan", "license agreement")),
    ("exaone", ("exaone ai model license agreement",)),
    ("falcon-llm-license", ("falcon llm license",)),
    ("minimax-model-license", ("minimax model license",)),
    ("bigscience-openrail-m", ("bigscience", "openrail m")),
    ("bigscience-bloom-rail-1.0", ("bigscience rail license",)),
    ("bigcode-openrail-m", ("bigcode", "openrail m")),
    ("creativeml-openrail-m", ("creativeml open rail m",)),
    ("openrail", ("open rail",)),
    ("openrail", ("openrail",)),
    ("modified-mit", ("modified mit license",)),
    ("mit", ("permission is hereby granted free of charge to any person obtaining a copy",)),
    ("agpl-3.0", ("gnu affero general public license", "version 3")),
    ("lgpl-3.0", ("gnu lesser general public license", "version 3")),
    ("gpl-3.0", ("gnu general public license", "version 3")),
    ("gpl-2.0", ("gnu general public license", "version 2")),
    ("mpl-2.0", ("mozilla public license version 2.0",)),
    ("apache-2.0", ("apache license version 2.0",)),
    ("cc-by-nc-nd-4.0", ("attribution noncommercial noderivatives 4.0",)),
    ("cc-by-nc-sa-4.0", ("attribution noncommercial sharealike 4.0",)),
    ("cc-by-nc-4.0", ("attribution noncommercial 4.0",)),
    ("cc-by-nd-4.0", ("attribution noderivatives 4.0",)),
    ("cc-by-sa-4.0", ("attribution sharealike 4.0",)),
    ("cc-by-4.0", ("attribution 4.0 international",)),
    ("cc0-1.0", ("cc0 1.0 universal",)),
    ("bsd-3-clause", ("redistribution and use in source and binary forms", "neither the name")),
    ("bsd-2-clause", ("redistribution and use in source and binary forms",)),
    ("isc", ("permission to use copy modify and or distribute this software for any purpose",)),
    ("unlicense", ("this is free and unencumbered software released into the public domain",)),
)


def is_licence_file(path: str) -> bool:
    """Whether a file at the top of a repo is read as its licence."""
    name = PurePosixPath(path)
    return "/" not in path and _FILE.match(name.name) is not None and name.suffix.lower() in _SUFFIXES


def recognise(text: str) -> str | None:
    """The identifier of a licence's text, or None."""
    words = _NOT_WORDS.sub(" ", text.lower())
    for name, phrases in _PHRASES:
        if all(phrase in words for phrase in phrases):
            return name
    return None


def licence_facts(card: cards.Card, files: Mapping[str, str]) -> dict[str, Any]:
    """What is known of the licence. `files` holds the texts of licence files by path.

    `declared` is the card's `license`, `name` and `link` its `license_name` and `license_link`; `detected` the licence
    recognised in `file`; `agrees` is null where there is nothing to compare; `id` is the best single answer.
    """
    declared = _lower(cards.text(card, "license"))
    name = _lower(cards.text(card, "license_name"))
    found = sorted((path, recognise(text)) for path, text in files.items())
    file, detected = next(((path, known) for path, known in found if known is not None), (None, None))
    if file is None and found:
        file = found[0][0]
    stated = name or declared if declared in {None, "other"} else declared
    return {
        "id": (detected if stated in {None, "other"} else stated) or declared,
        "declared": declared,
        "name": name,
        "link": cards.text(card, "license_link"),
        "detected": detected,
        "file": file,
        "agrees": None if detected is None or stated in {None, "other"} else _same(stated, detected),
    }


def _same(stated: str, detected: str) -> bool:
    one, other = (re.sub(r"[^a-z0-9]|licen[cs]e|community", "", text) for text in (stated, detected))
    return bool(one) and (one == other or one.startswith(other) or other.startswith(one))


def _lower(text: str | None) -> str | None:
    return text.lower() if text else None
