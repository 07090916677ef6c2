"""Storage: what a tenant keeps and may keep, by model, uploads under way, and room to be had now."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from freehold.console.visits import Visit, member_view, page
from freehold.registry import services
from freehold.registry.accounts import in_words, storage_usage
from freehold.registry.discards import IDLE
from freehold.registry.models import Upload
from freehold.registry.occupancy import UPLOADS_SHOWN, storage_by_model, storage_unreferenced, uploads_under_way
from freehold.tenancy.permissions import Operation

MODELS = 100


@member_view(Operation.MODEL_READ)
def storage(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """Everything at once."""
    found = storage_by_model(tenant_id=visit.tenant_id, most=MODELS + 1)
    context = {
        "usage": storage_usage(tenant_id=visit.tenant_id),
        "models": found[:MODELS],
        "more_models": len(found) > MODELS,
        "unreferenced": storage_unreferenced(tenant_id=visit.tenant_id),
        "uploads": uploads_under_way(tenant_id=visit.tenant_id),
        "uploads_shown": UPLOADS_SHOWN,
    }
    return page(request, visit, "console/storage/storage.html", context)


@member_view(Operation.MODEL_WRITE, methods=("POST",))
def upload_cancel(request: HttpRequest, visit: Visit, upload_id: str) -> HttpResponseBase:
    """Ends one upload; what has come of it goes."""
    services.upload_cancel(actor=visit.actor, tenant_id=visit.tenant_id, upload_id=Upload.parse_id(upload_id))
    messages.success(request, "The upload is cancelled, and its room is free.")
    return redirect("console:storage")


@member_view(Operation.MODEL_WRITE, methods=("POST",))
def discard(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """Gives up what no model uses: what nobody has asked for in a day, or with `all` everything."""
    idle = timedelta(0) if request.POST.get("all") else IDLE
    found = services.content_discard(actor=visit.actor, tenant_id=visit.tenant_id, idle=idle)
    if found.contents or found.uploads:
        messages.success(request, f"{in_words(found.freed_bytes)} are being freed. They leave the storage soon.")
    else:
        messages.warning(request, "There is nothing that was left alone for a day, so nothing is freed.")
    return redirect("console:storage")
