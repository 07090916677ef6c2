"""Lists of models: `HfApi.list_models` with its filters, `hf models ls`, and `hf repos ls` with what each one takes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.http import HttpResponse

from freehold.common.errors import InvalidInput
from freehold.hub import cards, entries
from freehold.hub.errors import HubError
from freehold.hub.identity import actor_of
from freehold.hub.pages import page_response, size_of
from freehold.registry import lists
from freehold.registry.names import check_text
from freehold.tenancy.permissions import Operation, require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freehold.hub.requests import HubRequest


_PAGE: Final = 200
_FULL_PAGE: Final = 50
_CHUNK: Final = 1000
_ORDERS: Final = {
    "": lists.Order.CREATED,
    "createdAt": lists.Order.CREATED,
    "created_at": lists.Order.CREATED,
    "lastModified": lists.Order.CHANGED,
    "last_modified": lists.Order.CHANGED,
    # Nobody counts these here: all models are equal.
    "downloads": lists.Order.CREATED,
    "likes": lists.Order.CREATED,
    "trendingScore": lists.Order.CREATED,
}
_UNKNOWN_FILTERS: Final = ("apps", "inference_provider", "emissions_thresholds")
_RANGE: Final = re.compile(r"(min|max):(\d{1,9}(?:\.\d{1,9})?)([KMBT]?)", re.IGNORECASE)
_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def models(request: HubRequest) -> HttpResponse:
    """The tenant's models, the newest first, or those with the newest commits (`sort=lastModified`)."""
    actor, tenant_id = actor_of(request.caller)
    require(actor, Operation.MODEL_READ, tenant_id=tenant_id)
    slug = request.caller.slug if request.caller else ""
    query = request.http.GET
    order = _order(query.get("sort", ""), query.get("direction", "-1"))
    terms = [check_text(term, field="search") for term in query.getlist("search")]
    full = request.flag("full")
    properties = entries.wanted(request, entries.FULL if full else entries.BRIEF)
    properties += tuple(name for name in ("config", "cardData") if request.flag(name) and name not in properties)
    siblings, storage = "siblings" in properties, "usedStorage" in properties
    size = size_of(request, most=_FULL_PAGE if siblings or storage else _PAGE)
    tests = _tests(request)
    if query.get("author") not in {None, slug}:
        return page_response(request, [], after=None)
    wanted = _Wanted(order=order, terms=terms, slug=slug, tests=tests)
    rows, more = _matching(tenant_id, wanted, _cursor(request), size)
    paths = lists.paths_of(tenant_id=tenant_id, revision_ids=[row.revision_id for row in rows]) if siblings else {}
    sizes = lists.bytes_of(tenant_id=tenant_id, repo_ids=[row.repo_id for row in rows]) if storage else {}
    shown = [
        entries.Shown(
            public_id=row.public_id,
            full_name=f"{slug}/{row.name}",
            author=slug,
            description=row.description,
            created_at=row.created_at,
            sha=row.commit_id,
            modified_at=row.committed_at,
            facts=row.facts,
            siblings=[{"rfilename": path} for path in paths.get(row.revision_id, [])] if siblings else None,
            used_bytes=sizes.get(row.repo_id, 0) if storage else None,
        )
        for row in rows
    ]
    after = {"cursor": rows[-1].position.hex} if more else None
    return page_response(request, [entries.document(each, properties) for each in shown], after=after)


