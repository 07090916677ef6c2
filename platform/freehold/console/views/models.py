"""The list of models, a page at a time however many there are, with the room they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from freehold.console import snippets
from freehold.console.listing import after_of
from freehold.console.visits import Visit, member_view, page
from freehold.registry import selectors
from freehold.registry.accounts import storage_usage
from freehold.registry.lists import Order, Row, model_rows
from freehold.tenancy.permissions import Operation

MODELS = 50
_FACTS = ("architecture", "kind", "licence", "parameters", "parameters_active", "total_bytes")
_WORDS = 5  # of a search; each more costs the database another comparison a row


@dataclass(frozen=True)
class Listed:
    """A line of the list: the model and the state of its main branch."""

    row: Row
    status: str


@member_view(Operation.MODEL_READ)
def model_list(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """Models by their last change; `?q=` looks for words in their names, `?after=` goes on."""
    after = after_of(request)
    query = request.GET.get("q", "").replace("\0", "").strip()[:200]  # PostgreSQL has no text with NUL
    found = model_rows(
        tenant_id=visit.tenant_id,
        most=MODELS + 1,
        order=Order.CHANGED,
        after=after,
        containing=query.split()[:_WORDS],
        facts=_FACTS,
    )
    shown = found[:MODELS]
    context = {
        "models": _listed(visit, shown),
        "next": shown[-1].position.hex if len(found) > MODELS else "",
        "later": after is not None,
        "query": query,
        "keep": urlencode({"q": query}) if query else "",
        "usage": storage_usage(tenant_id=visit.tenant_id),
        "steps": [snippets.upload(public_url=settings.PUBLIC_URL, repo=f"{visit.tenant.slug}/my-model")],
    }
    return page(request, visit, "console/models/list.html", context)


def _listed(visit: Visit, rows: Sequence[Row]) -> list[Listed]:
    statuses = selectors.revision_statuses(tenant_id=visit.tenant_id, revision_ids=[row.revision_id for row in rows])
    return [Listed(row, statuses.get(row.revision_id, "")) for row in rows]
