"""The list of endpoints: its table body is asked for again every two seconds."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django_htmx.http import HttpResponseClientRefresh

from freehold.console import snippets
from freehold.console.live import Live, live
from freehold.console.visits import Visit, is_htmx, member_view, page
from freehold.db.rls import tenant_scope
from freehold.serving import selectors as serving
from freehold.serving.models import Endpoint
from freehold.tenancy.permissions import Operation

EVERY_SECONDS = 2
EMPTY = "none"  # what a page without a table sends as the tag of what it has seen


@member_view(Operation.ENDPOINT_READ)
def endpoint_list(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """All endpoints, or how to get the first."""
    endpoints = _endpoints(visit)
    repo = f"{visit.tenant.slug}/my-model"
    steps = [
        snippets.upload(public_url=settings.PUBLIC_URL, repo=repo),
        snippets.deploy(public_url=settings.PUBLIC_URL, repo=repo, name="my-model"),
    ]
    context = {
        "rows": _rows(request, visit, endpoints),
        "has_endpoints": bool(endpoints),
        "empty": EMPTY,
        "steps": steps,
    }
    return page(request, visit, "console/endpoints/list.html", context)


@member_view(Operation.ENDPOINT_READ)
def endpoint_rows(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """The table body. From none to some and back, the whole page changes."""
    endpoints = _endpoints(visit)
    shows_table = request.GET.get("seen") != EMPTY
    if is_htmx(request) and shows_table != bool(endpoints):
        return HttpResponseClientRefresh()
    if not shows_table and not endpoints:
        return HttpResponse(status=204)
    return _rows(request, visit, endpoints).answer(request)


def _endpoints(visit: Visit) -> list[Endpoint]:
    with tenant_scope(visit.tenant_id):
        return list(serving.endpoint_list(tenant_id=visit.tenant_id))


def _rows(request: HttpRequest, visit: Visit, endpoints: list[Endpoint]) -> Live:
    return live(
        request,
        "console/endpoints/rows.html",
        {"endpoints": endpoints, "visit": visit},
        element="tbody",
        name="endpoint-rows",
        url=reverse("console:endpoint-rows"),
        seconds=EVERY_SECONDS,
    )
