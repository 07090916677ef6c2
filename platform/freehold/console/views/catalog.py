"""The catalog: open-weight models that the operator offers, to look at and to import."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from freehold.console.listing import part_of
from freehold.console.visits import Visit, member_view, page
from freehold.serving.catalog.document import Kind
from freehold.serving.catalog.selectors import catalog_get, catalog_list
from freehold.tenancy.permissions import Operation

MODELS = 48


@member_view(Operation.MODEL_READ)
def catalog(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """By `?kind=`, `?family=` and `?q=`, in the operator's order."""
    kind, family, query = (_asked(request, name) for name in ("kind", "family", "q"))
    found = list(catalog_list(kind=kind, family=family, query=query))
    families = catalog_list().order_by("family").values_list("family", flat=True).distinct()
    context = {
        "part": part_of(request, found, most=MODELS),
        "kinds": [each.value for each in Kind],
        "families": list(families),
        "kind": kind,
        "family": family,
        "query": query,
        "keep": urlencode({"kind": kind, "family": family, "q": query}),
        "filtered": bool(kind or family or query),
    }
    return page(request, visit, "console/catalog/list.html", context)


@member_view(Operation.MODEL_READ)
def catalog_page(request: HttpRequest, visit: Visit, organization: str, name: str) -> HttpResponseBase:
    """One entry, with everything that the catalog says of it and from where it has that."""
    entry = catalog_get(upstream_id=f"{organization}/{name}")
    return page(request, visit, "console/catalog/page.html", {"entry": entry, "document": entry.document})


def _asked(request: HttpRequest, name: str) -> str:
    """A filter. PostgreSQL has no text with NUL."""
    return request.GET.get(name, "").replace("\0", "").strip()[:200]
