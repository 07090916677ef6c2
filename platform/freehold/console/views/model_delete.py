"""A model's deletion: confirmed by its name, refused while somebody holds one of its revisions."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from freehold.common.errors import FreeholdError, NotFound, PermissionDenied
from freehold.console.forms import DeleteForm, show_error
from freehold.console.views.model import endpoints_of, model_tab, shown_of
from freehold.console.visits import Visit, member_view
from freehold.registry import services
from freehold.tenancy.permissions import Operation


@member_view(Operation.MODEL_DELETE, methods=("GET", "HEAD", "POST"))
def model_delete(request: HttpRequest, visit: Visit, model_id: str) -> HttpResponseBase:
    """Says what goes and who holds it; POST deletes, once the name was typed."""
    shown = shown_of(request, visit, model_id)
    form, status = DeleteForm(expected=shown.repo.name), 200
    if request.method == "POST":
        form, status = DeleteForm(request.POST, expected=shown.repo.name), 400
        if form.is_valid():
            try:
                services.model_delete(actor=visit.actor, tenant_id=visit.tenant_id, model_id=shown.repo.pk)
            except (NotFound, PermissionDenied):
                raise
            except FreeholdError as error:
                show_error(form, error, fields={"": "name"})
                status = error.status
            else:
                messages.success(
                    request, f"{shown.repo.full_name} is deleted. What no other model uses leaves the storage soon."
                )
                return redirect("console:models")
    context = {"form": form, "endpoints": endpoints_of(visit, shown.repo)}
    return model_tab(request, visit, shown, "delete", context, status=status)
