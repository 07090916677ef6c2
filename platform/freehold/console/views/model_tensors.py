"""Every tensor of a revision: a table that is filtered while one types, and by a form without scripts."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render

from freehold.console.listing import Part, offset_of
from freehold.console.views.model import model_tab, shown_of
from freehold.console.visits import Visit, is_htmx, member_view
from freehold.registry.tensors import TensorPage, tensor_page
from freehold.tenancy.permissions import Operation

TENSORS = 50


@member_view(Operation.MODEL_READ)
def model_tensors(request: HttpRequest, visit: Visit, model_id: str) -> HttpResponseBase:
    """By file and offset; `?q=` is a part of the name. For htmx the table alone."""
    shown = shown_of(request, visit, model_id)
    query = request.GET.get("q", "").strip()[:200]
    offset = offset_of(request)
    if shown.revision is None:
        found = TensorPage(tensors=[], total=0, total_bytes=0, known=0)
    else:
        found = tensor_page(revision=shown.revision, contains=query, offset=offset, limit=TENSORS)
    context = {
        "part": Part(items=found.tensors, offset=offset, total=found.total, most=TENSORS),
        "bytes": found.total_bytes,
        "tensors": found.known,
        "query": query,
        "more": urlencode({name: value for name, value in (("revision", shown.pin), ("q", query)) if value}),
    }
    if is_htmx(request):
        return render(request, "console/models/tensor_table.html", {**context, "shown": shown, "repo": shown.repo})
    return model_tab(request, visit, shown, "tensors", context)
