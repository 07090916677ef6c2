"""A model as the Hub's JSON shows it, whole or only the properties that a client asks for (`expand`).

Used by reads.py (one model) and listing.py (many).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from freehold.common.errors import InvalidInput
from freehold.hub import cards

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from freehold.hub.requests import HubRequest


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A model at a revision. `siblings` and `used_bytes` are None where nobody asked for them."""

    public_id: str
    full_name: str
    author: str
    description: str
    created_at: datetime
    sha: str
    modified_at: datetime
    facts: Mapping[str, Any]
    siblings: list[dict[str, Any]] | None = None
    used_bytes: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


_VALUES: Final[dict[str, Callable[[Shown], Any]]] = {
    "author": lambda shown: shown.author,
    "baseModels": lambda shown: [shown.facts["base_model"]] if shown.facts.get("base_model") else None,
    "cardData": lambda shown: cards.card(shown.facts),
    "childrenModelCount": lambda shown: 0,
    "config": lambda shown: cards.config(shown.facts),
    "createdAt": lambda shown: moment(shown.created_at),
    "description": lambda shown: shown.description,
    "disabled": lambda shown: False,
    "downloads": lambda shown: 0,
    "downloadsAllTime": lambda shown: 0,
    "evalResults": lambda shown: None,
    "gated": lambda shown: False,
    "gguf": lambda shown: None,
    "inference": lambda shown: None,
    "inferenceProviderMapping": lambda shown: None,
    "lastModified": lambda shown: moment(shown.modified_at),
    "library_name": lambda shown: cards.library(shown.facts),
    "likes": lambda shown: 0,
    "mask_token": lambda shown: None,
    "model-index": lambda shown: None,
    "pipeline_tag": lambda shown: cards.pipeline_tag(shown.facts),
    "private": lambda shown: True,
    "resourceGroup": lambda shown: None,
    "safetensors": lambda shown: cards.safetensors(shown.facts),
    "sha": lambda shown: shown.sha,
    "siblings": lambda shown: shown.siblings,
    "spaces": lambda shown: [],
    "tags": lambda shown: cards.tags(shown.facts),
    "transformersInfo": lambda shown: cards.transformers_info(shown.facts),
    "trendingScore": lambda shown: 0,
    "usedStorage": lambda shown: shown.used_bytes,
    "widgetData": lambda shown: None,
    # Files are inspected before there is a revision: one that holds anything unsafe does not exist.
    "securityRepoStatus": lambda shown: {"scansDone": True, "filesWithIssues": []},
}

BRIEF: Final = ("private", "gated", "likes", "downloads", "tags", "pipeline_tag", "library_name", "createdAt")
FULL: Final = (*BRIEF, "author", "sha", "lastModified", "siblings")
ONE: Final = (
    *FULL, "disabled", "description", "cardData", "config", "transformersInfo", "safetensors", "spaces", "usedStorage",
)  # fmt: skip


def wanted(request: HubRequest, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    """The properties that the query's `expand` names, else `otherwise`. Raises InvalidInput for unknown ones."""
    names = tuple(request.http.GET.getlist("expand") + request.http.GET.getlist("expand[]"))
    for name in names:
        if name not in _VALUES:
            raise InvalidInput(f"There is no property {name[:100]!r}. Known: {', '.join(_VALUES)}.", field="expand")
    return names or otherwise


def document(shown: Shown, properties: tuple[str, ...]) -> dict[str, Any]:
    """The model with those properties; what is unknown of it is left out."""
    values = {name: _VALUES[name](shown) for name in properties}
    known = {name: value for name, value in values.items() if value is not None}
    return {"_id": shown.public_id, "id": shown.full_name, "modelId": shown.full_name, **known, **shown.extra}


def moment(value: datetime) -> str:
    """A time as the Hub writes it: `2026-11-23T08:00:00.000Z`."""
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
