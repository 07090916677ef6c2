"""Every tensor of a revision: a table that is filtered while one types, and by a form without scripts."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render

from freehold.console.listing import part_of
from freehold.console.views.model import model_tab, shown_of
from freehold.console.visits import Visit, is_htmx, member_view
from freehold.registry.tensors import tensor_list
from freehold.tenancy.permissions import Operation

TENSORS = 50


@member_view(Operation.MODEL_READ)
def model_tensors(request: HttpRequest, visit: Visit, model_id: str) -> HttpResponseBase:
    """By file and offset; `?q=` is a part of the name. For htmx the table alone."""
    shown = shown_of(request, visit, model_id)
    query = request.GET.get("q", "").strip()[:200]
    tensors = [] if shown.revision is None else tensor_list(revision=shown.revision)
    found = [tensor for tensor in tensors if query.lower() in tensor.name.lower()]
    context = {
        "part": part_of(request, found, most=TENSORS),
        "bytes": sum(tensor.bytes for tensor in found),
        "tensors": len(tensors),
        "query": query,
        "more": urlencode({name: value for name, value in (("revision", shown.pin), ("q", query)) if value}),
    }
    if is_htmx(request):
        return render(request, "console/models/tensor_table.html", {**context, "shown": shown, "repo": shown.repo})
    return model_tab(request, visit, shown, "tensors", context)
