"""The history of a model: its branches and tags, and every revision, newest first."""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from freehold.console.listing import after_of
from freehold.console.views.model import model_tab, shown_of
from freehold.console.visits import Visit, member_view
from freehold.db.rls import tenant_scope
from freehold.registry import selectors
from freehold.tenancy.permissions import Operation

REVISIONS = 50


@member_view(Operation.MODEL_READ)
def model_revisions(request: HttpRequest, visit: Visit, model_id: str) -> HttpResponseBase:
    """Of all branches; `?after=` goes on."""
    shown, after = shown_of(request, visit, model_id), after_of(request)
    revisions = selectors.revision_list(model=shown.repo).defer("inspection")
    if after is not None:
        revisions = revisions.filter(pk__lt=after)
    with tenant_scope(visit.tenant_id):
        found = list(revisions.prefetch_related("refs")[: REVISIONS + 1])
    context = {
        "revisions": found[:REVISIONS],
        "next": found[REVISIONS - 1].pk.hex if len(found) > REVISIONS else "",
        "later": after is not None,
    }
    return model_tab(request, visit, shown, "revisions", context)
