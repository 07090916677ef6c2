"""“Will it fit?”: which of the provider's flavors hold a revision at a context length and concurrency, line by line.

The overview loads it by htmx from its own address, because it costs a calculation; without scripts it is a page.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render

from freehold.common.errors import Conflict, InvalidInput, NotFound, Refused
from freehold.console.forms import show_error
from freehold.console.views.model import Shown, model_tab, shown_of
from freehold.console.visits import Visit, is_htmx, member_view
from freehold.serving.fits import revision_fits
from freehold.tenancy.permissions import Operation

_MOST = 2**31
_FIELDS = {"context_length": "context", "revision": ""}


class SizingForm(forms.Form):
    """What the endpoint must hold."""

    context = forms.IntegerField(label="Context length (tokens)", min_value=1, max_value=_MOST, required=False)
    concurrency = forms.IntegerField(label="Requests at once", min_value=1, max_value=_MOST, required=False)
    kv_cache_dtype = forms.ChoiceField(
        label="KV cache", choices=[("auto", "As the model has it"), ("fp8", "FP8, half the bytes")], required=False
    )


@member_view(Operation.MODEL_READ)
def model_sizing(request: HttpRequest, visit: Visit, model_id: str) -> HttpResponseBase:
    """For htmx the panel alone, always with status 200: htmx leaves out what others come with."""
    shown = shown_of(request, visit, model_id)
    context, status = _answer(request, shown)
    if is_htmx(request):
        return render(request, "console/models/sizing_panel.html", {**context, "shown": shown, "repo": shown.repo})
    return model_tab(request, visit, shown, "sizing", context, status=status)


def _answer(request: HttpRequest, shown: Shown) -> tuple[dict[str, Any], int]:
    """What the panel shows, and the status of a whole page with it."""
    if shown.revision is None:
        raise NotFound("This model has no revision yet.")
    asked = SizingForm(request.GET)
    if not asked.is_valid():
        return {"form": asked}, 400
    try:
        found = revision_fits(
            revision=shown.revision,
            context_length=asked.cleaned_data["context"],
            concurrency=asked.cleaned_data["concurrency"] or 1,
            kv_cache_dtype="fp8" if asked.cleaned_data["kv_cache_dtype"] == "fp8" else "auto",
        )
    except (Conflict, InvalidInput, Refused) as error:
        show_error(asked, error, fields=_FIELDS)
        return {"form": asked}, error.status
    form = SizingForm(
        initial={
            "context": found.context_length,
            "concurrency": found.concurrency,
            "kv_cache_dtype": asked.cleaned_data["kv_cache_dtype"] or "auto",
        }
    )
    return {"form": form, "found": found}, 200