def repositories(request: HubRequest) -> HttpResponse:
    """Every model with the bytes it takes: `HfApi.list_user_repos`. What several share counts for each of them."""
    actor, tenant_id = actor_of(request.caller)
    require(actor, Operation.MODEL_READ, tenant_id=tenant_id)
    slug = request.caller.slug if request.caller else ""
    if request.part("namespace") not in {"", slug}:
        raise HubError(404, f"There is no organization {request.part('namespace')!r} that this API key belongs to.")
    wanted = _Wanted(order=lists.Order.CHANGED, slug=slug)
    rows, more = _matching(tenant_id, wanted, _cursor(request), size_of(request, most=_FULL_PAGE))
    sizes = lists.bytes_of(tenant_id=tenant_id, repo_ids=[row.repo_id for row in rows])
    items: list[dict[str, Any]] = [
        {
            "id": f"{slug}/{row.name}",
            "type": "model",
            "updatedAt": entries.moment(row.committed_at),
            "visibility": "private",
            "storage": sizes.get(row.repo_id, 0),
        }
        for row in rows
    ]
    return page_response(request, items, after={"cursor": rows[-1].position.hex} if more else None)


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """Which models, in which order. `tests` are what a model must pass that the database is not asked for."""

    order: lists.Order
    slug: str
    terms: list[str] = field(default_factory=list)
    tests: list[Callable[[lists.Row], bool]] = field(default_factory=list)


def _matching(
    tenant_id: uuid.UUID, wanted: _Wanted, after: uuid.UUID | None, size: int
) -> tuple[list[lists.Row], bool]:
    """The first `size` models after `after` that pass all tests, and whether there are more."""
    found: list[lists.Row] = []
    for row in _rows(tenant_id, wanted, after, _CHUNK if wanted.tests else size + 1):
        if all(test(row) for test in wanted.tests):
            found.append(row)
        if len(found) > size:
            return found[:size], True
    return found, False


def _rows(tenant_id: uuid.UUID, wanted: _Wanted, after: uuid.UUID | None, most: int) -> Iterator[lists.Row]:
    while True:
        rows = lists.model_rows(
            tenant_id=tenant_id,
            most=most,
            order=wanted.order,
            after=after,
            containing=wanted.terms,
            namespace=wanted.slug,
            facts=cards.USED,
        )
        yield from rows
        if len(rows) < most:
            return
        after = rows[-1].position


def _order(sort: str, direction: str) -> lists.Order:
    if sort not in _ORDERS or direction not in {"-1", ""}:
        known = ", ".join(name for name in _ORDERS if name)
        raise InvalidInput(f"Models can be sorted by {known}, the highest first.", field="sort")
    return _ORDERS[sort]


def _cursor(request: HubRequest) -> uuid.UUID | None:
    cursor = request.http.GET.get("cursor", "")
    try:
        return uuid.UUID(hex=cursor) if cursor else None
    except ValueError:
        raise InvalidInput("This cursor is not one of ours. Begin the list again.", field="cursor") from None


def _tests(request: HubRequest) -> list[Callable[[lists.Row], bool]]:
    """The filters that look at what a model is. Raises InvalidInput for those that make no sense here."""
    query = request.http.GET
    for name in _UNKNOWN_FILTERS:
        if name in query:
            raise InvalidInput(f"Models cannot be filtered by {name} here. Leave it out.", field=name)
    tests: list[Callable[[lists.Row], bool]] = []
    for word in [each for value in query.getlist("filter") for each in value.split(",") if each]:
        tests.append(lambda row, word=word: word in cards.tags(row.facts))  # type: ignore[misc]
    if task := query.get("pipeline_tag"):
        tests.append(lambda row: cards.pipeline_tag(row.facts) == task)
    if request.flag("gated") or "inference" in query:
        tests.append(lambda row: False)  # nothing is gated, and nothing is served by the Hub's partners
    if sizes := query.get("num_parameters"):
        least, most = _parameters(sizes)
        tests.append(lambda row: least <= (row.facts.get("parameters") or -1) <= most)
    return tests


def _parameters(text: str) -> tuple[float, float]:
    limits = {"min": 0.0, "max": float("inf")}
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None:
            raise InvalidInput("num_parameters is written as `min:6B,max:128B`.", field="num_parameters")
        limits[found[1].lower()] = float(found[2]) * _UNITS[found[3].upper()]
    return limits["min"], limits["max"]
